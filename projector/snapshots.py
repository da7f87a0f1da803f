"""Snapshots of the past: how long each is kept, how many a collection has, and which of them are over.

A snapshot is a generation that ends at a position. It is built once, by a replay, and read as often as anybody asks for
that position; no projection writes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from events_schema.streams import NAME_PATTERN, is_name
from projector.errors import GenerationGoneError
from projector.event_log import EventLog
from projector.generations import (
    Generation,
    SnapshotTerms,
    delete_generation,
    lock_generation,
    prolong,
    read_generations,
)
from projector.replay_targets import Target
from projector.settings import ProjectorSettings
from shared.postgres import Connection

_NOW = "SELECT clock_timestamp()"

# By the clock of the database that keeps them, whoever asks.
_EXPIRED = """
SELECT collection_id, generation FROM generations WHERE expires_at <= clock_timestamp() ORDER BY expires_at LIMIT 100
"""

_IS_EXPIRED = "SELECT $1::timestamptz <= clock_timestamp()"


class SnapshotRefusedError(Exception):
    """The snapshot would break a rule or a limit; the message says which."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A snapshot of `position`. `name`: None takes `position-<n>`. `keep_seconds`: how long from now on it is there;
    None takes the setting's."""

    position: int
    name: str | None = None
    keep_seconds: float | None = None


async def found_or_allowed(
    connection: Connection, log: EventLog, settings: ProjectorSettings, target: Target, wanted: Wanted
) -> Generation | SnapshotTerms:
    """The collection's snapshot of that position, which is kept for longer if that is asked for; or what a new one is
    to be.

    Raises:
        SnapshotRefusedError, GenerationGoneError
        LogCorruptionError: the log has no such position.
    """
    if wanted.name is not None and not is_name(wanted.name):
        raise SnapshotRefusedError(f"{wanted.name!r} is no name for a snapshot: a name matches {NAME_PATTERN}.")
    seconds = settings.snapshot_keep_seconds if wanted.keep_seconds is None else wanted.keep_seconds
    if not 0 < seconds <= settings.snapshot_max_keep_seconds:
        raise SnapshotRefusedError(
            f"A snapshot is kept for at most {_days(settings.snapshot_max_keep_seconds)} days, not for "
            f"{_days(seconds)} (AINDUSDB_SNAPSHOT_MAX_KEEP_SECONDS)."
        )
    await drop_expired(connection)
    now: datetime = await connection.fetchval(_NOW)
    expires_at = now + timedelta(seconds=seconds)
    there: list[SnapshotTerms] = []
    for one in await read_generations(connection, target.collection_id):
        if one.snapshot is None:
            continue
        if one.state == "stale" and one.snapshot.position == wanted.position:
            # It was given up, for want of room above all, and its tables are gone.
            await delete_generation(connection, one)
            continue
        there.append(one.snapshot)
        if one.snapshot.position == wanted.position:
            if wanted.name not in (None, one.snapshot.name):
                raise SnapshotRefusedError(
                    f"There is a snapshot of position {wanted.position:,} already, of the name {one.snapshot.name!r}."
                )
            return one if wanted.keep_seconds is None else await prolong(connection, one, expires_at)
    name = wanted.name or f"position-{wanted.position}"
    _expect_room(settings, target, there, name)
    await _expect_size(log, settings, target, wanted.position)
    return SnapshotTerms(name, wanted.position, await log.timestamp_at(wanted.position), expires_at)


def _expect_room(settings: ProjectorSettings, target: Target, there: list[SnapshotTerms], name: str) -> None:
    for one in there:
        if one.name == name:
            raise SnapshotRefusedError(f"The snapshot {name!r} is of position {one.position:,}; choose another name.")
    if len(there) >= settings.snapshots_per_collection:
        names = ", ".join(one.name for one in there)
        raise SnapshotRefusedError(
            f"{target.name!r} has {len(there)} snapshots, which is as many as it may have "
            f"(AINDUSDB_SNAPSHOTS_PER_COLLECTION): {names}. `aindusdb replay discard` drops one."
        )


async def _expect_size(log: EventLog, settings: ProjectorSettings, target: Target, position: int) -> None:
    extent = await log.extent(target.collection_id, position, settings.index_timeout_seconds)
    if extent.bytes > settings.snapshot_max_bytes:
        raise SnapshotRefusedError(
            f"Up to position {position:,} the log has {extent.bytes:,} bytes of {target.name!r}; a snapshot is made of "
            f"at most {settings.snapshot_max_bytes:,} (AINDUSDB_SNAPSHOT_MAX_BYTES)."
        )


async def drop_expired(connection: Connection) -> int:
    """Drops the snapshots whose time is over, whoever works on them; how many. A read under way keeps its tables."""
    dropped = 0
    for row in await connection.fetch(_EXPIRED):
        try:
            async with connection.transaction():
                found = await lock_generation(connection, row["collection_id"], row["generation"])
                # It may have been prolonged, or folded on to the present, since it was found.
                if found.snapshot and await connection.fetchval(_IS_EXPIRED, found.snapshot.expires_at):
                    await delete_generation(connection, found)
                    dropped += 1
        except GenerationGoneError:
            continue
    return dropped


def _days(seconds: float) -> str:
    return f"{seconds / 86_400:g}"
