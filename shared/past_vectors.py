"""A vector as it was at a version, gathered from its events, the newest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from events_schema.base import RecordedEvent
from events_schema.embedding import StoredEmbedding
from events_schema.registry import decode_event
from events_schema.vectors import VectorCreated, VectorDeleted, VectorUpdated
from shared.event_log import read_stream_backwards
from shared.postgres import Connection

CHUNK_EVENTS = 64
"""How many events are read at a time; nearly every vector has fewer."""


@dataclass(frozen=True, slots=True)
class PastState:
    """`updated_at` is the time of that version, `position` its event's."""

    id: str
    content: str | None
    metadata: dict[str, Any]
    embeddings: Sequence[StoredEmbedding]
    version: int
    created_at: datetime
    updated_at: datetime
    position: int
    expires_at: datetime | None


class BackwardFold:
    """Takes the events of one vector from a version that is no deletion backwards to its creation."""

    def __init__(self) -> None:
        self._newest: RecordedEvent | None = None
        self._fields: dict[str, Any] = {}

    def add(self, recorded: RecordedEvent) -> PastState | None:
        """The vector, when this is its creation; until then None."""
        self._newest = self._newest or recorded
        event = decode_event(recorded.event_type, recorded.schema_version, recorded.event_data)
        assert isinstance(event, VectorCreated | VectorUpdated)
        created = isinstance(event, VectorCreated)
        for name in ("embeddings", "content", "metadata", "expires_at"):
            if created or name in event.model_fields_set:
                self._fields.setdefault(name, getattr(event, name))
        if not created:
            return None
        return PastState(
            id=event.id,
            content=self._fields["content"],
            metadata=self._fields["metadata"],
            embeddings=self._fields["embeddings"],
            version=self._newest.version,
            created_at=recorded.timestamp,
            updated_at=self._newest.timestamp,
            position=self._newest.position,
            expires_at=self._fields["expires_at"],
        )


async def read_past_state(connection: Connection, stream: UUID, tenant: str, version: int) -> PastState | None:
    """The vector at a version; None where it had none, or was deleted with it."""
    fold = BackwardFold()
    at = version
    while at > 0:
        events = await read_stream_backwards(connection, stream, tenant, from_version=at, limit=CHUNK_EVENTS)
        if at == version and (
            not events or events[0].version != version or events[0].event_type == VectorDeleted.event_type
        ):
            return None
        for event in events:
            state = fold.add(event)
            if state is not None:
                return state
        at = events[-1].version - 1
    return None
