"""`aindusdb events parked`: events that could not be applied, and what is done about them."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import asyncpg
import typer
from uuid_utils.compat import uuid7

from aindusdb.commands.databases import DIFFERENT_EXIT_CODE, awaited
from aindusdb.commands.event_lines import as_json as event_as_json
from aindusdb.commands.event_lines import as_line
from aindusdb.commands.output import CommandRefusedError, JsonOption, print_json, printable, refusals, say
from aindusdb.commands.projector_settings import DataFolderOption, TenantOption, projector_settings
from command_service.domain.refusals import NotSkippableError
from command_service.domain.skips import SkipEvent
from command_service.skipping import record_skip
from events_schema.base import EventMetadata, RecordedEvent
from projector.event_log import EventLog
from projector.replay_session import opened_beside
from projector.replay_targets import read_targets
from projector.settings import ProjectorSettings
from projector.skipping import NotAtFaultError, skip
from projector.unparking import Parked, Retried, count_held_back, first_of, list_parked, read_parked, retry
from shared.postgres import Connection, connect_uncached

_MAX_CHARACTERS = 1_000

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
        _end_if_any_is_left(retried)

    @group.command("skip")
    def skip_(
        position: PositionArgument,
        reason: Annotated[str, typer.Option(help="Why; it stays in the log.")],
        by: Annotated[
            str | None, typer.Option(help="Who decides it; by default whoever runs the command.", show_default=False)
        ] = None,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what waits for it, and do nothing.")] = False,
        data_dir: DataFolderOption = Path(".aindusdb"),
        as_json: JsonOption = False,
    ) -> None:
        """Have every projection pass over a parked event, now and in every replay. It cannot be taken back.

        The events that waited for it are applied. The event stays in the log and in the history. The decision is
        appended to the log, so the event database is to be named as the command service's role. Exit code 3: one of
        those that waited cannot be applied.
        """
        with refusals():
            decision = _Decision(position, _text(reason, "--reason"), _text(by or getpass.getuser(), "--by"))
            asked = _skip(projector_settings(data_dir, appends=True), decision, dry_run=dry_run)
            decided_at, retried = awaited(asked)
        if dry_run:
            _say_what_waits(position, retried.left, as_json=as_json)
            return
        if as_json:
            fault = {"position": retried.position, "reason": retried.reason}
            print_json({"decided_at": decided_at, "applied": retried.applied, "left": retried.left, **fault})
        else:
            typer.echo(f"Passed over by the decision at position {decided_at}; {retried.applied:,} events applied")
        _end_if_any_is_left(retried)


@dataclass(frozen=True, slots=True)
class _Decision:
    position: int
    reason: str
    by: str


def _end_if_any_is_left(retried: Retried) -> None:
    if not retried.left:
        return
    why = "they wait for another event"
    if retried.position is not None:
        why = f"position {retried.position}: {retried.reason}"
    say(f"{retried.left:,} are parked still; {why}")
    raise typer.Exit(DIFFERENT_EXIT_CODE)


def _text(text: str, option: str) -> str:
    """
    Raises:
        CommandRefusedError: it is nothing that could stand in the log.
    """
    stripped = text.strip()
    if not 1 <= len(stripped) <= _MAX_CHARACTERS or printable(stripped) != stripped:
        raise CommandRefusedError(f"{option} is 1 to {_MAX_CHARACTERS} printable characters.")
    return stripped


def _say_what_waits(position: int, waiting: int, *, as_json: bool) -> None:
    if as_json:
        print_json({"dry_run": True, "position": position, "waiting": waiting})
    else:
        typer.echo(f"The event at position {position} would be passed over; {waiting:,} wait for it")


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


async def _skip(settings: ProjectorSettings, decision: _Decision, *, dry_run: bool) -> tuple[int, Retried]:
    """The position of the decision, 0 if it is not to be taken, and what became of the events that waited."""
    async with opened_beside(settings) as (connection, log):
        taken = await _decided_before(log, decision.position)
        parked = await read_parked(connection, decision.position)
        if taken is not None and parked is None:
            return taken, Retried(0, 0)
        parked = await _parked(connection, log, decision.position)
        if dry_run:
            return 0, Retried(0, await count_held_back(connection, parked, decision.position) - 1)
        [event] = await log.at([decision.position])
        metadata = EventMetadata(actor=decision.by, request_id=str(uuid7()))

        async def record() -> int:
            appending = await connect_uncached(settings.events_dsn.get_secret_value())
            try:
                return await record_skip(appending, SkipEvent(event, decision.reason), metadata)
            finally:
                await appending.close(timeout=5)

        try:
            return await skip(connection, log, parked, record)
        except (NotAtFaultError, NotSkippableError) as error:
            said = str(error)
            raise CommandRefusedError(said[0].upper() + said[1:]) from error
        except asyncpg.InsufficientPrivilegeError as error:
            raise CommandRefusedError(
                "The decision is appended to the log: name the event database in AINDUSDB_EVENTS_DSN as the command "
                "service's role."
            ) from error


async def _decided_before(log: EventLog, position: int) -> int | None:
    skips = await log.skips()
    return next((skip.decided_at for skip in skips.all() if skip.position == position), None)


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
