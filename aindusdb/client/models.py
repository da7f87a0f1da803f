"""Answers of the API. Members that this client does not know are kept, so that they can be shown."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from aindusdb.client.embeddings import AnsweredEmbedding, Float32Array, decode_embedding

Metric = Literal["cosine", "l2", "ip"]
VectorType = Literal["vector", "halfvec"]
MetadataIndexType = Literal["string", "number", "boolean", "date"]
Part = str
"""What a read may answer of a vector: content, metadata, embedding, or a field of the metadata (`metadata.lang`)."""
EventPart = Literal["content", "metadata", "embedding"]
"""What of an event."""
OrderBy = Literal["id", "created_at"]
Direction = Literal["asc", "desc"]
Strategy = Literal["average_vector", "best_score"]
"""How examples become a search."""


class Answer(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class Freshness(Answer):
    """The answer holds every event up to `position`; `token` lets a later read not go back behind it."""

    position: int
    token: str | None = None
    age_ms: float | None = None
    parked: int = 0


class AsOf(Answer):
    """Of the past: the collection once all events up to `position` had happened; `time` is that of the event there."""

    position: int
    time: datetime | None = None
    snapshot: str | None = None
    """Which one answered; a single vector needs none."""


class Page(Answer):
    """Of a list; while there is a `next_cursor`, there is another one."""

    next_cursor: str | None = None


class CollectionIndex(Answer):
    kind: Literal["hnsw", "ivfflat", "none"]
    m: int | None = None
    ef_construction: int | None = None
    lists: int | None = None


class MetadataIndex(Answer):
    """An index over a field of the metadata. `state`: building, ready or failed, for a `reason`; None in the answer to
    a write, which only says what was asked for."""

    field: str
    type: MetadataIndexType
    state: Literal["building", "ready", "failed"] | None = None
    reason: str | None = None
    since: datetime | None = None


class ActiveGeneration(Answer):
    """What searches read; without its index they are exact. `lists`: of its IVFFlat index."""

    generation: int
    metric: Metric
    type: VectorType
    index: CollectionIndex
    month_partitions: bool
    lists: int | None = None
    indexed: bool


class EmbeddingSpec(Answer):
    """What made embeddings: only those of one spec can be compared."""

    provider: str
    model: str | None = None
    dimension: int


class PendingChange(Answer):
    """A change of the tables that is not there yet: until then searches read what is `active`.

    The new tables hold every event up to `position` and have to get to `target`; `generation` is theirs. `since`: when
    it failed, got on last, or was asked for. `from_spec`, `to_spec`: if another model's embeddings are to be searched;
    while not every vector has them, the change is waiting.
    """

    state: Literal["waiting", "running", "failed"]
    generation: int | None = None
    position: int | None = None
    target: int
    reason: str | None = None
    since: datetime
    from_spec: EmbeddingSpec | None = None
    to_spec: EmbeddingSpec | None = None


class DescribedCollection(Answer):
    name: str
    collection_id: str
    dimension: int
    metric: Metric
    type: VectorType
    index: CollectionIndex
    month_partitions: bool
    metadata_indexes: list[MetadataIndex] = []
    retention_seconds: int | None = None
    """A vector that was not changed for so long expires."""
    model: str | None = None
    provider: str = "client"
    """What embeds its texts; `client`: the embeddings are brought."""
    description: str | None = None
    version: int


class Collection(DescribedCollection):
    """As reads show it. `change` is None when the tables are what the collection is to be."""

    active: ActiveGeneration
    change: PendingChange | None = None
    position: int
    created_at: datetime
    updated_at: datetime


class ReadCollection(Collection):
    freshness: Freshness | None = None


class CreatedCollection(DescribedCollection):
    """As writes answer it."""

    position: int
    consistency_token: str


class WithoutContent(Answer):
    """`ids`: the first ten."""

    count: int
    ids: list[str]


class Reembedding(Answer):
    """How far a collection's move to another model is. `embedding`: contents are embedded by it. `blocked`: vectors are
    left that cannot be. `building`: tables are made with the new embeddings. `finishing`: searches go by them."""

    model: str | None
    provider: str
    dimension: int
    from_model: str | None
    state: Literal["none", "embedding", "blocked", "building", "finishing"]
    embedded: int
    remaining: int | None
    """Vectors at most; None: not counted yet."""
    without_content: WithoutContent
    since_position: int | None
    reason: str | None
    """What holds it up, if something does."""


class CollectionPage(Page):
    items: list[Collection]
    freshness: Freshness | None = None


class Alias(Answer):
    """`collection` is the name of what it stands for, `position` that of the event that set it."""

    name: str
    collection: str
    collection_id: str
    version: int
    position: int
    updated_at: datetime


class ReadAlias(Alias):
    freshness: Freshness


class AliasPage(Page):
    items: list[Alias]
    freshness: Freshness


class AliasWritten(Answer):
    """`collection`: what it stands for; after a removal, what it stood for."""

    name: str
    collection: str
    collection_id: str
    version: int
    position: int
    consistency_token: str


class VectorWritten(Answer):
    """`collection` is the collection's own name, in this as in every answer, also where an alias was named."""

    id: str
    version: int
    position: int
    collection: str
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
    collection: str
    consistency_token: str


