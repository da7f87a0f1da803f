"""Bodies of requests and answers of the write API."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self
from uuid import UUID

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from command_service.domain.vectors import MAX_METADATA_BYTES, MAX_METADATA_DEPTH
from command_service.outcomes import Result, SkipReason
from events_schema.collections import (
    MAX_INDEXED_DIMENSION,
    IndexKind,
    IndexSpec,
    MetadataIndexSpec,
    MetadataIndexType,
    Metric,
    VectorType,
)
from events_schema.embedding import Float32Array
from shared.embedding_input import EmbeddingInput
from shared.freshness import DEFAULT_TIMEOUT_MS
from shared.http.consistency import FilterDocument, TimeoutMs, Token
from shared.http.fields import AnsweringCollection, Name, VectorId, example
from shared.http.instants import Instant
from shared.read_model.fields import InvalidFieldError, MetadataField
from shared.read_model.metadata_indexes import MAX_FIELD_CHARACTERS, MAX_METADATA_INDEXES, parse_indexed_field
from shared.strict_json import JsonValueError, check_storable, check_text, stored_size

MAX_CONTENT_BYTES = 256 * 1024
MAX_EVENT_BYTES = 900_000
MAX_OPERATIONS = 1_000
MAX_DIMENSION = 16_000
DEFAULT_DIMENSION = 1536
DEFAULT_LIMIT = 10_000
MAX_LIMIT = 100_000
"""Of vectors that one request changes by a filter."""
MAX_REPORTED_SKIPS = 100
MAX_RETENTION_SECONDS = 100 * 365 * 24 * 3600


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


Content = Annotated[
    str, AfterValidator(_content), Field(description=f"Text, at most {MAX_CONTENT_BYTES // 1024} KiB of UTF-8.")
]
Metadata = Annotated[
    dict[str, Any],
    BeforeValidator(_metadata),
    Field(
        description=f"At most {MAX_METADATA_BYTES // 1024} KiB of JSON, {MAX_METADATA_DEPTH} levels deep; filters look "
        "into it."
    ),
]
ExpiresAt = Annotated[
    Instant,
    Field(
        description="An instant to come, from which on no answer shows the vector; some time later an event deletes it."
    ),
]
Version = Annotated[
    int,
    Field(ge=0, le=2**31 - 1, description="The version that the vector must have; 0: it must not exist."),
]
Model = Annotated[
    str, Field(min_length=1, max_length=255, description="What computes the embeddings."),
    AfterValidator(_content),
]  # fmt: skip
Description = Annotated[str, Field(max_length=2000, description="What it is for."), AfterValidator(_content)]


MonthPartitions = Annotated[
    bool,
    Field(
        description="Whether the tables are divided by the month in which vectors were created: for large collections "
        "whose searches are filtered by `$created_at`."
    ),
]


RetentionSeconds = Annotated[
    int,
    Field(
        ge=1,
        le=MAX_RETENTION_SECONDS,
        description="A vector that was not changed for so long expires, as at an `expires_at`.",
    ),
]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, arbitrary_types_allowed=True)


class IndexInput(_Request):
    """`m` and `ef_construction` belong to hnsw, `lists` to ivfflat."""

    kind: Annotated[IndexKind, Field(description="`none`: every search is exact.")] = "hnsw"
    m: Annotated[int, Field(ge=2, le=100, description="hnsw: neighbours of a node; 16 if not given.")] | None = None
    ef_construction: (
        Annotated[int, Field(ge=4, le=1000, description="hnsw: candidates while building; 64 if not given.")] | None
    ) = None
    lists: Annotated[int, Field(ge=1, le=32768, description="ivfflat: number of lists.")] | None = None

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


def _indexed_field(value: str) -> str:
    try:
        parse_indexed_field(value)
    except InvalidFieldError as error:
        raise PydanticCustomError("field", "{fault}", {"fault": str(error)}) from error
    return value


class MetadataIndexInput(_Request):
    """A filter on the field finds what matches in the index, where its values are of this type."""

    model_config = example({"field": "price", "type": "number"})

    field: Annotated[
        str,
        Field(
            min_length=1,
            max_length=MAX_FIELD_CHARACTERS,
            description="As filters name it: `author.name` is a nested one.",
        ),
        AfterValidator(_indexed_field),
    ]
    type: Annotated[
        MetadataIndexType, Field(description="`date`: strings that are dates, which filters compare by `$date`.")
    ]


def _each_field_once(indexes: list[MetadataIndexInput]) -> list[MetadataIndexInput]:
    seen: dict[MetadataField, int] = {}
    for number, one in enumerate(indexes):
        first = seen.setdefault(parse_indexed_field(one.field), number)
        if first != number:
            raise PydanticCustomError(
                "duplicate_field", "indexes {first} and {second} are over the same field",
                {"first": first, "second": number, "within": f"/{number}/field"},
            )  # fmt: skip
    return indexes


MetadataIndexes = Annotated[
    list[MetadataIndexInput],
    Field(
        max_length=MAX_METADATA_INDEXES,
        description="Indexes over fields of the metadata, which filters by a range, an equal value or the beginning of "
        f"a text use. At most {MAX_METADATA_INDEXES}, one a field.",
    ),
    AfterValidator(_each_field_once),
]


def declared(indexes: list[MetadataIndexInput]) -> tuple[MetadataIndexSpec, ...]:
    """As events have them: in order of the field's name."""
    in_order = sorted(indexes, key=lambda one: one.field)
    return tuple(MetadataIndexSpec(field=one.field, type=one.type) for one in in_order)


