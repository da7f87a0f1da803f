"""`aindusdb log`: which event log this is, where it ends, and that it was restored."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar

import asyncpg
import typer

from aindusdb.commands.events import events_dsn
from aindusdb.commands.output import CommandRefusedError, JsonOption, print_json, refusals
from aindusdb.commands.relay import DataFolderOption
from aindusdb.commands.schema import EventsOption
from command_service.log_identity import LogInUseError, Renewal, renew_identity
from shared.event_log import LogCorruptionError, read_head, read_log_id
from shared.postgres import CONNECTION_LOST, Connection, connect_uncached

AnswerT = TypeVar("AnswerT")


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="The event log itself.", no_args_is_help=True)
    app.add_typer(group, name="log")

    @group.command()
    def show(data_dir: DataFolderOption = Path(".aindusdb"), as_json: JsonOption = False) -> None:
        """Show which log it is, and where it ends."""

        async def ask(connection: Connection) -> dict[str, str | int | None]:
            log_id, head = await read_log_id(connection), await read_head(connection)
            time = None if head.timestamp is None else head.timestamp.isoformat()
            return {"log_id": str(log_id), "position": head.position, "timestamp": time}

        with refusals():
            found = _asked(events_dsn(data_dir.absolute()), ask)
        if as_json:
            print_json(found)
        else:
            ends = f"ends at {found['position']:,}, {found['timestamp']}" if found["position"] else "is empty"
            typer.echo(f"Log {found['log_id']} {ends}")

    @group.command()
    def restored(
        owner_dsn: EventsOption = None,
        force: Annotated[bool, typer.Option("--force", help="Although processes seem to be connected.")] = False,
        as_json: JsonOption = False,
    ) -> None:
        """Say that the event database was restored, or has lost events: it becomes another log.

        All processes must be stopped. Tokens of the former log are refused from then on; the read model and the topic
        are built anew.
        """

        async def renew(connection: Connection) -> Renewal:
            return await renew_identity(connection, in_use=force)

        with refusals():
            if not owner_dsn:
                raise CommandRefusedError("Name the event database with --events-dsn, or AINDUSDB_EVENTS_OWNER_DSN.")
            renewal = _asked(owner_dsn, renew)
        if as_json:
            print_json({"former_log_id": str(renewal.former), "log_id": str(renewal.log_id)})
            return
        typer.echo(f"What was log {renewal.former} is log {renewal.log_id} now")
        typer.echo(
            "Next: `aindusdb replay anew`, with Kafka `aindusdb relay reset --new-topic`, then start the processes"
        )


def _asked(dsn: str, ask: Callable[[Connection], Awaitable[AnswerT]]) -> AnswerT:
    """
    Raises:
        CommandRefusedError
    """

    async def asked() -> AnswerT:
        connection = await connect_uncached(dsn)
        try:
            return await ask(connection)
        finally:
            await connection.close(timeout=5)

    try:
        return asyncio.run(asked())
    except LogInUseError as error:
        raise CommandRefusedError(f"{error}; --force does it all the same.") from error
    except LogCorruptionError as error:
        raise CommandRefusedError(str(error)) from error
    except (*CONNECTION_LOST, asyncpg.PostgresError, ValueError) as error:
        raise CommandRefusedError(f"The event database cannot be used: {str(error) or type(error).__name__}") from error
