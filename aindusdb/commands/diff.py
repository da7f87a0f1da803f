"""`aindusdb diff`: what became of a collection's vectors between two positions of the event log."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import asyncpg
import typer

from aindusdb.commands.events import events_dsn
from aindusdb.commands.output import CommandRefusedError, JsonOption, print_json, printable, refusals
from aindusdb.commands.projector_settings import DataFolderOption, TenantOption
from aindusdb.commands.times import parsed_time
from events_schema.aliases import AliasRemoved
from events_schema.base import RecordedEvent
from events_schema.collections import CollectionDeleted
from events_schema.streams import collection_stream
from shared.event_log import (
    LogCorruptionError,
    read_clock,
    read_collection_stream,
    read_head,
    read_position_at,
    read_whole_stream,
)
from shared.net_changes import NetChange, read_net_changes
from shared.postgres import CONNECTION_LOST, Connection, connect_uncached

_LONGEST_SECONDS = 3_600
"""The server groups and sorts all events in between before it answers."""

_SIGNS = {"created": "+", "updated": "~", "deleted": "-"}


@dataclass(frozen=True, slots=True)
class _Asked:
    collection: str
    tenant: str
    from_position: int | None
    from_time: str | None
    to_position: int | None
    to_time: str | None
    limit: int | None


@dataclass(frozen=True, slots=True)
class _Between:
    """The events of the collection in (after, to]."""

    collection_id: UUID
    after: int
    to: int


def register(app: typer.Typer) -> None:
    @app.command()
    def diff(
        collection: Annotated[str, typer.Option("--collection", help="Name, alias or id of the collection.")],
        from_position: Annotated[
            int | None, typer.Option("--from", min=0, help="The position before: 0 is before everything.")
        ] = None,
        from_time: Annotated[
            str | None, typer.Option(help="The same as a time, ISO 8601; without offset it is UTC.")
        ] = None,
        to_position: Annotated[
            int | None, typer.Option("--to", min=0, help="The position after; by default the end of the log.")
        ] = None,
        to_time: Annotated[str | None, typer.Option(help="The same as a time.")] = None,
        limit: Annotated[int | None, typer.Option(min=1, help="Show at most so many vectors.")] = None,
        tenant: TenantOption = "default",
        data_dir: DataFolderOption = Path(".aindusdb"),
        as_json: JsonOption = False,
    ) -> None:
        """Show which vectors were created, updated and deleted between two positions, in the end and not step by step:
        in order of their last events, with the parts that differ. The last line sums up. Only the event log is read."""
        asked = _Asked(collection, tenant, from_position, from_time, to_position, to_time, limit)
        with refusals(), suppress(KeyboardInterrupt):
            asyncio.run(_run(events_dsn(data_dir.absolute()), asked, as_json))


async def _run(dsn: str, asked: _Asked, as_json: bool) -> None:
    try:
        connection = await connect_uncached(dsn, command_timeout_seconds=_LONGEST_SECONDS)
        try:
            # A cursor lives in a transaction.
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                await _show(connection, asked, as_json)
        finally:
            await connection.close(timeout=5)
    except LogCorruptionError as error:
        raise CommandRefusedError(str(error)) from error
    except BrokenPipeError:
        raise  # Whoever reads the output has seen enough.
    except (*CONNECTION_LOST, asyncpg.PostgresError, ValueError) as error:
        raise CommandRefusedError(f"The event database cannot be read: {str(error) or type(error).__name__}") from error


async def _show(connection: Connection, asked: _Asked, as_json: bool) -> None:
    between = await _between(connection, asked)
    counts: Counter[str] = Counter()
    more = False
    async with aclosing(read_net_changes(connection, between.collection_id, between.after, between.to)) as changes:
        async for change in changes:
            if asked.limit is not None and counts.total() >= asked.limit:
                more = True
                break
            counts[change.kind] += 1
            if as_json:
                print_json(_document(change))
            else:
                typer.echo(_line(change))
    total = {kind: counts[kind] for kind in _SIGNS}
    if as_json:
        where = {"collection_id": str(between.collection_id), "from": between.after, "to": between.to}
        print_json({**where, **total, "more": more})
        return
    said = ", ".join(f"{count:,} {kind}" for kind, count in total.items())
    typer.echo(f"{said} between the positions {between.after:,} and {between.to:,}" + (", and more" if more else ""))


def _line(change: NetChange) -> str:
    """Sign, id, versions, position and time of the last event, what differs."""
    versions = "→".join("" if one is None else f"v{one}" for one in (change.before, change.after))
    parts = [
        f"{_SIGNS[change.kind]} {change.id}",
        versions.strip("→") if change.kind != "updated" else versions,
        f"{change.position:>9}",
        change.time.isoformat(timespec="milliseconds"),
        ",".join(change.parts),
    ]
    return "  ".join(printable(part) for part in parts).rstrip()


def _document(change: NetChange) -> dict[str, Any]:
    return {
        "change": change.kind,
        "id": change.id,
        "parts": list(change.parts),
        "from_version": change.before,
        "to_version": change.after,
        "position": change.position,
        "timestamp": change.time.isoformat(),
    }


async def _between(connection: Connection, asked: _Asked) -> _Between:
    """
    Raises:
        CommandRefusedError
    """
    stream = await _collection(connection, asked)
    head = (await read_head(connection)).position
    deleted = next((event.position for event in stream if event.event_type == CollectionDeleted.event_type), None)
    after = await _position(connection, "--from", asked.from_position, asked.from_time)
    to = await _position(connection, "--to", asked.to_position, asked.to_time)
    if after is None:
        raise CommandRefusedError("Name where to begin with --from or --from-time.")
    if to is None:
        to = head if deleted is None else deleted - 1
    for option, position in (("--from", after), ("--to", to)):
        if position > head:
            raise CommandRefusedError(f"{option}: the log ends at position {head:,}, before {position:,}.")
    if after > to:
        raise CommandRefusedError(f"--from is position {after:,}, which is behind --to, position {to:,}.")
    if deleted is not None and to >= deleted:
        raise CommandRefusedError(
            f"The collection was deleted at position {deleted:,}, with all of its vectors; name a position before that "
            "with --to."
        )
    return _Between(stream[0].collection_id, after, to)


async def _collection(connection: Connection, asked: _Asked) -> Sequence[RecordedEvent]:
    """Its events: of the id, or of the last collection that bore the name.

    Raises:
        CommandRefusedError
    """
    collection_id = _as_id(asked.collection)
    if collection_id is None:
        of_name = await read_whole_stream(connection, collection_stream(asked.tenant, asked.collection))
        if of_name and of_name[-1].event_type != AliasRemoved.event_type:
            collection_id = of_name[-1].collection_id
    stream = [] if collection_id is None else await read_collection_stream(connection, collection_id)
    if not stream or stream[0].tenant != asked.tenant:
        raise CommandRefusedError(f"The log has no collection {printable(asked.collection)!r}.")
    return stream


def _as_id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


async def _position(connection: Connection, option: str, position: int | None, time: str | None) -> int | None:
    if position is not None and time is not None:
        raise CommandRefusedError(f"{option} and {option}-time name the same thing; choose one of them.")
    if time is None:
        return position
    at = parsed_time(f"{option}-time", time)
    if at > await read_clock(connection):
        raise CommandRefusedError(f"{option}-time: {at.isoformat()} is still to come.")
    return await read_position_at(connection, at)