class CreateCollectionRequest(_Request):
    """With the service's `model`, or with neither a model nor `dimension`, the collection takes texts: the service
    embeds their content. With `dimension` alone, or with another model, clients bring the embeddings."""

    model_config = example({"name": "articles", "dimension": 3, "metric": "cosine"}, {"name": "notes"})

    name: Name
    dimension: Annotated[
        int | None,
        Field(
            ge=1,
            le=MAX_DIMENSION,
            description="How many numbers an embedding has; by default as many as the service's model gives, "
            f"{DEFAULT_DIMENSION:,} where it has none. With an index, at most "
            + " and ".join(f"{limit:,} as {kind}" for kind, limit in MAX_INDEXED_DIMENSION.items())
            + ".",
        ),
    ] = None
    metric: Annotated[Metric, Field(description="How distance is measured.")] = "cosine"
    type: Annotated[VectorType, Field(description="32 or 16 bits a number.")] = "vector"
    index: IndexInput = IndexInput()
    month_partitions: MonthPartitions = False
    metadata_indexes: MetadataIndexes = Field(default_factory=list)
    retention_seconds: RetentionSeconds | None = None
    model: Model | None = None
    description: Description | None = None

    @model_validator(mode="after")
    def _indexable(self) -> Self:
        fault = None if self.dimension is None else self.index_fault(self.dimension)
        if fault is not None:
            raise PydanticCustomError("dimension", "{fault}", {"fault": fault, "within": "/dimension"})
        return self

    def index_fault(self, dimension: int) -> str | None:
        """Why embeddings of this dimension cannot be indexed as it is asked for, if so."""
        limit = MAX_INDEXED_DIMENSION[self.type]
        if self.index.kind == "none" or dimension <= limit:
            return None
        return f"an indexed {self.type} has at most {limit} dimensions, not {dimension}; use index.kind none or halfvec"


class UpdateCollectionRequest(_Request):
    """Each field that is given has its whole new value; null removes the description, or the retention. A change of
    metric, type, index, partitions or indexes over metadata is applied beside the running searches, which go on as
    before until then. So is one of the model: every content is embedded anew first, see `reembedding`."""

    model_config = example({"index": {"kind": "hnsw", "m": 32, "ef_construction": 128}})

    description: Description | None = None
    metric: Annotated[Metric, Field(description="How distance is measured.")] | None = None
    type: Annotated[VectorType, Field(description="32 or 16 bits a number.")] | None = None
    index: IndexInput | None = None
    month_partitions: MonthPartitions | None = None
    metadata_indexes: MetadataIndexes | None = None
    retention_seconds: RetentionSeconds | None = None
    model: (
        Annotated[
            str,
            Field(
                min_length=1,
                max_length=255,
                description="One that the service has, or the one before, which takes the change back. null: back to "
                "embeddings that clients bring and that name no model.",
            ),
            AfterValidator(_content),
        ]
        | None
    ) = None
    dimension: Annotated[int, Field(ge=1, le=MAX_DIMENSION, description="That the model is to have.")] | None = None

    @model_validator(mode="after")
    def _only_some_can_go(self) -> Self:
        if "dimension" in self.model_fields_set and "model" not in self.model_fields_set:
            raise PydanticCustomError(
                "dimension", "the dimension is that of a model: name the model too", {"within": "/dimension"}
            )
        for name in self.model_fields_set - {"description", "retention_seconds", "model"}:
            if getattr(self, name) is None:
                raise PydanticCustomError(
                    "null", "{name} can be changed, not removed", {"name": name, "within": f"/{name}"}
                )
        return self

    def changes(self) -> dict[str, Any]:
        """The given fields of CollectionUpdated, but for the model."""
        given = {name: getattr(self, name) for name in self.model_fields_set - {"model", "dimension"}}
        if self.index is not None:
            given["index"] = self.index.spec()
        if self.metadata_indexes is not None:
            given["metadata_indexes"] = declared(self.metadata_indexes)
        return given


