"""Bodies of requests and answers of the write API."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self
from uuid import UUID

import orjson
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from command_service.domain.vectors import MAX_METADATA_BYTES, MAX_METADATA_DEPTH
from command_service.outcomes import Result
from events_schema.collections import IndexKind, IndexSpec, Metric, VectorType
from shared.embedding_input import EmbeddingInput
from shared.http.fields import Name, VectorId
from shared.strict_json import JsonValueError, check_storable, check_text, stored_size

MAX_CONTENT_BYTES = 256 * 1024
MAX_EVENT_BYTES = 900_000
MAX_OPERATIONS = 1_000
MAX_INDEXED_DIMENSION: dict[VectorType, int] = {"vector": 2_000, "halfvec": 4_000}
MAX_DIMENSION = 16_000
DEFAULT_DIMENSION = 1536


def _content(value: str) -> str:
    try:
        check_text(value)
    except JsonValueError as error:
        raise PydanticCustomError("storable_text", "{fault}", {"fault": error.detail}) from error
    size = len(value.encode())
    if size > MAX_CONTENT_BYTES:
        raise PydanticCustomError(
            "too_large", "content has at most {limit} bytes of UTF-8, this one has {size}",
            {"limit": MAX_CONTENT_BYTES, "size": size},
        )  # fmt: skip
    return value


def _metadata(value: Any) -> Any:
    if value is None or not isinstance(value, dict):
        return value
    try:
        check_storable(value, max_depth=MAX_METADATA_DEPTH)
    except JsonValueError as error:
        raise PydanticCustomError(
            "storable_json", "at {pointer}: {fault}", {"pointer": error.pointer or "/", "fault": error.detail}
        ) from error
    size = stored_size(value)
    if size > MAX_METADATA_BYTES:
        raise PydanticCustomError(
            "too_large", "metadata has at most {limit} bytes of JSON without exponents, this has {size}",
            {"limit": MAX_METADATA_BYTES, "size": size},
        )  # fmt: skip
    return value


Content = Annotated[str, AfterValidator(_content)]
Metadata = Annotated[dict[str, Any], BeforeValidator(_metadata)]
Version = Annotated[int, Field(ge=0, le=2**31 - 1)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, arbitrary_types_allowed=True)


class IndexInput(_Request):
    """`m` and `ef_construction` belong to hnsw, `lists` to ivfflat."""

    kind: IndexKind = "hnsw"
    m: Annotated[int, Field(ge=2, le=100)] | None = None
    ef_construction: Annotated[int, Field(ge=4, le=1000)] | None = None
    lists: Annotated[int, Field(ge=1, le=32768)] | None = None

    @model_validator(mode="after")
    def _parameters_belong(self) -> Self:
        hnsw = self.m is not None or self.ef_construction is not None
        if (hnsw and self.kind != "hnsw") or (self.lists is not None and self.kind != "ivfflat"):
            raise PydanticCustomError("index", "m and ef_construction belong to hnsw, lists belongs to ivfflat")
        if self.kind == "hnsw" and self.effective_ef_construction < 2 * self.effective_m:
            raise PydanticCustomError(
                "index", "ef_construction is at least twice m; they are {ef} and {m}",
                {"ef": self.effective_ef_construction, "m": self.effective_m},
            )  # fmt: skip
        return self

    @property
    def effective_m(self) -> int:
        return 16 if self.m is None else self.m

    @property
    def effective_ef_construction(self) -> int:
        return 64 if self.ef_construction is None else self.ef_construction

    def spec(self) -> IndexSpec:
        hnsw = self.kind == "hnsw"
        return IndexSpec(
            kind=self.kind,
            m=self.effective_m if hnsw else None,
            ef_construction=self.effective_ef_construction if hnsw else None,
            lists=self.lists,
        )


class CreateCollectionRequest(_Request):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "articles", "dimension": 3, "metric": "cosine"}]}
    )

    name: Name
    dimension: Annotated[int, Field(ge=1, le=MAX_DIMENSION)] = DEFAULT_DIMENSION
    metric: Metric = "cosine"
    type: VectorType = "vector"
    index: IndexInput = IndexInput()
    model: Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_content)] | None = None
    description: Annotated[str, Field(max_length=2000), AfterValidator(_content)] | None = None

    @model_validator(mode="after")
    def _indexable(self) -> Self:
        limit = MAX_INDEXED_DIMENSION[self.type]
        if self.index.kind != "none" and self.dimension > limit:
            raise PydanticCustomError(
                "dimension",
                "an indexed {type} has at most {limit} dimensions, not {dimension}; use index.kind none or halfvec",
                {"type": self.type, "limit": limit, "dimension": self.dimension, "within": "/dimension"},
            )
        return self


class UpdateCollectionRequest(_Request):
    """A merge patch: null removes the description."""

    description: Annotated[str, Field(max_length=2000), AfterValidator(_content)] | None = None


class _VectorFields(_Request):
    embedding: EmbeddingInput
    content: Content | None = None
    metadata: Metadata = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits_an_event(self) -> Self:
        check_event_size(self.embedding.size, self.content, self.metadata)
        return self


class UpsertVectorRequest(_VectorFields):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"embedding": [0.1, 0.2, 0.3], "content": "…", "metadata": {"lang": "en"}}]}
    )


class CreateVectorRequest(_VectorFields):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"id": "a-1", "embedding": [0.1, 0.2, 0.3], "content": "…", "metadata": {"lang": "en"}}]
        }
    )

    id: VectorId | None = None


class PatchVectorRequest(_Request):
    """A merge patch (RFC 7396): absent fields stay, null removes content or metadata."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"metadata": {"lang": None, "year": 2020}}]})

    embedding: EmbeddingInput | None = None
    content: Content | None = None
    metadata: Metadata | None = None

    @model_validator(mode="after")
    def _keeps_an_embedding(self) -> Self:
        if "embedding" in self.model_fields_set and self.embedding is None:
            raise PydanticCustomError(
                "embedding", "an embedding can be replaced, not removed", {"within": "/embedding"}
            )
        check_event_size(0 if self.embedding is None else self.embedding.size, self.content, self.metadata)
        return self


