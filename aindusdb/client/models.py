"""Answers of the API. Members that this client does not know are kept, so that they can be shown."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from aindusdb.client.embeddings import AnsweredEmbedding, Float32Array, decode_embedding

Metric = Literal["cosine", "l2", "ip"]
VectorType = Literal["vector", "halfvec"]
Part = str
"""What a read may answer of a vector: content, metadata, embedding, or a field of the metadata (`metadata.lang`)."""
EventPart = Literal["content", "metadata", "embedding"]
"""What of an event."""


class Answer(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class Freshness(Answer):
    """The answer holds every event up to `position`; `token` lets a later read not go back behind it."""

    position: int
    token: str | None = None
    age_ms: float | None = None
    parked: int = 0


class CollectionIndex(Answer):
    kind: Literal["hnsw", "ivfflat", "none"]
    m: int | None = None
    ef_construction: int | None = None
    lists: int | None = None


class ActiveGeneration(Answer):
    """What searches read; without its index they are exact."""

    generation: int
    indexed: bool


class DescribedCollection(Answer):
    name: str
    collection_id: str
    dimension: int
    metric: Metric
    type: VectorType
    index: CollectionIndex
    model: str | None = None
    provider: str = "client"
    """What embeds its texts; `client`: the embeddings are brought."""
    description: str | None = None
    version: int


class Collection(DescribedCollection):
    """As reads show it."""

    active: ActiveGeneration


class ReadCollection(Collection):
    freshness: Freshness | None = None


class CreatedCollection(DescribedCollection):
    """As writes answer it."""

    position: int
    consistency_token: str


class CollectionPage(Answer):
    items: list[Collection]
    next_cursor: str | None = None
    freshness: Freshness | None = None


class VectorWritten(Answer):
    id: str
    version: int
    position: int
    truncated: bool = False
    """The content is longer than the model sees."""
    consistency_token: str


class OperationResult(Answer):
    index: int
    op: str
    id: str
    result: Literal["created", "updated", "deleted", "unchanged"]
    version: int
    position: int
    truncated: bool = False
    """The content is longer than the model sees."""


class BatchAnswer(Answer):
    results: list[OperationResult]
    first_position: int
    last_position: int
    consistency_token: str


class StoredVector(Answer):
    """`content`, `metadata` and `embedding` are None where they were not included; the embedding is float32, shape
    (dimension,)."""

    id: str
    content: str | None = None
    metadata: dict[str, Any] | None = None
    embedding: AnsweredEmbedding | None = None
    version: int
    created_at: datetime
    updated_at: datetime
    position: int


class ReadVector(StoredVector):
    freshness: Freshness


class VectorPage(Answer):
    items: list[StoredVector]
    next_cursor: str | None = None
    freshness: Freshness


class Hit(Answer):
    """`score`: higher is nearer; `distance` as pgvector gives it."""

    id: str
    score: float
    distance: float
    content: str | None = None
    metadata: dict[str, Any] | None = None
    embedding: AnsweredEmbedding | None = None
    version: int


class SearchAnswer(Answer):
    hits: list[Hit]
    complete: bool
    freshness: Freshness
    cached: bool = False
    took_ms: float
    truncated: bool | None = None
    """Of a search by text: the query is longer than the model sees."""
    explain: dict[str, Any] | None = None


class CountAnswer(Answer):
    count: int
    exact: bool
    freshness: Freshness


class Event(Answer):
    """One event. `changed` names what it set; `data` has the new values of those parts that were included."""

    position: int
    version: int
    event_id: str
    event_type: str
    timestamp: datetime
    collection_id: str
    actor: str | None = None
    request_id: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    id: str | None = None
    """The vector's; None for an event of a collection."""
    changed: list[str]
    embeddings: list[dict[str, Any]]
    data: dict[str, Any]
    unreadable: str | None = None

    @property
    def embedding(self) -> Float32Array | None:
        """The embedding that it set, if that was included; `data` has it as base64."""
        return decode_embedding(self.data["embedding"]) if "embedding" in self.data else None


class FeedEvent(Event):
    message_id: str
    """Where the feed goes on behind this event: `after` of the next one."""


class EventPage(Answer):
    items: list[Event]
    next_cursor: str | None = None
    freshness: Freshness


class Skipped(Answer):
    """What a restore left as it is, and why."""

    collection_id: str
    id: str
    reason: str


class Restored(Answer):
    """One page of a restore; while there is a `next_cursor`, there is more to be done."""

    restored: int
    unchanged: int
    skipped: list[Skipped]
    next_cursor: str | None = None
    consistency_token: str | None = None


class RestoredCollection(Restored):
    name: str
    collection_id: str


class LineError(Answer):
    line: int
    pointer: str
    type: str
    detail: str


class ImportAnswer(Answer):
    """What became of the lines; `errors` has the first hundred bad ones."""

    lines: int
    created: int
    updated: int
    unchanged: int
    failed: int
    errors: list[LineError]
    stopped_at: int | None = None
    consistency_token: str | None = None


class Health(Answer):
    status: str
    checks: dict[str, str] | None = None
