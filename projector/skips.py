"""Events that projections pass over, because somebody decided so: which they are, and what a decision sets off.

The decisions are in the log, so every fold of it passes over the same events, wherever it begins. They concern events
that were parked, and take effect between two batches: `unparking` applies what was held back. A decision that was not
seen through by whoever took it is noted here when its own turn comes, and seen through by the upkeep.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from events_schema.base import RecordedEvent
from events_schema.registry import decode_event
from events_schema.skips import ProjectionSkipDecided
from events_schema.upcasters import UnreadableEventError
from projector.errors import UnprojectableEventError
from shared.postgres import Connection

# Whoever sees the decision through has all checkpoints locked, and this transaction one of them.
_NOTE = "UPDATE parked_events SET skip_position = $2 WHERE event_id = $1"

_NOTED = "SELECT position FROM parked_events WHERE skip_position IS NOT NULL ORDER BY position LIMIT $1"


@dataclass(frozen=True, slots=True)
class Skip:
    """The event at `position` is passed over; the decision stands at `decided_at` in the log."""

    position: int
    event_id: UUID
    collection_id: UUID
    aggregate_id: UUID
    event_type: str
    decided_at: int


def skip_of(recorded: RecordedEvent) -> Skip:
    """
    Raises:
        UnreadableEventError: a newer version of the software took the decision, and nobody else may guess it.
        UnprojectableEventError: it is no such decision.
    """
    event = decode_event(recorded.event_type, recorded.schema_version, recorded.event_data)
    if not isinstance(event, ProjectionSkipDecided):
        raise UnprojectableEventError(f"{recorded.event_type} is no decision to pass over an event")
    return Skip(
        event.skipped_position,
        event.skipped_event_id,
        recorded.collection_id,
        event.skipped_aggregate_id,
        event.skipped_event_type,
        recorded.position,
    )


class Skips:
    """Those that the log held when it was last asked."""

    def __init__(self) -> None:
        self.position = 0
        """Of the last decision."""
        self._by_event: dict[UUID, Skip] = {}

    def learn(self, recorded: Iterable[RecordedEvent]) -> None:
        """A decision that cannot be read has no effect, and is itself parked when its turn comes."""
        for one in recorded:
            self.position = one.position
            with suppress(UnreadableEventError, UnprojectableEventError):
                skip = skip_of(one)
                self._by_event[skip.event_id] = skip

    def has(self, event_id: UUID) -> bool:
        return event_id in self._by_event

    def all(self) -> list[Skip]:
        """In the order of their decisions."""
        return list(self._by_event.values())

    def of_collection(self, collection_id: UUID) -> list[Skip]:
        return [skip for skip in self._by_event.values() if skip.collection_id == collection_id]

    def left_out(self, events: Iterable[RecordedEvent]) -> list[RecordedEvent]:
        """The others."""
        return [event for event in events if event.event_id not in self._by_event]


async def note_skip(connection: Connection, recorded: RecordedEvent) -> None:
    """A decision whose turn has come; the event is parked, or it was passed over already.

    Raises:
        UnreadableEventError, UnprojectableEventError
    """
    await connection.execute(_NOTE, skip_of(recorded).event_id, recorded.position)


async def noted_positions(connection: Connection, limit: int) -> list[int]:
    """Of parked events that are to be passed over."""
    return [row["position"] for row in await connection.fetch(_NOTED, limit)]
