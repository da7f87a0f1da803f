"""Parked events looked at, and applied after all: by a newer version of the software, or because what stood in the way
is gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog

from events_schema.base import RecordedEvent
from projector.checkpoints import Checkpoint, between_batches
from projector.errors import POISON
from projector.event_log import EventLog
from projector.generations import read_generations, renew_revision
from projector.parking import FOLLOWS, reason_of
from projector.projection import project, record_changes
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
SELECT count(*) FROM parked_events WHERE position >= $4 AND (aggregate_id = $1 OR $3 AND collection_id = $2)
"""

_FIRST = """
SELECT min(position) FROM parked_events
WHERE aggregate_id = $1 OR collection_id = $2 AND aggregate_type = 'collection'
"""

# Of the whole collection if one of its own events is parked: its vectors' events follow that.
_NEXT = """
SELECT position FROM parked_events WHERE position > $4 AND (aggregate_id = $1 OR $3 AND collection_id = $2)
ORDER BY position LIMIT $5 FOR UPDATE
"""

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
    """So many events were applied; `left` are parked still, the first of them for `reason`."""

    applied: int
    left: int
    position: int | None = None
    reason: str | None = None


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
    count: int = await connection.fetchval(
        _COUNT, parked.aggregate_id, parked.collection_id, parked.is_of_collection, position
    )
    return count


async def first_of(connection: Connection, parked: Parked) -> int:
    """The position of the event that holds it back; its own if it is at fault itself."""
    first: int = await connection.fetchval(_FIRST, parked.aggregate_id, parked.collection_id)
    return first


async def retry(connection: Connection, log: EventLog, parked: Parked) -> Retried:
    """Applies a parked event that is at fault and all that follow it, in order, until one cannot be applied. Between
    two of its transactions new followers may come; they are applied too."""
    applied, after = 0, parked.position - 1
    while True:

        async def apply(checkpoints: Sequence[Checkpoint], after: int = after) -> tuple[list[int], Retried | None]:
            return await _apply_next(connection, log, parked, after, checkpoints)

        positions, stopped = await between_batches(connection, apply)
        applied += len(positions)
        if stopped is not None:
            return Retried(applied, stopped.left, stopped.position, stopped.reason)
        if not positions:
            _log.info("applied parked events", position=parked.position, events=applied)
            return Retried(applied, 0)
        after = positions[-1]


async def _apply_next(
    connection: Connection, log: EventLog, parked: Parked, after: int, checkpoints: Sequence[Checkpoint]
) -> tuple[list[int], Retried | None]:
    """Which were applied, and what stands in the way of the others."""
    rows = await connection.fetch(
        _NEXT, parked.aggregate_id, parked.collection_id, parked.is_of_collection, after, _AT_ONCE
    )
    events = await log.at([row["position"] for row in rows])
    applied, fault = await _apply_in_order(connection, log, events)
    if applied:
        await connection.execute(_FORGET, [event.position for event in applied])
        await _tell(connection, applied, checkpoints)
    if fault is None:
        return [event.position for event in applied], None
    stuck = events[len(applied)]
    await connection.execute(_STILL_AT_FAULT, stuck.position, reason_of(fault))
    left = await count_held_back(connection, parked, stuck.position)
    return [event.position for event in applied], Retried(len(applied), left, stuck.position, reason_of(fault))


async def _apply_in_order(
    connection: Connection, log: EventLog, events: Sequence[RecordedEvent]
) -> tuple[list[RecordedEvent], Exception | None]:
    """As many as go, halving where one does not."""
    if not events:
        return [], None
    try:
        async with connection.transaction():
            await project(connection, events, log)
    except POISON as error:
        if len(events) == 1:
            return [], error
        middle = len(events) // 2
        first, fault = await _apply_in_order(connection, log, events[:middle])
        if fault is not None:
            return first, fault
        second, fault = await _apply_in_order(connection, log, events[middle:])
        return [*first, *second], fault
    return list(events), None


async def _tell(connection: Connection, events: Sequence[RecordedEvent], checkpoints: Sequence[Checkpoint]) -> None:
    """What readers know of the collection is void: it has changed at positions that they have seen already."""
    partitions = partitions_of([event.aggregate_id for event in events], len(checkpoints))
    for event, partition in zip(events, partitions, strict=True):
        run = Run(partition, event.position - 1, [event], event.position, event.event_id)
        await record_changes(connection, [run], {event.collection_id: event.position})
    for collection_id in {event.collection_id for event in events}:
        for generation in await read_generations(connection, collection_id):
            if generation.state == "active":
                await renew_revision(connection, generation, checkpoints)
