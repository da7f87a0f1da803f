"""Commands: what callers ask for, already parsed and within the limits of their own fields."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from events_schema.base import EventMetadata
from events_schema.collections import IndexSpec, MetadataIndexSpec, Metric, VectorType
from events_schema.embedding import EmbeddingSpec, StoredEmbedding
from events_schema.streams import vector_stream
from events_schema.vectors import VectorCreated


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """`request_hash` tells a repetition of the request from another one under the same key."""

    key: str
    request_hash: bytes


@dataclass(frozen=True, slots=True)
class CommandContext:
    """For whom, by whom and through which request."""

    tenant: str
    metadata: EventMetadata
    idempotency: IdempotencyKey | None = None


@dataclass(frozen=True, slots=True)
class CreateCollection:
    """`collection_id` is new: every creation gets its own, also under a name that was used before."""

    context: CommandContext
    name: str
    collection_id: UUID
    metric: Metric
    type: VectorType
    index: IndexSpec
    embedding_spec: EmbeddingSpec
    description: str | None = None
    month_partitions: bool = False
    metadata_indexes: tuple[MetadataIndexSpec, ...] = ()
    restores: UUID | None = None
    """The deleted collection that this one takes the place of."""
    retention_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class UpdateCollection:
    """`changes` holds the fields that are given, of those of CollectionUpdated, with their new values. `move_to` is the
    spec that the collection is to come to have."""

    context: CommandContext
    name: str
    changes: dict[str, Any] = field(hash=False)
    if_version: int | None = None
    alias: str | None = None
    """By which the collection was named; refused if it stands for another one by now."""
    move_to: EmbeddingSpec | None = None


@dataclass(frozen=True, slots=True)
class DeleteCollection:
    """`alias` as for an update."""

    context: CommandContext
    name: str
    if_version: int | None = None
    alias: str | None = None


@dataclass(frozen=True, slots=True)
class CompleteReembedding:
    """Says that every vector has an embedding under the spec that the collection has been moving to `since` that
    position. Nothing happens if it is moving elsewhere by now."""

    context: CommandContext
    name: str
    collection_id: UUID
    embedding_spec: EmbeddingSpec
    since: int


@dataclass(frozen=True, slots=True)
class EndReembedding:
    """Lets go of the specs besides this one, if the collection has come to it."""

    context: CommandContext
    name: str
    collection_id: UUID
    embedding_spec: EmbeddingSpec


CollectionCommand = CreateCollection | UpdateCollection | DeleteCollection | CompleteReembedding | EndReembedding


@dataclass(frozen=True, slots=True)
class SetAlias:
    """`name` stands for the collection of the name `collection` from now on, whatever it stood for before."""

    context: CommandContext
    name: str
    collection: str
    if_version: int | None = None


@dataclass(frozen=True, slots=True)
class RemoveAlias:
    context: CommandContext
    name: str
    if_version: int | None = None


AliasCommand = SetAlias | RemoveAlias


@dataclass(frozen=True, slots=True)
class CreateVector:
    """`event` is what will have happened: it can be made, and written as JSON, before the append lock. `truncated`: an
    embedding is of its content's beginning."""

    event: VectorCreated
    truncated: bool = False

    @property
    def id(self) -> str:
        return self.event.id


@dataclass(frozen=True, slots=True)
class UpsertVector:
    """Puts the content of `event` in place, whatever was there; the event itself happens if nothing was.

    `from_text`: under these specs the embedding was computed from the content, so a vector that has this content
    already keeps its own.
    `brings_back`: what there was before comes back, but not an instant of expiry that has passed.
    `if_written`: only if nobody has changed the vector since it had this version; that its content was embedded anew
    changes nothing.
    `truncated` as for a creation.
    """

    event: VectorCreated
    if_version: int | None = None
    from_text: tuple[EmbeddingSpec, ...] = ()
    brings_back: bool = False
    if_written: int | None = None
    truncated: bool = False

    @property
    def id(self) -> str:
        return self.event.id


@dataclass(frozen=True, slots=True)
class PatchVector:
    """A merge patch (RFC 7396). Embeddings under other specs than those of `embeddings` stay; `fields` says which of
    content, metadata and expires_at are given; `from_text`, `if_written` and `truncated` as for an upsert."""

    id: str
    embeddings: tuple[StoredEmbedding, ...]
    fields: frozenset[str]
    content: str | None = None
    metadata: dict[str, Any] | None = None
    if_version: int | None = None
    from_text: tuple[EmbeddingSpec, ...] = ()
    expires_at: datetime | None = None
    if_written: int | None = None
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class DeleteVector:
    """`missing_is_unchanged`: in a batch, deleting what is not there is no refusal. `if_written` as for an upsert."""

    id: str
    if_version: int | None = None
    missing_is_unchanged: bool = False
    if_written: int | None = None


@dataclass(frozen=True, slots=True)
class DeleteExpired:
    """Deletes a vector that has expired, if it still has this version. Nothing happens otherwise."""

    id: str
    if_version: int


@dataclass(frozen=True, slots=True)
class ReembedVector:
    """Adds embeddings of the content that a vector has, if it still has this version. Nothing happens otherwise, nor
    for those that it has already."""

    id: str
    embeddings: tuple[StoredEmbedding, ...]
    if_version: int


VectorOperation = CreateVector | UpsertVector | PatchVector | DeleteVector | DeleteExpired | ReembedVector


@dataclass(frozen=True, slots=True)
class Checked:
    """What a write was prepared for."""

    metric: Metric
    type: VectorType
    specs: tuple[EmbeddingSpec, ...]
    """Those under which it brings embeddings."""


@dataclass(frozen=True, slots=True)
class WriteVectors:
    """Operations on vectors of one collection: all of them take effect, or none.

    `collection_id` is what the name stood for when the request was read; embeddings were checked against it, and
    made for what is in `checked`.
    `creation` brings the collection into being with them, if there is none yet.
    `alias` is the name by which the collection was named, if that is not its own: refused if it stands for another one
    by now.
    """

    context: CommandContext
    collection: str
    collection_id: UUID
    operations: tuple[VectorOperation, ...]
    size_bytes: int = field(default=0, compare=False)
    creation: CreateCollection | None = None
    checked: Checked | None = None
    alias: str | None = None
    leaves_out: bool = False
    """Whether an operation that the vector's state does not allow is left out, instead of refusing all of them."""
    streams: tuple[UUID, ...] = field(init=False, compare=False)
    """The stream of each operation's vector."""

    def __post_init__(self) -> None:
        streams = tuple(vector_stream(self.collection_id, operation.id) for operation in self.operations)
        object.__setattr__(self, "streams", streams)


Command = CollectionCommand | AliasCommand | WriteVectors
