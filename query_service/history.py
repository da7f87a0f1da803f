"""What became of a vector: every event of it, and the vector as it was at any version."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from events_schema.base import RecordedEvent
from events_schema.embedding import StoredEmbedding, decode
from events_schema.registry import decode_event
from events_schema.streams import vector_stream
from events_schema.upcasters import UnreadableEventError
from events_schema.vectors import VectorCreated, VectorDeleted, VectorUpdated
from query_service.errors import VectorNotFoundError, VersionNotFoundError
from query_service.event_reader import EventReader
from query_service.freshness import Demand
from query_service.search import Include
from query_service.snapshot import Reading

_CHUNK = 64


@dataclass(frozen=True, slots=True)
class PastVector:
    """A vector as it was at `version`. `updated_at` is the time of that version, `position` its event's."""

    id: str
    content: str | None
    metadata: dict[str, Any]
    embedding: Sequence[float]
    version: int
    created_at: datetime
    updated_at: datetime
    position: int


async def past_vector(
    events: EventReader, tenant: str, collection_id: UUID, vector_id: str, version: int, demand: Demand
) -> Reading[PastVector]:
    """
    Raises:
        VectorNotFoundError: no vector ever had the id there.
        VersionNotFoundError: it had no such version, or that is its deletion.
        NotFreshEnoughError, ForeignTokenError, EventLogUnavailableError
    """
    stream = vector_stream(collection_id, vector_id)
    fold = _Backwards()
    at = version
    while True:
        reading = await events.backwards(stream, tenant, from_version=at, limit=_CHUNK, demand=demand)
        if at == version:
            await _check_version(events, reading.found, tenant, collection_id, vector_id, version, demand)
        for event in reading.found:
            if fold.add(event):
                return Reading(reading.snapshot, fold.vector(vector_id))
        at = reading.found[-1].version - 1


async def _check_version(
    events: EventReader,
    found: Sequence[RecordedEvent],
    tenant: str,
    collection_id: UUID,
    vector_id: str,
    version: int,
    demand: Demand,
) -> None:
    if found and found[0].version == version:
        if found[0].event_type == VectorDeleted.event_type:
            raise VersionNotFoundError(vector_id, version, deleted=True)
        return
    stream = vector_stream(collection_id, vector_id)
    first = await events.history(stream, tenant, after_version=0, limit=1, demand=demand)
    if not first.found:
        raise VectorNotFoundError(vector_id)
    raise VersionNotFoundError(vector_id, version, deleted=False)


class _Backwards:
    """Gathers a vector's fields from its events, the newest first, until its creation."""

    def __init__(self) -> None:
        self._newest: RecordedEvent | None = None
        self._created_at: datetime | None = None
        self._fields: dict[str, Any] = {}

    def add(self, recorded: RecordedEvent) -> bool:
        """Whether that was the creation."""
        self._newest = self._newest or recorded
        event = decode_event(recorded.event_type, recorded.schema_version, recorded.event_data)
        created = isinstance(event, VectorCreated)
        if isinstance(event, VectorCreated | VectorUpdated):
            for name in ("embeddings", "content", "metadata"):
                if created or name in event.model_fields_set:
                    self._fields.setdefault(name, getattr(event, name))
        if created:
            self._created_at = recorded.timestamp
        return created

    def vector(self, vector_id: str) -> PastVector:
        assert self._newest is not None
        assert self._created_at is not None
        return PastVector(
            id=vector_id,
            content=self._fields["content"],
            metadata=self._fields["metadata"],
            embedding=decode(self._fields["embeddings"][0].data).tolist(),
            version=self._newest.version,
            created_at=self._created_at,
            updated_at=self._newest.timestamp,
            position=self._newest.position,
        )


def described(event: RecordedEvent, include: Include) -> dict[str, Any]:
    """An event as the API shows it: where it stands, what it changed, who caused it through which request, and by
    which models its embeddings were made. `data` holds the new values of those parts that `include` names."""
    return {
        "position": event.position,
        "version": event.version,
        "event_id": str(event.event_id),
        "event_type": event.event_type,
        "timestamp": event.timestamp,
        "collection_id": str(event.collection_id),
        "actor": event.metadata.get("actor"),
        "request_id": event.metadata.get("request_id"),
        "correlation_id": event.metadata.get("correlation_id"),
        "causation_id": event.metadata.get("causation_id"),
        **_contents(event, include),
    }


def _contents(event: RecordedEvent, include: Include) -> dict[str, Any]:
    try:
        decoded = decode_event(event.event_type, event.schema_version, event.event_data)
    except UnreadableEventError as error:
        return {"id": event.event_data.get("id"), "changed": [], "embeddings": [], "data": {}, "unreadable": str(error)}
    if not isinstance(decoded, VectorCreated | VectorUpdated | VectorDeleted):
        return {"id": None, "changed": sorted(decoded.model_fields_set), "embeddings": [], "data": decoded.event_data()}
    changed = sorted(decoded.model_fields_set - {"id"})
    stored: tuple[StoredEmbedding, ...] = getattr(decoded, "embeddings", ())
    data = {
        name: getattr(decoded, name)
        for name, wanted in (("content", include.content), ("metadata", include.metadata))
        if wanted and name in changed
    }
    if include.embedding and stored:
        data["embedding"] = decode(stored[0].data).tolist()
    return {
        "id": decoded.id,
        "changed": ["embedding" if name == "embeddings" else name for name in changed],
        "embeddings": [one.spec.model_dump() for one in stored],
        "data": data,
    }
