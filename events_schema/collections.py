"""What happens to collections. A collection's stream is named by tenant and name; each CollectionCreated
in it carries a new `collection_id`, so a name can be used again and nothing old comes back."""

from __future__ import annotations

from typing import ClassVar, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from events_schema.base import Event
from events_schema.embedding import EmbeddingSpec

Metric = Literal["cosine", "l2", "ip"]
VectorType = Literal["vector", "halfvec"]
IndexKind = Literal["hnsw", "ivfflat", "none"]
MetadataIndexType = Literal["string", "number", "boolean", "date"]

MAX_INDEXED_DIMENSION: dict[VectorType, int] = {"vector": 2_000, "halfvec": 4_000}
"""How many numbers an embedding may have for pgvector to index it."""


class IndexSpec(BaseModel):
    """The index over a collection's embeddings, with pgvector's parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: IndexKind = "hnsw"
    m: int | None = Field(default=None, ge=2, le=100)
    ef_construction: int | None = Field(default=None, ge=4, le=1000)
    lists: int | None = Field(default=None, ge=1, le=32768)


class MetadataIndexSpec(BaseModel):
    """An index over those values of a field of the metadata that are of this type; `field` as filters name it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    field: str
    type: MetadataIndexType


class CollectionCreated(Event):
    event_type: ClassVar[str] = "CollectionCreated"

    name: str
    collection_id: UUID
    metric: Metric
    type: VectorType
    index: IndexSpec
    embedding_spec: EmbeddingSpec
    description: str | None = None
    month_partitions: bool = Field(
        default=False, description="The tables are divided by the month in which vectors were created."
    )
    metadata_indexes: tuple[MetadataIndexSpec, ...] = Field(
        default=(), description="Indexes over fields of the metadata, in order of the field's name, each once."
    )
    restores: UUID | None = Field(
        default=None, description="The deleted collection that this one takes the place of, if it does."
    )
    retention_seconds: int | None = Field(
        default=None, description="A vector expires when it was not changed for so long; null: it does not."
    )


class CollectionUpdated(Event):
    """Holds only what changed, each field with its whole new value."""

    event_type: ClassVar[str] = "CollectionUpdated"

    description: str | None = None
    metric: Metric | None = None
    type: VectorType | None = None
    index: IndexSpec | None = None
    month_partitions: bool | None = None
    metadata_indexes: tuple[MetadataIndexSpec, ...] | None = None
    retention_seconds: int | None = None
    embedding_spec: EmbeddingSpec | None = Field(
        default=None, description="What the collection is to be searched by from when every vector has it."
    )
    other_specs: tuple[EmbeddingSpec, ...] | None = Field(
        default=None, description="Every write brings embeddings under these too, besides the collection's own."
    )


class CollectionReembedded(Event):
    """Every vector has an embedding under this spec, and so has each that is written while the spec is one of the
    collection's."""

    event_type: ClassVar[str] = "CollectionReembedded"

    embedding_spec: EmbeddingSpec


class CollectionDeleted(Event):
    event_type: ClassVar[str] = "CollectionDeleted"

    name: str
    collection_id: UUID


CollectionEvent = CollectionCreated | CollectionUpdated | CollectionReembedded | CollectionDeleted
