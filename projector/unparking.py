"""Parked events looked at, and applied after all: by a newer version of the software, because what stood in the way is
gone, or because the event that they waited for is passed over."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

import structlog

from events_schema.base import RecordedEvent
from projector.checkpoints import Checkpoint, between_batches
from projector.event_log import EventLog
from projector.generations import read_generations, renew_revision
from projector.late import bring_along
from projector.parking import FOLLOWS, ParkedEvent, ParkedStreams, project_isolating
from projector.projection import record_changes
from projector.runs import Run
from shared.kafka.partitions import partitions_of
from shared.postgres import Connection

_AT_ONCE = 500
"""Events that one transaction applies, while the projection stands still."""

_COLUMNS = """p.position, p.event_id, p.collection_id, p.aggregate_id, p.aggregate_type, p.event_type, p.reason,
    p.attempts, p.parked_at, c.name AS collection"""

_LIST = f"""
SELECT {_COLUMNS} FROM parked_events p LEFT JOIN collections c USING (collection_id)
WHERE p.position > $1 AND ($2::uuid IS NULL OR p.collection_id = $2) AND ($3 OR p.reason <> '{FOLLOWS}')
ORDER BY p.position LIMIT $4
"""  # noqa: S608

_COUNT = """
SELECT count(*) FROM parked_events WHERE position >= $3 AND (aggregate_id = $1 OR collection_id = ANY($2::uuid[]))
"""

_COUNT_ALL = "SELECT count(*) FROM parked_events"

_FIRST = """
SELECT min(position) FROM parked_events
WHERE aggregate_id = $1 OR collection_id = $2 AND aggregate_type = 'collection'
"""

# What comes after another parked event of its collection goes on waiting for that one.
_NEXT = """
SELECT p.position FROM parked_events p
WHERE p.position > $3 AND (p.aggregate_id = $1 OR p.collection_id = ANY($2::uuid[]))
  AND NOT EXISTS (
      SELECT FROM parked_events c
      WHERE c.collection_id = p.collection_id AND c.aggregate_type = 'collection' AND c.aggregate_id <> $1
        AND c.position < p.position
  )
ORDER BY p.position LIMIT $4 FOR UPDATE
"""

# Those that bore the name one after the other share a stream; the events of their vectors follow their own.
_HELD_BACK = """
SELECT DISTINCT collection_id FROM parked_events WHERE aggregate_id = $1 AND aggregate_type = 'collection'
"""

_PARKED_BEFORE = "SELECT DISTINCT aggregate_id FROM parked_events WHERE collection_id = $1 AND position < $2"

_FORGET = "DELETE FROM parked_events WHERE position = ANY($1::bigint[])"

_STILL_AT_FAULT = """
UPDATE parked_events SET reason = $2, attempts = attempts + 1 WHERE position = $1
"""

_log = structlog.get_logger("parking")


@dataclass(frozen=True, slots=True)
class Parked:
    """An event that is set aside. `collection` is the collection's name, None if the read model does not have it."""

    position: int
    event_id: UUID
    collection_id: UUID
    aggregate_id: UUID
    aggregate_type: str
    event_type: str
    reason: str
    attempts: int
    parked_at: datetime
    collection: str | None

    @property
    def follows(self) -> bool:
        """It is parked only because an earlier event of its aggregate, or of its collection, is."""
        return self.reason == FOLLOWS

    @property
    def is_of_collection(self) -> bool:
        """Then all events of the collection's vectors follow it."""
        return self.aggregate_type == "collection"

    def as_json(self) -> dict[str, Any]:
        texts = {"event_id", "collection_id", "aggregate_id"}
        shown = {name: str(value) if name in texts else value for name, value in asdict(self).items()}
        return {**shown, "parked_at": self.parked_at.isoformat(), "follows": self.follows}


@dataclass(frozen=True, slots=True)
class Retried:
    """So many events were applied; `left` are parked still, the first of those that are at fault at `position`, for
    `reason`."""

    applied: int
    left: int
    position: int | None = None
    reason: str | None = None


async def count_parked(connection: Connection) -> int:
    """Those at fault and all that follow them."""
    count: int = await connection.fetchval(_COUNT_ALL)
    return count


async def list_parked(
    connection: Connection, *, after: int, collection_id: UUID | None, followers: bool, limit: int
) -> list[Parked]:
    """In order of position; without `followers` only those that are at fault themselves."""
    rows = await connection.fetch(_LIST, after, collection_id, followers, limit)
    return [Parked(**row) for row in rows]


async def read_parked(connection: Connection, position: int) -> Parked | None:
    found = await list_parked(connection, after=position - 1, collection_id=None, followers=True, limit=1)
    return found[0] if found and found[0].position == position else None


async def count_held_back(connection: Connection, parked: Parked, position: int) -> int:
    """How many events from this position on are parked because the event is, itself included."""
    return await _count(connection, parked, await _collections(connection, parked), position)