class SkippedMatch(Answer):
    """What a change by a filter left as it is, and why."""

    id: str
    reason: str


class ChangedByFilter(Answer):
    """`matched` vectors, up to the limit; somebody changed `conflicts` of them meanwhile. `skipped` has the first
    hundred that stay as they are. `limit_reached`: others may match. The token covers all that was written; None:
    nothing was."""

    collection: str
    dry_run: bool
    matched: int
    conflicts: int
    skipped: list[SkippedMatch]
    limit_reached: bool
    first_position: int | None = None
    last_position: int | None = None
    consistency_token: str | None = None


class DeletedByFilter(ChangedByFilter):
    deleted: int


class PatchedByFilter(ChangedByFilter):
    """`unchanged`: vectors that were like that already."""

    changed: int
    unchanged: int


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
    expires_at: datetime | None = None
    """Its own instant; its collection may have a retention besides."""


class ReadVector(StoredVector):
    """`collection` is None for a past version."""

    collection: str | None = None
    as_of: AsOf | None = None
    freshness: Freshness


class VectorPage(Page):
    """Its `next_cursor` is where the list goes on, in another process too."""

    items: list[StoredVector]
    collection: str
    as_of: AsOf | None = None
    freshness: Freshness


class Snapshot(Answer):
    """The collection as it was, to be asked with `as_of`. While `building` it holds the events up to `built_to`."""

    name: str
    position: int
    time: datetime
    state: Literal["building", "ready", "failed"]
    built_to: int
    metric: Metric
    type: VectorType
    index: CollectionIndex
    indexed: bool
    generation: int
    reason: str | None = None
    created_at: datetime
    expires_at: datetime


class SnapshotList(Answer):
    items: list[Snapshot]
    collection: str
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


class SearchResult(Answer):
    """The nearest first. `complete`: there are k hits, or no more that match."""

    hits: list[Hit]
    complete: bool
    truncated: bool | None = None
    """Of a search by text: the query is longer than the model sees."""
    explain: dict[str, Any] | None = None


class SearchAnswer(SearchResult):
    collection: str
    as_of: AsOf | None = None
    freshness: Freshness
    cached: bool
    took_ms: float


class SearchBatchAnswer(Answer):
    """The result of each query in their order, all of one snapshot."""

    results: list[SearchResult]
    collection: str
    as_of: AsOf | None = None
    freshness: Freshness
    cached: bool
    took_ms: float


class Group(Answer):
    """Hits that have `value` in the field, or in an array there."""

    value: str | int | float | bool
    hits: list[Hit]


class GroupsAnswer(Answer):
    """The groups in the order of their nearest hits."""

    groups: list[Group]
    complete: bool
    truncated: bool | None = None
    explain: dict[str, Any] | None = None
    collection: str
    as_of: AsOf | None = None
    freshness: Freshness
    cached: bool
    took_ms: float


class CountAnswer(Answer):
    count: int
    exact: bool
    collection: str
    as_of: AsOf | None = None
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
    skipped: dict[str, Any] | None = None
    """The decision that it is passed over: `position`, `timestamp`, `actor`, `reason`."""

    @property
    def embedding(self) -> Float32Array | None:
        """The embedding that it set, if that was included; `data` has it as base64."""
        return decode_embedding(self.data["embedding"]) if "embedding" in self.data else None


class FeedEvent(Event):
    message_id: str
    """Where the feed goes on behind this event: `after` of the next one."""


class EventPage(Page):
    items: list[Event]
    freshness: Freshness


class Skipped(Answer):
    """What a restore left as it is, and why."""

    collection_id: str
    id: str
    reason: str


class Restored(Page):
    """One page of a restore; while there is a `next_cursor`, there is more to be done."""

    restored: int
    unchanged: int
    skipped: list[Skipped]
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
    collection: str | None = None
    consistency_token: str | None = None


class Health(Answer):
    status: str
    checks: dict[str, str] | None = None
