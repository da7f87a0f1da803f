"""`aindusdb events parked`: events that could not be applied, and what is done about them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from aindusdb.commands.databases import DIFFERENT_EXIT_CODE, awaited
from aindusdb.commands.event_lines import as_json as event_as_json
from aindusdb.commands.event_lines import as_line
from aindusdb.commands.output import CommandRefusedError, JsonOption, print_json, printable, refusals, say
from aindusdb.commands.projector_settings import DataFolderOption, TenantOption, projector_settings
from events_schema.base import RecordedEvent
from projector.event_log import EventLog
from projector.replay_session import opened_beside
from projector.replay_targets import read_targets
from projector.settings import ProjectorSettings
from projector.unparking import Parked, Retried, count_held_back, first_of, list_parked, read_parked, retry
from shared.postgres import Connection

PositionArgument = Annotated[int, typer.Argument(min=1, help="The event's position.")]


def register(events: typer.Typer) -> None:
    group = typer.Typer(help="Events that could not be applied, and all that follow them.", no_args_is_help=True)
    events.add_typer(group, name="parked")

    @group.command("list")
    def list_(
        collection: Annotated[str | None, typer.Option(help="Only of this collection: its name or id.")] = None,
        followers: Annotated[
            bool, typer.Option("--followers", help="Also those that only follow a parked event.")
        ] = False,
        after: Annotated[int, typer.Option(min=0, help="Begin behind this position.")] = 0,
        limit: Annotated[int, typer.Option(min=1, max=1_000, help="Show at most so many.")] = 100,
        tenant: TenantOption = "default",
        data_dir: DataFolderOption = Path(".aindusdb"),
        as_json: JsonOption = False,
    ) -> None:
        """List the events that are at fault, with the reason of each."""
        with refusals():
            settings = projector_settings(data_dir)
            found = awaited(_list(settings, tenant, collection, followers=followers, after=after, limit=limit))
        if as_json:
            print_json({"parked": [one.as_json() for one in found]})
            return
        for one in found:
            typer.echo(_line(one))
        if not found:
            typer.echo("Nothing is parked")

    @group.command()
    def show(
        position: PositionArgument, data_dir: DataFolderOption = Path(".aindusdb"), as_json: JsonOption = False
    ) -> None:
        """Show a parked event, why it is parked, and how many others follow it."""
        with refusals():
            parked, event, held_back, first = awaited(_show(projector_settings(data_dir), position))
        if as_json:
            shown = {"event": event_as_json(event), "held_back": held_back, "first_position": first}
            print_json(parked.as_json() | shown)
            return
        typer.echo(as_line(event))
        typer.echo(f"parked at {parked.parked_at.isoformat(timespec='seconds')} after {parked.attempts} attempts")
        typer.echo(f"reason: {printable(parked.reason)}")
        if first < position:
            typer.echo(f"It follows the event at position {first}.")
        else:
            typer.echo(f"{held_back - 1:,} events follow it.")

    @group.command("retry")
    def retry_(
        position: PositionArgument, data_dir: DataFolderOption = Path(".aindusdb"), as_json: JsonOption = False
    ) -> None:
        """Apply a parked event and all that follow it. Exit code 3: one of them cannot be applied still."""
        with refusals():
            retried = awaited(_retry(projector_settings(data_dir), position))
        if as_json:
            fault = {"position": retried.position, "reason": retried.reason}
            print_json({"applied": retried.applied, "left": retried.left, **fault})
        else:
            typer.echo(f"{retried.applied:,} events applied, {retried.left:,} are parked still")
        if retried.left:
            say(f"Position {retried.position}: {retried.reason}")
            raise typer.Exit(DIFFERENT_EXIT_CODE)


async def _list(
    settings: ProjectorSettings, tenant: str, name: str | None, *, followers: bool, after: int, limit: int
) -> Sequence[Parked]:
    async with opened_beside(settings) as (connection, _log):
        collection_id = None if name is None else (await read_targets(connection, tenant, [name]))[0].collection_id
        return await list_parked(connection, after=after, collection_id=collection_id, followers=followers, limit=limit)


async def _show(settings: ProjectorSettings, position: int) -> tuple[Parked, RecordedEvent, int, int]:
    async with opened_beside(settings) as (connection, log):
        parked = await _parked(connection, log, position)
        [event] = await log.at([position])
        held_back = await count_held_back(connection, parked, position)
        return parked, event, held_back, await first_of(connection, parked)


async def _retry(settings: ProjectorSettings, position: int) -> Retried:
    async with opened_beside(settings) as (connection, log):
        parked = await _parked(connection, log, position)
        if (first := await first_of(connection, parked)) < position:
            raise CommandRefusedError(f"It follows the event at position {first}; that is the one to be retried.")
        return await retry(connection, log, parked)


async def _parked(connection: Connection, log: EventLog, position: int) -> Parked:
    """
    Raises:
        CommandRefusedError
    """
    parked = await read_parked(connection, position)
    if parked is not None:
        return parked
    head = await log.head()
    where = "is beyond the head of the log" if position > head.position else "is not parked"
    raise CommandRefusedError(
        f"The event at position {position} {where}; `aindusdb events parked list` shows which are."
    )


def _line(parked: Parked) -> str:
    parts: list[Any] = [
        f"{parked.position:>9}", parked.parked_at.isoformat(timespec="seconds"), f"{parked.event_type:<17}",
        parked.collection or parked.collection_id, f"{parked.attempts} attempts", printable(parked.reason),
    ]  # fmt: skip
    return "  ".join(map(str, parts))
