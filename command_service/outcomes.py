"""What a command came to. Outcomes are stored with idempotency keys, so they round-trip through JSON."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from events_schema.collections import IndexSpec, MetadataIndexSpec, Metric, VectorType
from events_schema.embedding import EmbeddingSpec

Result = Literal["created", "updated", "deleted", "unchanged"]


class _Outcome(BaseModel):
    """`first_position` to `last_position` are the events that the command appended or, where it changed
    nothing, the last events of what it looked at: a token over them covers everything it answered."""

    model_config = ConfigDict(frozen=True)

    log_id: UUID
    first_position: int
    last_position: int


class CollectionOutcome(_Outcome):
    kind: Literal["collection"] = "collection"
    result: Result
    name: str
    collection_id: UUID
    version: int
    metric: Metric
    type: VectorType
    index: IndexSpec
    embedding_spec: EmbeddingSpec
    description: str | None
    month_partitions: bool = False
    metadata_indexes: tuple[MetadataIndexSpec, ...] = ()
    retention_seconds: int | None = None


class AliasOutcome(_Outcome):
    """`collection` is the one that the alias stands for, or stood for until it was removed."""

    kind: Literal["alias"] = "alias"
    result: Result
    name: str
    collection: str
    collection_id: UUID
    version: int


class OperationOutcome(BaseModel):
    """`version` is the vector's after the operation, `position` its last event's. `truncated`: an embedding that was
    computed for the operation is of the text's beginning."""

    model_config = ConfigDict(frozen=True)

    id: str
    result: Result
    version: int
    position: int
    truncated: bool = False


SkipReason = Literal["changed_meanwhile", "metadata_too_large"]


class SkippedOutcome(BaseModel):
    """A vector that was left as it is."""

    model_config = ConfigDict(frozen=True)

    id: str
    reason: SkipReason


class VectorsOutcome(_Outcome):
    """`collection` is the name of the collection, none in what was stored before there were aliases. `skipped` are
    those operations that a command which leaves out what is refused has left out."""

    kind: Literal["vectors"] = "vectors"
    operations: tuple[OperationOutcome, ...]
    collection: str | None = None
    collection_id: UUID | None = None
    skipped: tuple[SkippedOutcome, ...] = ()


Outcome = CollectionOutcome | AliasOutcome | VectorsOutcome

OUTCOME: TypeAdapter[Outcome] = TypeAdapter(Annotated[Outcome, Field(discriminator="kind")])