class _VectorFields(_Request):
    embedding: EmbeddingInput | None = None
    content: Content | None = None
    metadata: Metadata = Field(default_factory=dict)
    model: Model | None = Field(
        default=None,
        description="What made the embedding, or is to make it: refused if it is not the collection's. While the "
        "collection moves between models of one dimension it says of which an embedding is.",
    )
    expires_at: ExpiresAt | None = None

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        reference = handler(schema)
        document = handler.resolve_ref_schema(reference)
        embedding = document["properties"]["embedding"]
        embedding["anyOf"] = [one for one in embedding["anyOf"] if one != {"type": "null"}]
        text = {"required": ["content"], "properties": {"content": {"type": "string"}}}
        document["anyOf"] = [{"required": ["embedding"]}, text]
        return reference

    @model_validator(mode="after")
    def _is_embedded(self) -> Self:
        if "embedding" in self.model_fields_set and self.embedding is None:
            raise PydanticCustomError("embedding", "an embedding is not null", {"within": "/embedding"})
        if self.embedding is None and self.content is None:
            raise PydanticCustomError(
                "missing", "an embedding is needed, or content to be embedded", {"within": "/embedding"}
            )
        check_event_size(_dimension_at_most(self.embedding, self.content), self.content, self.metadata)
        return self


class UpsertVectorRequest(_VectorFields):
    model_config = example(
        {"embedding": [0.1, 0.2, 0.3], "content": "Wing flutter", "metadata": {"lang": "en"}},
        {"content": "Wing flutter at high speed"},
    )


class CreateVectorRequest(_VectorFields):
    model_config = example(
        {"id": "a-1", "embedding": [0.1, 0.2, 0.3], "content": "Wing flutter", "metadata": {"lang": "en"}},
        {"id": "a-2", "content": "Wing flutter at high speed"},
    )

    id: Annotated[VectorId, Field(description="Given by the service where it is left out.")] | None = None


class PatchVectorRequest(_Request):
    """A merge patch (RFC 7396): absent fields stay, null removes content, metadata or expires_at. In a collection that
    takes texts a new content without an embedding is embedded."""

    model_config = example({"metadata": {"lang": "fr", "year": 2020}})

    embedding: EmbeddingInput | None = None
    content: Content | None = None
    metadata: Metadata | None = None
    model: Model | None = Field(
        default=None,
        description="Refused if it is not the collection's. While the collection moves between models, an embedding of "
        "one of them leaves that of the other.",
    )
    expires_at: ExpiresAt | None = None

    @model_validator(mode="after")
    def _keeps_an_embedding(self) -> Self:
        if "embedding" in self.model_fields_set and self.embedding is None:
            raise PydanticCustomError(
                "embedding", "an embedding can be replaced, not removed", {"within": "/embedding"}
            )
        check_event_size(_dimension_at_most(self.embedding, self.content), self.content, self.metadata)
        return self


class CreateOperation(CreateVectorRequest):
    model_config = example({"op": "create", "id": "a-1", "embedding": [0.1, 0.2, 0.3]})

    op: Literal["create"]


class UpsertOperation(_VectorFields):
    model_config = example({"op": "upsert", "id": "a-1", "embedding": [0.1, 0.2, 0.3]})

    op: Literal["upsert"]
    id: VectorId
    if_version: Version | None = None


