"""Which part of the event log `events tail` shows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

from events_schema.base import RecordedEvent
from shared.event_log import read_events, read_head
from shared.postgres import Connection

# The log is read backwards from its head, so that the last matches are found without reading what precedes them.
_BEFORE_LAST_MATCHES = """
SELECT min(position) - 1 FROM (
    SELECT position FROM events
    WHERE ($1::uuid IS NULL OR collection_id = $1) AND ($2::text IS NULL OR event_type = $2)
    ORDER BY position DESC LIMIT $3
) AS last
"""


@dataclass(frozen=True, slots=True)
class EventFilter:
    """None matches everything."""

    collection_id: UUID | None = None
    event_type: str | None = None

    def matches(self, event: RecordedEvent) -> bool:
        return (self.collection_id is None or event.collection_id == self.collection_id) and (
            self.event_type is None or event.event_type == self.event_type
        )


async def before_last(connection: Connection, wanted: EventFilter, count: int) -> int:
    """The position after which the last `count` matching events lie; the head if there are none."""
    before: int | None = await connection.fetchval(_BEFORE_LAST_MATCHES, wanted.collection_id, wanted.event_type, count)
    return (await read_head(connection)).position if before is None else before


async def matching_events(
    connection: Connection, wanted: EventFilter, after: int
) -> AsyncIterator[tuple[int, list[RecordedEvent]]]:
    """From `after` to the present head, block by block: how far the log has been read, and what matches."""
    while events := await read_events(connection, after, limit=500):
        after = events[-1].position
        yield after, [event for event in events if wanted.matches(event)]
