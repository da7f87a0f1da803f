"""A vector as it was at a version, gathered from its events, the newest first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from events_schema.base import RecordedEvent
from events_schema.embedding import EmbeddingSpec, StoredEmbedding
from events_schema.registry import decode_event
from events_schema.specs import EmbeddingSpecs
from events_schema.vectors import VectorCreated, VectorDeleted, VectorReembedded, VectorUpdated
from shared.event_log import read_stream_backwards
from shared.postgres import Connection

CHUNK_EVENTS = 64
"""How many events are read at a time; nearly every vector has fewer."""


@dataclass(frozen=True, slots=True)
class PastEmbedding:
    """As the event at `position` brought it."""

    stored: StoredEmbedding
    position: int


@dataclass(frozen=True, slots=True)
class PastState:
    """`position` is that of the version's event; `updated_at` the time at which the vector had last been written, which
    embeddings of what was there did not. `embeddings`: under each spec the newest since the creation."""

    id: str
    content: str | None
    metadata: dict[str, Any]
    embeddings: Mapping[EmbeddingSpec, PastEmbedding]
    version: int
    created_at: datetime
    updated_at: datetime
    position: int
    expires_at: datetime | None

    def under(self, specs: EmbeddingSpecs) -> dict[EmbeddingSpec, StoredEmbedding]:
        """The embeddings that count, under `specs` as the collection had them then: not those from before it had left
        a spec that it came back to."""
        found = ((live, self.embeddings.get(live.spec)) for live in specs.live)
        return {live.spec: one.stored for live, one in found if one is not None and one.position > live.since}


class BackwardFold:
    """Takes the events of one vector from a version that is no deletion backwards to its creation."""

    def __init__(self) -> None:
        self._newest: RecordedEvent | None = None
        self._written: RecordedEvent | None = None
        self._fields: dict[str, Any] = {}
        self._embeddings: dict[EmbeddingSpec, PastEmbedding] = {}

    def add(self, recorded: RecordedEvent) -> PastState | None:
        """The vector, when this is its creation; until then None."""
        self._newest = self._newest or recorded
        event = decode_event(recorded.event_type, recorded.schema_version, recorded.event_data)
        assert isinstance(event, VectorCreated | VectorUpdated | VectorReembedded)
        for stored in event.embeddings:
            self._embeddings.setdefault(stored.spec, PastEmbedding(stored, recorded.position))
        if isinstance(event, VectorReembedded):
            return None
        self._written = self._written or recorded
        created = isinstance(event, VectorCreated)
        for name in ("content", "metadata", "expires_at"):
            if created or name in event.model_fields_set:
                self._fields.setdefault(name, getattr(event, name))
        if not created:
            return None
        return PastState(
            id=event.id,
            content=self._fields["content"],
            metadata=self._fields["metadata"],
            embeddings=self._embeddings,
            version=self._newest.version,
            created_at=recorded.timestamp,
            updated_at=self._written.timestamp,
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