class PatchOperation(PatchVectorRequest):
    model_config = example({"op": "patch", "id": "a-1", "metadata": {"lang": "fr"}})

    op: Literal["patch"]
    id: VectorId
    if_version: Version | None = None


class DeleteOperation(_Request):
    model_config = example({"op": "delete", "id": "a-1"})

    op: Literal["delete"]
    id: VectorId
    if_version: Version | None = None


VectorInput = (
    CreateVectorRequest | UpsertVectorRequest | PatchVectorRequest | UpsertOperation | PatchOperation | DeleteOperation
)

Operation = Annotated[CreateOperation | UpsertOperation | PatchOperation | DeleteOperation, Field(discriminator="op")]


class BatchRequest(_Request):
    """All operations take effect, or none. An id occurs once."""

    model_config = example(
        {
            "operations": [
                {"op": "upsert", "id": "a-1", "embedding": [0.1, 0.2, 0.3]},
                {"op": "delete", "id": "a-2"},
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


def _dimension_at_most(embedding: Float32Array | None, content: str | None) -> int:
    """Of what the event will hold; that of a text is not known yet."""
    if embedding is not None:
        return int(embedding.size)
    return 0 if content is None else MAX_DIMENSION


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


AnsweredVersion = Annotated[int, Field(description="After the write. It is the ETag too.")]
Position = Annotated[
    int,
    Field(description="Of the event in the log; where nothing was changed, of the last event that there was."),
]
Truncated = Annotated[
    bool, Field(description="The content is longer than the model sees: the embedding is of its beginning.")
]
WriteToken = Annotated[str, Field(description="A read that carries it sees this write.")]


class CollectionWritten(BaseModel):
    model_config = example(
        {
            "name": "articles",
            "collection_id": "019a7f52-6d0c-7a33-9d2e-3f1f8a1c5b70",
            "dimension": 3,
            "metric": "cosine",
            "type": "vector",
            "index": {"kind": "hnsw", "m": 16, "ef_construction": 64},
            "month_partitions": False,
            "metadata_indexes": [{"field": "price", "type": "number"}],
            "retention_seconds": None,
            "model": "e5-small",
            "provider": "client",
            "description": "Articles on wings",
            "version": 1,
            "position": 1,
            "consistency_token": "AdIq…",
        }
    )

    name: str
    collection_id: Annotated[UUID, Field(description="New at every creation, also under a name that was used before.")]
    dimension: int
    metric: Metric
    type: VectorType
    index: IndexSpec
    month_partitions: bool
    metadata_indexes: list[MetadataIndexSpec]
    retention_seconds: int | None
    model: Annotated[str | None, Field(description="While the collection moves to another one, that.")]
    provider: Annotated[str, Field(description="What embeds its texts; `client`: the embeddings are brought.")]
    description: str | None
    version: AnsweredVersion
    position: Position
    consistency_token: WriteToken


ReembeddingState = Literal["none", "embedding", "blocked", "building", "finishing"]


class WithoutContentAnswer(BaseModel):
    count: int = Field(description="Counted up to 10,000.")
    ids: list[str] = Field(description="The first ten.")


class ReembeddingAnswer(BaseModel):
    """How far a collection's move to another model is. `embedding`: contents are embedded by it. `blocked`: vectors are
    left that cannot be. `building`: tables are made with the new embeddings. `finishing`: searches go by them, and what
    is left of the model before goes. `none`: the collection does not move."""

    model_config = example(
        {
            "model": "e5-large",
            "provider": "openai",
            "dimension": 1024,
            "from_model": "e5-small",
            "state": "embedding",
            "embedded": 1200,
            "remaining": 8800,
            "without_content": {"count": 1, "ids": ["a-7"]},
            "since_position": 20417,
            "reason": None,
        }
    )

    model: str | None = Field(description="The one that it moves to, or has.")
    provider: str
    dimension: int
    from_model: str | None = Field(description="The one that it moves from; null, too, where it does not move.")
    state: ReembeddingState
    embedded: int = Field(description="Vectors looked at that have an embedding of the new model.")
    remaining: int | None = Field(
        description="Vectors at most that are still to be looked at, and those that cannot be embedded; null: not "
        "counted yet."
    )
    without_content: WithoutContentAnswer = Field(
        description="Vectors without content. Each may be given content, or an embedding that names the new model."
    )
    since_position: int | None = Field(description="Of the event that began the move; null where it does not move.")
    reason: str | None = Field(description="What holds it up, if something does.")


class SetAliasRequest(_Request):
    model_config = example({"collection": "articles-2026"})

    collection: Annotated[Name, Field(description="The collection that the alias is to stand for, by its own name.")]


class AliasWritten(BaseModel):
    model_config = example(
        {
            "name": "articles-current",
            "collection": "articles-2026",
            "collection_id": "019a7f52-6d0c-7a33-9d2e-3f1f8a1c5b70",
            "version": 1,
            "position": 9,
            "consistency_token": "AdIq…",
        }
    )

    name: str
    collection: Annotated[str, Field(description="What it stands for; after a removal, what it stood for.")]
    collection_id: UUID
    version: Annotated[int, Field(description="It counts the events of the name, from 1. It is the ETag too.")]
    position: Position
    consistency_token: WriteToken


class VectorWritten(BaseModel):
    model_config = example(
        {
            "id": "a-1",
            "version": 1,
            "position": 2,
            "collection": "articles",
            "truncated": False,
            "consistency_token": "AdIq…",
        }
    )

    id: str
    version: AnsweredVersion
    position: Position
    collection: AnsweringCollection
    truncated: Truncated
    consistency_token: WriteToken


class OperationAnswer(BaseModel):
    index: Annotated[int, Field(description="Of the operation in the request, from 0.")]
    op: Literal["create", "upsert", "patch", "delete"]
    id: str
    result: Result
    version: Annotated[int, Field(description="The vector's, after the batch.")]
    position: Position
    truncated: Truncated


class BatchAnswer(BaseModel):
    model_config = example(
        {
            "results": [
                {
                    "index": 0,
                    "op": "upsert",
                    "id": "a-1",
                    "result": "updated",
                    "version": 2,
                    "position": 3,
                    "truncated": False,
                },
                {
                    "index": 1,
                    "op": "delete",
                    "id": "a-2",
                    "result": "unchanged",
                    "version": 0,
                    "position": 0,
                    "truncated": False,
                },
            ],
            "first_position": 3,
            "last_position": 3,
            "collection": "articles",
            "consistency_token": "AdIq…",
        }
    )

    results: list[OperationAnswer]
    first_position: Annotated[int, Field(description="Of the batch's first event.")]
    last_position: Annotated[int, Field(description="Of its last event; a batch's positions follow one another.")]
    collection: AnsweringCollection
    consistency_token: WriteToken


class _ByFilter(_Request):
    filter: FilterDocument
    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT, description="So many vectors at most.")] = DEFAULT_LIMIT
    dry_run: Annotated[bool, Field(description="Only count what matches.")] = False
    consistency_token: Token | None = None
    timeout_ms: TimeoutMs = DEFAULT_TIMEOUT_MS


class DeleteByFilterRequest(_ByFilter):
    """The vectors that match where the read model stands, which is not before the consistency token. `{}` matches all.
    What is written meanwhile is neither deleted nor left half changed: it is skipped."""

    model_config = example({"filter": {"lang": "en", "year": {"$lt": 1960}}})


class PatchByFilterRequest(_ByFilter):
    """As for a deletion; each vector that matches gets this merge patch (RFC 7396), null removes its metadata."""

    model_config = example({"filter": {"lang": "en"}, "metadata": {"lang": "en-GB", "checked": None}})

    metadata: Metadata | None


class SkippedMatchAnswer(BaseModel):
    id: str
    reason: SkipReason


class _ByFilterAnswer(BaseModel):
    collection: AnsweringCollection
    dry_run: bool
    matched: int = Field(description="Vectors that the filter matched, up to the limit.")
    conflicts: int = Field(description="Of these, vectors that somebody changed meanwhile: they stay as they are.")
    skipped: list[SkippedMatchAnswer] = Field(description="The first hundred of those that stay as they are, and why.")
    limit_reached: bool = Field(description="As many matched as the limit allows, so others may match.")
    first_position: int | None = Field(description="Of the first event; null where nothing was written.")
    last_position: int | None = Field(description="Of the last event; others' events may be in between.")
    consistency_token: str | None = Field(description="Covers all that was written; null where that is nothing.")


_BY_FILTER_EXAMPLE = {
    "collection": "articles",
    "dry_run": False,
    "matched": 3,
    "conflicts": 1,
    "skipped": [{"id": "a-7", "reason": "changed_meanwhile"}],
    "limit_reached": False,
    "first_position": 12,
    "last_position": 13,
    "consistency_token": "AdIq…",
}


class DeletedByFilterAnswer(_ByFilterAnswer):
    model_config = example({**_BY_FILTER_EXAMPLE, "deleted": 2})

    deleted: int


class PatchedByFilterAnswer(_ByFilterAnswer):
    model_config = example({**_BY_FILTER_EXAMPLE, "changed": 1, "unchanged": 1})

    changed: int
    unchanged: int = Field(description="Vectors that were like that already.")


class RestoreVectorRequest(_Request):
    model_config = example({"version": 2})

    version: Annotated[int, Field(ge=1, le=2**31 - 1, description="The version whose contents come back.")]


class RestoreRequest(_Request):
    """What one request changed or deleted comes back as it was before. Vectors that somebody has changed since, and
    those that the request created, are left as they are."""

    model_config = example({"request_id": "0199ffcb-6e4c-7b44-9a52-41f7f2f1b6d0"})

    request_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$", description="The X-Request-ID of its answer.")]
    force: Annotated[bool, Field(description="Also what was changed since comes back.")] = False
    cursor: Annotated[str, Field(description="The `next_cursor` of the answer before.")] | None = None


class RestoreCollectionRequest(_Request):
    model_config = example({"collection_id": "0199ffcb-6e4c-7b44-9a52-41f7f2f1b6d0"})

    collection_id: Annotated[UUID, Field(strict=False, description="The deleted collection's.")]
    cursor: Annotated[str, Field(description="The `next_cursor` of the answer before.")] | None = None


class SkippedAnswer(BaseModel):
    collection_id: UUID
    id: str
    reason: Literal["created", "changed_since", "collection_deleted", "no_embedding"]


class RestoredAnswer(BaseModel):
    """One page. As long as there is a `next_cursor`, the same request with it as `cursor` goes on."""

    model_config = example(
        {
            "restored": 2,
            "unchanged": 0,
            "skipped": [
                {"collection_id": "0199ffcb-6e4c-7b44-9a52-41f7f2f1b6d0", "id": "a-3", "reason": "changed_since"}
            ],
            "next_cursor": None,
            "consistency_token": "AQGZ_8tuTHtE",
        }
    )

    restored: int = Field(description="Vectors that an event brought back.")
    unchanged: int = Field(description="Vectors that were like that already.")
    skipped: list[SkippedAnswer]
    next_cursor: str | None
    consistency_token: str | None = Field(description="Covers what this page wrote; null where that is nothing.")


class RestoredCollectionAnswer(RestoredAnswer):
    model_config = example(
        {
            "name": "articles",
            "collection_id": "0199ffd2-11a0-7c31-8f0e-6a1f0f2f9b11",
            "restored": 120,
            "unchanged": 0,
            "skipped": [],
            "next_cursor": None,
            "consistency_token": "AQGZ_8tuTHtE",
        }
    )

    name: str
    collection_id: UUID = Field(description="The new collection's.")


class LineErrorAnswer(BaseModel):
    line: int = Field(description="Counted from 1.")
    pointer: str = Field(description="The address of the field within the line.")
    type: str
    detail: str


class ImportAnswer(BaseModel):
    """What became of the lines. What was written stays, also where a bad line ended the import."""

    model_config = example(
        {
            "lines": 3,
            "created": 2,
            "updated": 0,
            "unchanged": 0,
            "failed": 1,
            "errors": [
                {"line": 2, "pointer": "/embedding", "type": "dimension-mismatch", "detail": "the dimension is 3"}
            ],
            "stopped_at": None,
            "collection": "articles",
            "consistency_token": "AQGZ_8tuTHtE",
        }
    )

    lines: int = Field(description="Lines that were looked at.")
    created: int
    updated: int
    unchanged: int
    failed: int = Field(description="Bad lines.")
    errors: list[LineErrorAnswer] = Field(description="The first hundred of them.")
    stopped_at: int | None = Field(description="The bad line that ended the import, with on_error=stop.")
    collection: str | None = Field(description="The collection's own name; null where nothing was written.")
    consistency_token: str | None = Field(description="Covers all that was written; null where that is nothing.")
