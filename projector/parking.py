"""Events that cannot be applied: found, tried again for a while, then set aside with all that follows them.

`parked_events` holds positions; the events themselves stay in the log. An event follows a parked one if it is of the
same aggregate, or of a collection one of whose own events is parked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import structlog

from events_schema.base import RecordedEvent
from projector.errors import POISON, AwaitsGenerationError
from projector.event_log import EventLog
from projector.projection import project
from projector.runs import Run
from shared.postgres import Connection

FOLLOWS = "follows a parked event"
_MAX_REASON_CHARACTERS = 1_000

_READ_STREAMS = """
SELECT aggregate_id, collection_id, aggregate_type FROM parked_events
WHERE aggregate_id = ANY($1::uuid[]) OR (collection_id = ANY($2::uuid[]) AND aggregate_type = 'collection')
"""

_READ_PARKED = "SELECT position FROM parked_events WHERE position = ANY($1::bigint[])"

# What belonged to a collection that is deleted by now would have been dropped; nobody needs to look at it.
_PARK = """
INSERT INTO parked_events
    (position, partition, event_id, collection_id, aggregate_id, aggregate_type, event_type, reason, attempts)
SELECT p.position, p.partition, p.event_id, p.collection_id, p.aggregate_id, p.aggregate_type, p.event_type, p.reason,
       p.attempts
FROM unnest($1::bigint[], $2::int[], $3::uuid[], $4::uuid[], $5::uuid[], $6::text[], $7::text[], $8::text[], $9::int[])
    AS p(position, partition, event_id, collection_id, aggregate_id, aggregate_type, event_type, reason, attempts)
WHERE NOT EXISTS (
    SELECT FROM collections c WHERE c.collection_id = p.collection_id AND c.deleted_at IS NOT NULL
)
"""

_log = structlog.get_logger("parking")


def reason_of(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:_MAX_REASON_CHARACTERS]


@dataclass(frozen=True, slots=True)
class ParkedEvent:
    event: RecordedEvent
    reason: str


@dataclass(slots=True)
class ParkedStreams:
    """Whose events are held back."""

    aggregates: set[UUID] = field(default_factory=set)
    collections: set[UUID] = field(default_factory=set)

    def hold_back(self, event: RecordedEvent) -> None:
        self.aggregates.add(event.aggregate_id)
        if event.aggregate_type == "collection":
            self.collections.add(event.collection_id)

    def sift(self, events: Iterable[RecordedEvent]) -> tuple[list[RecordedEvent], list[ParkedEvent]]:
        """The events that may be applied, and those that follow a parked one."""
        free: list[RecordedEvent] = []
        followers: list[ParkedEvent] = []
        for event in events:
            # A decision to pass over an event is what others may wait for; it waits for none of them.
            waits = event.collection_id in self.collections and event.aggregate_type != "skip"
            if waits or event.aggregate_id in self.aggregates:
                self.hold_back(event)
                followers.append(ParkedEvent(event, FOLLOWS))
            else:
                free.append(event)
        return free, followers


async def read_parked_streams(connection: Connection, events: Sequence[RecordedEvent]) -> ParkedStreams:
    streams = ParkedStreams()
    aggregates = list({event.aggregate_id for event in events})
    collections = list({event.collection_id for event in events})
    for row in await connection.fetch(_READ_STREAMS, aggregates, collections):
        streams.aggregates.add(row["aggregate_id"])
        if row["aggregate_type"] == "collection":
            streams.collections.add(row["collection_id"])
    return streams


async def without_parked(connection: Connection, log: EventLog, events: Sequence[RecordedEvent]) -> list[RecordedEvent]:
    """The events that the projection has applied or is to apply. All of those set aside behind its checkpoints are
    left out, and those that it passes over, so whoever folds the log up to there has what is searched, and no more."""
    rows = await connection.fetch(_READ_PARKED, [event.position for event in events])
    parked = {row["position"] for row in rows}
    # In this order: one that is parked no longer because it is passed over is known to be when the log is asked.
    passed_over = await log.skips()
    return [event for event in passed_over.left_out(events) if event.position not in parked]


@dataclass(slots=True)
class Outcome:
    """What became of a run of events. `waiting`: those that are not at fault, but whose turn has not come. `skipped`:
    positions of those that the projection passes over."""

    changes: dict[UUID, int] = field(default_factory=dict)
    poison: list[ParkedEvent] = field(default_factory=list)
    waiting: list[ParkedEvent] = field(default_factory=list)
    followers: list[ParkedEvent] = field(default_factory=list)
    skipped: set[int] = field(default_factory=set)


async def project_whole(
    connection: Connection, events: Sequence[RecordedEvent], streams: ParkedStreams, log: EventLog
) -> Outcome:
    """
    Raises:
        AwaitsGenerationError
        One of `POISON`: an event is at fault; the transaction is to be rolled back.
    """
    free, followers = streams.sift(events)
    return Outcome(dict(await project(connection, free, log)), followers=followers)


async def project_isolating(
    connection: Connection, events: Sequence[RecordedEvent], streams: ParkedStreams, log: EventLog
) -> Outcome:
    """Halves the events, in savepoints, until those at fault or not yet due stand alone; all others are applied but
    those that follow them."""
    outcome = Outcome()

    async def halve(part: Sequence[RecordedEvent]) -> None:
        free, followers = streams.sift(part)
        outcome.followers += followers
        if not free:
            return
        try:
            async with connection.transaction():
                outcome.changes |= await project(connection, free, log)
        except (*POISON, AwaitsGenerationError) as error:
            if len(free) == 1:
                streams.hold_back(free[0])
                held = outcome.waiting if isinstance(error, AwaitsGenerationError) else outcome.poison
                held.append(ParkedEvent(free[0], reason_of(error)))
            else:
                middle = len(free) // 2
                await halve(free[:middle])
                await halve(free[middle:])

    await halve(events)
    return outcome


class Attempts:
    """How often each event was tried in vain, in this process."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._tries: dict[int, int] = {}

    def failed(self, poison: Iterable[ParkedEvent]) -> list[int]:
        """Counts one more try of each; the positions that have tries left. None left: all are to be parked."""
        positions = [parked.event.position for parked in poison]
        for position in positions:
            self._tries[position] = self._tries.get(position, 0) + 1
        return [position for position in positions if self._tries[position] < self._limit]

    def of(self, position: int) -> int:
        return self._tries.get(position, 0)

    def forget(self, events: Iterable[RecordedEvent]) -> None:
        if self._tries:
            for event in events:
                self._tries.pop(event.position, None)


async def park(
    connection: Connection, runs: Sequence[Run], parked: Collection[ParkedEvent], attempts: Attempts
) -> None:
    """In the transaction that moves the checkpoints past them."""
    if not parked:
        return
    partition_of = {event.position: run.partition for run in runs for event in run.events}
    events = [one.event for one in parked]
    await connection.execute(
        _PARK,
        [event.position for event in events],
        [partition_of[event.position] for event in events],
        [event.event_id for event in events],
        [event.collection_id for event in events],
        [event.aggregate_id for event in events],
        [event.aggregate_type for event in events],
        [event.event_type for event in events],
        [one.reason for one in parked],
        [attempts.of(event.position) for event in events],
    )
    for one in parked:
        _log.error("parked an event", position=one.event.position, event_type=one.event.event_type, reason=one.reason)