class CreateOperation(CreateVectorRequest):
    op: Literal["create"]


class UpsertOperation(_VectorFields):
    op: Literal["upsert"]
    id: VectorId
    if_version: Version | None = None


class PatchOperation(PatchVectorRequest):
    op: Literal["patch"]
    id: VectorId
    if_version: Version | None = None


class DeleteOperation(_Request):
    op: Literal["delete"]
    id: VectorId
    if_version: Version | None = None


Operation = Annotated[CreateOperation | UpsertOperation | PatchOperation | DeleteOperation, Field(discriminator="op")]


class BatchRequest(_Request):
    """All operations take effect, or none. An id occurs once."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "operations": [
                        {"op": "upsert", "id": "a-1", "embedding": [0.1, 0.2, 0.3]},
                        {"op": "delete", "id": "a-2"},
                    ]
                }
            ]
        }
    )

    operations: Annotated[list[Operation], Field(min_length=1, max_length=MAX_OPERATIONS)]

    @model_validator(mode="after")
    def _ids_occur_once(self) -> Self:
        seen: dict[str, int] = {}
        for index, operation in enumerate(self.operations):
            if operation.id is None:
                continue
            first = seen.setdefault(operation.id, index)
            if first != index:
                raise PydanticCustomError(
                    "duplicate_id", "operations {first} and {second} have the same id {id}",
                    {
                        "first": first, "second": index, "id": repr(operation.id),
                        "within": f"/operations/{index}/id",
                    },
                )  # fmt: skip
        return self


def check_event_size(dimension: int, content: str | None, metadata: dict[str, Any] | None) -> None:
    """
    Raises:
        PydanticCustomError: the event would be larger than what can be published.
    """
    embedding_bytes = dimension * 4 * 4 // 3
    size = embedding_bytes + len(orjson.dumps(content)) + stored_size(metadata) + 1024
    if size > MAX_EVENT_BYTES:
        raise PydanticCustomError(
            "too_large", "a vector has at most {limit} bytes as an event, this one has {size}",
            {"limit": MAX_EVENT_BYTES, "size": size},
        )  # fmt: skip


class CollectionWritten(BaseModel):
    name: str
    collection_id: UUID
    dimension: int
    metric: Metric
    type: VectorType
    index: IndexSpec
    model: str | None
    description: str | None
    version: int
    position: int
    consistency_token: str


class VectorWritten(BaseModel):
    id: str
    version: int
    position: int
    consistency_token: str


class OperationAnswer(BaseModel):
    index: int
    op: Literal["create", "upsert", "patch", "delete"]
    id: str
    result: Result
    version: int
    position: int


class BatchAnswer(BaseModel):
    results: list[OperationAnswer]
    first_position: int
    last_position: int
    consistency_token: str