async def _count(connection: Connection, parked: Parked, collections: Collection[UUID], position: int) -> int:
    count: int = await connection.fetchval(_COUNT, parked.aggregate_id, list(collections), position)
    return count


async def _collections(connection: Connection, parked: Parked) -> set[UUID]:
    """Those that are held back as a whole."""
    return {row["collection_id"] for row in await connection.fetch(_HELD_BACK, parked.aggregate_id)}


async def first_of(connection: Connection, parked: Parked) -> int:
    """The position of the event that holds it back; its own if it is at fault itself."""
    first: int = await connection.fetchval(_FIRST, parked.aggregate_id, parked.collection_id)
    return first


async def forget(connection: Connection, parked: Parked) -> None:
    """It is to be passed over, and nothing waits for it."""

    async def delete(_checkpoints: Sequence[Checkpoint]) -> None:
        await connection.execute(_FORGET, [parked.position])

    await between_batches(connection, delete)


@dataclass(frozen=True, slots=True)
class _Done:
    """What a transaction made of its share: `last` is the position that it came to, None if nothing was left.
    `collections` are held back as a whole, or were when it began; `held_back` is what is at fault itself."""

    last: int | None
    applied: int
    fault: ParkedEvent | None
    collections: set[UUID]
    held_back: ParkedStreams


async def retry(connection: Connection, log: EventLog, parked: Parked) -> Retried:
    """Applies a parked event that is at fault and all that follow it, in order. One that cannot be applied stays parked
    with its own followers; one that is to be passed over is parked no longer. Between two of its transactions new
    followers may come; they are applied too."""
    applied, after, first_fault = 0, parked.position - 1, None
    collections: set[UUID] = set()
    held_back = ParkedStreams()
    if parked.is_of_collection:
        rows = await connection.fetch(_PARKED_BEFORE, parked.collection_id, parked.position)
        held_back.aggregates = {row["aggregate_id"] for row in rows}
    while True:
        done = await between_batches(
            connection, partial(_apply_next, connection, log, parked, after, collections, held_back)
        )
        applied, collections = applied + done.applied, done.collections
        first_fault = first_fault or done.fault
        if done.last is None or (first_fault is not None and first_fault.event.position == parked.position):
            break
        after, held_back = done.last, done.held_back
    _log.info("tried parked events again", position=parked.position, applied=applied)
    left = await _count(connection, parked, collections, parked.position)
    if first_fault is None:
        return Retried(applied, left)
    return Retried(applied, left, first_fault.event.position, first_fault.reason)


async def _apply_next(
    connection: Connection,
    log: EventLog,
    parked: Parked,
    after: int,
    known: Collection[UUID],
    held_back: ParkedStreams,
    checkpoints: Sequence[Checkpoint],
) -> _Done:
    collections = {*known, *await _collections(connection, parked)}
    rows = await connection.fetch(_NEXT, parked.aggregate_id, list(collections), after, _AT_ONCE)
    if not rows:
        return _Done(None, 0, None, collections, held_back)
    streams = ParkedStreams(set(held_back.aggregates), set(held_back.collections))
    events = await log.at([row["position"] for row in rows])
    wanted = (await log.skips()).left_out(events)
    outcome = await project_isolating(connection, wanted, streams, log)
    at_fault = [*outcome.poison, *outcome.waiting]
    parked_still = {one.event.position for one in (*at_fault, *outcome.followers)}
    applied = [event for event in wanted if event.position not in parked_still]
    # First: whoever looks at what is brought along leaves out of the log what is parked.
    await connection.execute(_FORGET, [event.position for event in events if event.position not in parked_still])
    await bring_along(connection, log, applied)
    for one in at_fault:
        await connection.execute(_STILL_AT_FAULT, one.event.position, one.reason)
    if len(parked_still) < len(events):
        await _tell(connection, parked.collection_id, applied, checkpoints)
    faults = sorted(at_fault, key=lambda one: one.event.position)
    return _Done(rows[-1]["position"], len(applied), faults[0] if faults else None, collections, streams)


async def _tell(
    connection: Connection, collection_id: UUID, applied: Sequence[RecordedEvent], checkpoints: Sequence[Checkpoint]
) -> None:
    """What readers know of the collection is void: it has changed at positions that they have seen already."""
    partitions = partitions_of([event.aggregate_id for event in applied], len(checkpoints))
    for event, partition in zip(applied, partitions, strict=True):
        run = Run(partition, event.position - 1, [event], event.position, event.event_id)
        await record_changes(connection, [run], {event.collection_id: event.position})
    for changed in {collection_id, *(event.collection_id for event in applied)}:
        for generation in await read_generations(connection, changed):
            if generation.state == "active":
                await renew_revision(connection, generation, checkpoints)
