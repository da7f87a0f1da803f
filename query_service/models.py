"""Bodies and parameters of requests, and the answers as they are documented."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, Self, get_args
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from events_schema.collections import IndexSpec, MetadataIndexType, Metric, VectorType
from events_schema.embedding import EmbeddingSpec
from events_schema.registry import EVENT_TYPES
from query_service.as_of import Moment
from query_service.index_scans import DEFAULT_EF_SEARCH, MAX_EF_SEARCH
from query_service.metadata_fields import MetadataFields, Path, ordered
from query_service.parts import EmbeddingFormat, Include
from query_service.recommend import Strategy
from query_service.scroll import Direction, OrderBy
from query_service.search import MAX_K
from shared.embedding_input import EmbeddingInput
from shared.freshness import DEFAULT_TIMEOUT_MS, MAX_STALENESS_MS
from shared.http.consistency import FilterDocument, TimeoutMs, Token
from shared.http.fields import AnsweringCollection, Name, VectorId, example
from shared.read_model.dates import RULE, parse_date
from shared.read_model.fields import InvalidFieldError, MetadataField, parse_metadata_field
from shared.read_model.filters import InvalidFilterError
from shared.read_model.index_states import DeclaredIndexState
from shared.strict_json import JsonValueError, MalformedJsonError, check_text, parse_json

DEFAULT_PAGE = 100
MAX_PAGE = 1_000
MAX_FIELDS = 100
MAX_QUERIES = 100
MAX_EXAMPLES = 100
MAX_GROUPS = 100
MAX_PER_GROUP = 100
MAX_BATCH_HITS = 10_000


MAX_QUERY_BYTES = 32 * 1024


def _query(value: str) -> str:
    try:
        check_text(value)
    except JsonValueError as error:
        raise PydanticCustomError("text", "{fault}", {"fault": error.detail}) from error
    size = len(value.encode())
    if size > MAX_QUERY_BYTES:
        raise PydanticCustomError(
            "too_large", "a query has at most {limit} bytes of UTF-8, this one has {size}",
            {"limit": MAX_QUERY_BYTES, "size": size},
        )  # fmt: skip
    if not value.strip():
        raise PydanticCustomError("blank_text", "a blank query says nothing that could be searched for")
    return value


Part = Literal["content", "metadata", "embedding"]
_PARTS = get_args(Part)
_OF_METADATA = "metadata."


def _part_or_field(value: str) -> str:
    if value in _PARTS:
        return value
    if not value.startswith(_OF_METADATA):
        raise PydanticCustomError(
            "part", "a part is {parts} or a field of the metadata, such as metadata.lang", {"parts": ", ".join(_PARTS)}
        )
    try:
        parse_metadata_field(value.removeprefix(_OF_METADATA))
    except InvalidFieldError as error:
        raise PydanticCustomError("part", "{fault}", {"fault": str(error)}) from error
    return value


def _group_field(value: str) -> str:
    if value in _PARTS:
        raise PydanticCustomError("part", "a field of the metadata is needed, such as metadata.lang")
    return _part_or_field(value)


MaxStalenessMs = Annotated[
    int,
    Field(
        ge=0,
        le=MAX_STALENESS_MS,
        description="An answer is welcome whose snapshot was confirmed at most so long before this request; "
        "0: after it. Not given: 20 milliseconds.",
    ),
]

QueryText = Annotated[
    str,
    AfterValidator(_query),
    Field(
        description=f"A text, at most {MAX_QUERY_BYTES // 1024} KiB of UTF-8, embedded by the collection's model.",
        json_schema_extra={"pattern": r"\S", "examples": ["wing flutter"]},
    ),
]
ModelName = Annotated[
    str,
    Field(min_length=1, max_length=255, description="What made the embedding: refused if it is not the collection's."),
]
K = Annotated[int, Field(ge=1, le=MAX_K, description="How many hits.")]
EfSearch = Annotated[
    int,
    Field(
        ge=1,
        le=MAX_EF_SEARCH,
        description="hnsw: candidates while searching, never less than k. More is slower and finds more.",
    ),
]
Exact = Annotated[bool, Field(description="Compare with every vector that matches, without the index.")]
MinScore = Annotated[float, Field(allow_inf_nan=False, description="Hits below are left out.")]
Explain = Annotated[bool, Field(description="Answer also how the hits were found, and how long each step took.")]
Limit = Annotated[int, Field(ge=1, le=MAX_PAGE, description="How many on a page.")]
Cursor = Annotated[str, Field(description="The `next_cursor` of the page before.")]
Parts = Annotated[list[Part], Field(description="What is answered of each vector.")]
_PartOrField = Annotated[
    str,
    AfterValidator(_part_or_field),
    Field(json_schema_extra={"anyOf": [{"enum": list(_PARTS)}, {"pattern": r"^metadata\.[^.]"}]}),
]
Included = Annotated[
    list[_PartOrField],
    Field(
        max_length=MAX_FIELDS,
        description="What is answered of each vector: content, metadata, embedding, or fields of the metadata, named "
        "as in a filter: metadata.lang, metadata.author.name.",
        examples=[["content", "metadata.lang"]],
    ),
]
Excluded = Annotated[
    list[_PartOrField],
    Field(
        max_length=MAX_FIELDS,
        description="What of that is left out: parts, or fields of the metadata.",
        examples=[["metadata.notes"]],
    ),
]
ShownEmbedding = Annotated[
    EmbeddingFormat,
    Field(description="How embeddings are answered: numbers, or the base64 of little-endian 32-bit floats."),
]

DEFAULT_PARTS: tuple[Part, ...] = ("content", "metadata")


def include_of(parts: Sequence[Part], embedding_format: EmbeddingFormat) -> Include:
    return Include(
        content="content" in parts,
        metadata="metadata" in parts,
        embedding="embedding" in parts,
        embedding_format=embedding_format,
    )


def _fields_in(names: Sequence[str]) -> tuple[Path, ...]:
    found = (name.removeprefix(_OF_METADATA) for name in names if name.startswith(_OF_METADATA))
    return ordered(parse_metadata_field(name).path for name in found)


class _ShownParts(BaseModel):
    include: Included = list(DEFAULT_PARTS)
    exclude: Excluded = []
    embedding_format: ShownEmbedding = "numbers"

    def parts(self) -> Include:
        left = set(self.include) - set(self.exclude)
        only = None if "metadata" in self.include else _fields_in(self.include)
        return Include(
            content="content" in left,
            metadata=("metadata" in self.include or bool(only)) and "metadata" not in self.exclude,
            embedding="embedding" in left,
            fields=MetadataFields(only, _fields_in(self.exclude)),
            embedding_format=self.embedding_format,
        )


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, arbitrary_types_allowed=True)


def _past_time(value: str) -> str:
    if parse_date(value) is None:
        raise PydanticCustomError("time", "a time is {rule}", {"rule": RULE})
    return value


PastPosition = Annotated[
    int, Field(ge=1, le=2**63 - 1, description="Once all events up to here had happened, and none later.")
]
PastTime = Annotated[
    str, AfterValidator(_past_time), Field(description="At this time, ISO 8601; UTC where no offset is given.")
]


class AsOfMoment(_Body):
    """One of the three: the collection as it was."""

    model_config = example({"position": 15}, {"time": "2026-01-05T08:30:00Z"}, {"snapshot": "release-1"})

    position: PastPosition | None = None
    time: PastTime | None = None
    snapshot: Annotated[Name, Field(description="As the snapshot of this name holds it.")] | None = None

    @model_validator(mode="after")
    def _one_moment(self) -> Self:
        given = [name for name in ("position", "time", "snapshot") if getattr(self, name) is not None]
        if len(given) != 1:
            raise PydanticCustomError(
                "moment", "give one of position, time and snapshot, not {given}",
                {"given": " and ".join(given) or "none", "within": f"/{given[-1] if given else 'position'}"},
            )  # fmt: skip
        return self

    def moment(self) -> Moment:
        return Moment(self.position, None if self.time is None else parse_date(self.time), self.snapshot)


AsOf = Annotated[AsOfMoment, Field(description="From a snapshot of the past; the present if not given.")]


class _FreshBody(_Body):
    as_of: AsOf | None = None
    consistency_token: Token | None = None
    timeout_ms: TimeoutMs = DEFAULT_TIMEOUT_MS
    max_staleness_ms: MaxStalenessMs | None = None

    @property
    def moment(self) -> Moment | None:
        return None if self.as_of is None else self.as_of.moment()


class Origin(_Body):
    query: QueryText | None = None
    embedding: EmbeddingInput | None = None
    id: Annotated[VectorId, Field(description="Of a stored vector; itself it is left out.")] | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        given = [name for name in ("embedding", "id", "query") if getattr(self, name) is not None]
        if len(given) != 1:
            raise PydanticCustomError(
                "origin", "give one of embedding, id and query, not {given}",
                {"given": " and ".join(given) or "none", "within": f"/{given[-1] if given else 'embedding'}"},
            )  # fmt: skip
        return self


class Example(Origin):
    """One of `embedding`, `query` and `id`."""

    model_config = example({"id": "a-1"})


class SearchOptions(_ShownParts, _Body):
    model: ModelName | None = None
    filter: FilterDocument = None
    ef_search: EfSearch = DEFAULT_EF_SEARCH
    exact: Exact = False
    min_score: MinScore | None = None


class SearchSettings(SearchOptions):
    k: K = 10


class SearchQuery(SearchSettings, Origin):
    """One of `embedding`, `query` and `id` says what to look for."""

    model_config = example({"id": "a-1", "k": 5}, {"query": "wing flutter", "filter": {"lang": "en"}})


class SearchRequest(SearchQuery, _FreshBody):
    """One of `embedding`, `query` and `id` says what to look for."""

    model_config = example(
        {"embedding": [0.1, 0.2, 0.3], "k": 5, "filter": {"lang": "en"}}, {"query": "wing flutter", "k": 5}
    )

    explain: Explain = False


class SearchBatchRequest(_FreshBody):
    """All are answered from one snapshot, or none."""

    model_config = example(
        {
            "queries": [
                {"embedding": [0.1, 0.2, 0.3], "k": 5, "filter": {"lang": "en"}},
                {"id": "a-1", "k": 3, "include": []},
            ]
        }
    )

    queries: Annotated[list[SearchQuery], Field(min_length=1, max_length=MAX_QUERIES)]
    explain: Explain = False

    @model_validator(mode="after")
    def _hits_are_bounded(self) -> Self:
        hits = sum(query.k for query in self.queries)
        if hits > MAX_BATCH_HITS:
            raise PydanticCustomError(
                "too_many_hits", "the queries ask for at most {limit} hits together, not {hits}",
                {"limit": MAX_BATCH_HITS, "hits": hits, "within": "/queries"},
            )  # fmt: skip
        return self


class GroupsRequest(SearchOptions, Origin, _FreshBody):
    """One of `embedding`, `query` and `id` says what to look for."""

    model_config = example({"embedding": [0.1, 0.2, 0.3], "group_by": "metadata.author.name", "per_group": 2})

    group_by: Annotated[
        str,
        AfterValidator(_group_field),
        Field(
            description="A field of the metadata: metadata.lang, metadata.author.name.",
            json_schema_extra={"pattern": r"^metadata\.[^.]"},
        ),
    ]
    groups: Annotated[int, Field(ge=1, le=MAX_GROUPS, description="How many groups.")] = 10
    per_group: Annotated[int, Field(ge=1, le=MAX_PER_GROUP, description="How many hits of each.")] = 3
    explain: Explain = False

    @model_validator(mode="after")
    def _hits_are_bounded(self) -> Self:
        if self.groups * self.per_group > MAX_K:
            raise PydanticCustomError(
                "too_many_hits", "groups times per_group is at most {limit}, not {hits}",
                {"limit": MAX_K, "hits": self.groups * self.per_group, "within": "/per_group"},
            )  # fmt: skip
        return self

    def field(self) -> MetadataField:
        return parse_metadata_field(self.group_by.removeprefix(_OF_METADATA))


class RecommendRequest(SearchSettings, _FreshBody):
    """Vectors near to the positive examples and not to the negative ones. Stored vectors that serve as examples are
    left out of the hits."""

    model_config = example(
        {"positive": [{"id": "a-1"}, {"embedding": [0.1, 0.2, 0.3]}], "k": 5},
        {"positive": [{"id": "a-1"}], "negative": [{"id": "a-2"}], "strategy": "best_score"},
    )

    positive: Annotated[list[Example], Field(min_length=1, max_length=MAX_EXAMPLES, description="To be near to.")]
    negative: Annotated[list[Example], Field(max_length=MAX_EXAMPLES, description="To be away from.")] = []
    strategy: Annotated[
        Strategy,
        Field(
            description="average_vector: the neighbours of one point, twice the average of the positive examples less "
            "that of the negative ones. best_score: by the nearest positive example, without those that a negative "
            "one is as near to; every vector that matches is compared."
        ),
    ] = "average_vector"
    explain: Explain = False


class CountRequest(_FreshBody):
    model_config = example({"filter": {"lang": "en"}})

    filter: FilterDocument = None


class ScrollRequest(_ShownParts, _FreshBody):
    """A list whose pages neither repeat a vector nor skip one that is there all the time."""

    model_config = example({"filter": {"lang": "en"}, "order_by": "created_at", "direction": "desc", "limit": 50})

    filter: FilterDocument = None
    order_by: Annotated[OrderBy, Field(description="The key; at the same time of creation, the id.")] = "id"
    direction: Annotated[Direction, Field(description="The least first, or the greatest.")] = "asc"
    limit: Limit = DEFAULT_PAGE
    cursor: Cursor | None = None


class ReadParameters(BaseModel):
    """Query parameters of a GET. Unknown ones are refused, as in a body."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    consistency_token: Token | None = None
    timeout_ms: TimeoutMs = DEFAULT_TIMEOUT_MS
    max_staleness_ms: MaxStalenessMs | None = None


class ListParameters(ReadParameters):
    limit: Limit = DEFAULT_PAGE
    cursor: Cursor | None = None


def _moment_of(text: str) -> AsOfMoment:
    try:
        document = parse_json(text.encode())
    except (MalformedJsonError, UnicodeEncodeError) as error:
        raise PydanticCustomError("as_of", "it is not valid JSON: {fault}", {"fault": str(error)}) from error
    try:
        return AsOfMoment.model_validate(document)
    except ValidationError as error:
        fault = error.errors()[0]
        where = "".join(f"{part}: " for part in fault["loc"])
        raise PydanticCustomError("as_of", "{fault}", {"fault": f"{where}{fault['msg']}"}) from error


def _as_of_text(value: str) -> str:
    _moment_of(value)
    return value


AsOfText = Annotated[
    str,
    AfterValidator(_as_of_text),
    Field(description="As in the body of a search, as JSON.", examples=['{"position": 15}']),
]


class _PastParameters(ReadParameters):
    as_of: AsOfText | None = None

    @property
    def moment(self) -> Moment | None:
        return None if self.as_of is None else _moment_of(self.as_of).moment()


class SearchParameters(_ShownParts, _PastParameters):
    """As in the body of a search by text."""

    query: QueryText
    model: ModelName | None = None
    k: K = 10
    filter: Annotated[str, Field(description="As in the body of a search, as JSON.")] | None = None
    ef_search: EfSearch = DEFAULT_EF_SEARCH
    exact: Exact = False
    min_score: MinScore | None = None
    explain: Explain = False

    def as_request(self) -> SearchRequest:
        """
        Raises:
            InvalidFilterError: the filter is not a JSON object.
        """
        given = self.model_dump(include=self.model_fields_set - {"filter", "as_of"})
        return SearchRequest(
            **given,
            filter=None if self.filter is None else _filter_document(self.filter),
            as_of=None if self.as_of is None else _moment_of(self.as_of),
        )


def _filter_document(text: str) -> dict[str, Any]:
    try:
        document = parse_json(text.encode())
    except (MalformedJsonError, UnicodeEncodeError) as error:
        raise InvalidFilterError("", f"the filter is not valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise InvalidFilterError("", "a filter is a JSON object")
    return document


PastVersion = Annotated[int, Field(ge=1, le=2**31 - 1, description="The vector as it was at this version.")]
PastCollection = Annotated[
    UUID,
    Field(description="The collection with this id, whatever name it bore; for collections that were deleted."),
]


class GetVectorParameters(_ShownParts, _PastParameters):
    version: PastVersion | None = None
    collection_id: PastCollection | None = None

    @model_validator(mode="after")
    def _past(self) -> Self:
        if self.collection_id is not None and self.version is None:
            raise PydanticCustomError("collection_id", "collection_id goes with version", {"within": "/collection_id"})
        if self.as_of is not None and self.version is not None:
            raise PydanticCustomError("as_of", "give version or as_of, not both", {"within": "/as_of"})
        return self


class HistoryParameters(ListParameters):
    include: Parts = list(DEFAULT_PARTS)
    embedding_format: ShownEmbedding = "numbers"
    collection_id: PastCollection | None = None


class FeedParameters(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    after: Annotated[
        str | None,
        Field(description="Begin behind this position, or behind the message with this id; not given: from now on."),
    ] = None
    collection: Annotated[Name | None, Field(description="Only events of the collection that bears this name.")] = None
    collection_id: Annotated[UUID | None, Field(description="Only events of this collection.")] = None
    type: Annotated[list[str], Field(max_length=20, description="Only events of these types.")] = []
    include: Parts = list(DEFAULT_PARTS)
    embedding_format: ShownEmbedding = "numbers"

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.collection is not None and self.collection_id is not None:
            raise PydanticCustomError(
                "collection", "give collection or collection_id, not both", {"within": "/collection_id"}
            )
        unknown = [one for one in self.type if one not in EVENT_TYPES]
        if unknown:
            raise PydanticCustomError(
                "event_type", "{given} is no event type; there are {known}",
                {"given": repr(unknown[0]), "known": ", ".join(sorted(EVENT_TYPES)), "within": "/type"},
            )  # fmt: skip
        return self


class ListVectorsParameters(_ShownParts, _PastParameters, ListParameters):
    pass


class FreshnessAnswer(BaseModel):
    position: int = Field(description="All events up to here are in the answer.")
    token: str | None = Field(description="A consistency token, for reads that must not go back in time.")
    age_ms: float = Field(description="Time since the statement, or the poll of a server, that vouches for the answer.")
    parked: int = Field(description="Events of the collection that could not be projected and were set aside.")


class AsOfAnswer(BaseModel):
    """Which moment of the past it is."""

    position: int = Field(description="The collection is as it was once all events up to here had happened.")
    time: datetime = Field(description="Of the event there, or what was asked for; by it vectors have expired or not.")
    snapshot: str | None = Field(default=None, description="Which snapshot answered; none is needed for one vector.")


PastAnswer = Annotated[AsOfAnswer | None, Field(description="Absent of the present.")]

FRESHNESS_EXAMPLE = {"position": 2, "token": "AdIq…", "age_ms": 3.6, "parked": 0}


Score = Annotated[
    float,
    Field(description="Higher is nearer: cosine 1 - d, ip the inner product, l2 1 / (1 + d), d being `distance`."),
]
Distance = Annotated[
    float, Field(description="As pgvector gives it, lower is nearer: for ip the negative inner product.")
]
Version = Annotated[int, Field(description="It counts the vector's events, from 1.")]
Content = Annotated[str | None, Field(description="Absent unless included.")]
Metadata = Annotated[dict[str, Any] | None, Field(description="Absent unless included.")]
Embedding = Annotated[
    list[float] | str | None,
    Field(description="Absent unless included; as `embedding_format` says."),
]
Position = Annotated[int, Field(description="Of the last event in the log that changed it.")]
NextCursor = Annotated[str | None, Field(description="Where the next page begins; null on the last one.")]


class HitAnswer(BaseModel):
    id: str
    score: Score
    distance: Distance
    content: Content = None
    metadata: Metadata = None
    embedding: Embedding = None
    version: Version


class ExplainAnswer(BaseModel):
    scan: str = Field(description="index, exact, or finished_exactly (the index scan found too few).")
    generation: int
    indexes: list[str] = Field(description="The indexes that the plan uses.")
    planning_ms: float
    execution_ms: float
    plan: dict[str, Any] = Field(description="PostgreSQL's plan, with what happened in each of its nodes.")
    server: str
    role: Literal["replica", "primary"]
    kept: Literal["l1", "l2"] | None = Field(description="Where an answer was kept that still holds.")
    failed_reads: int = Field(description="Reads of other servers that failed before this one.")
    choice_ms: float = Field(description="Choosing the server, waiting for the consistency token included.")
    cache_ms: float
    read_ms: float = Field(description="Reading, the explanation included.")


HIT_EXAMPLE = {
    "id": "a-1",
    "score": 0.996,
    "distance": 0.004,
    "version": 1,
    "content": "Wing flutter",
    "metadata": {"lang": "en"},
}


class SearchResult(BaseModel):
    model_config = example({"hits": [HIT_EXAMPLE], "complete": True})

    hits: Annotated[list[HitAnswer], Field(description="The nearest first; at the same distance in order of id.")]
    complete: bool = Field(description="There are k hits, or no more that match.")
    truncated: bool | None = Field(
        default=None,
        description="Of a search by text: the query is longer than the model sees.",
    )
    explain: ExplainAnswer | None = Field(default=None, description="With `explain: true`.")


class _SearchedAnswer(BaseModel):
    collection: AnsweringCollection
    as_of: PastAnswer = None
    freshness: FreshnessAnswer
    cached: bool = Field(description="The answer was kept from an earlier request.")
    took_ms: float = Field(description="In the query service, waiting for the token included.")


SEARCHED_EXAMPLE = {"collection": "articles", "freshness": FRESHNESS_EXAMPLE, "cached": False, "took_ms": 4.8}


class SearchAnswer(_SearchedAnswer, SearchResult):
    model_config = example({"hits": [HIT_EXAMPLE], "complete": True, **SEARCHED_EXAMPLE})


class SearchBatchAnswer(_SearchedAnswer):
    model_config = example({"results": [{"hits": [HIT_EXAMPLE], "complete": True}], **SEARCHED_EXAMPLE})

    results: Annotated[list[SearchResult], Field(description="Of each query, in their order.")]


class GroupAnswer(BaseModel):
    value: str | int | float | bool = Field(description="What the hits have in the field, or in an array there.")
    hits: Annotated[list[HitAnswer], Field(description="The nearest first; at the same distance in order of id.")]


class GroupsAnswer(_SearchedAnswer):
    model_config = example({"groups": [{"value": "Ada", "hits": [HIT_EXAMPLE]}], "complete": True, **SEARCHED_EXAMPLE})

    groups: Annotated[list[GroupAnswer], Field(description="In order of their nearest hits.")]
    complete: bool = Field(
        description="There are as many groups, and as many hits in each, as were asked for, or no more that match."
    )
    truncated: bool | None = Field(
        default=None, description="Of a search by text: the query is longer than the model sees."
    )
    explain: ExplainAnswer | None = Field(default=None, description="With `explain: true`.")


class VectorItem(BaseModel):
    id: str
    content: Content = None
    metadata: Metadata = None
    embedding: Embedding = None
    version: Version
    created_at: datetime
    updated_at: datetime
    position: Position
    expires_at: datetime | None = Field(
        description="The instant from which on no answer shows it, if it has one of its own; its collection may have a "
        "retention besides."
    )


VECTOR_EXAMPLE = {
    "id": "a-1",
    "content": "Wing flutter",
    "metadata": {"lang": "en"},
    "version": 1,
    "created_at": "2026-01-05T08:30:00.123456Z",
    "updated_at": "2026-01-05T08:30:00.123456Z",
    "position": 2,
    "expires_at": None,
}


class VectorAnswer(VectorItem):
    model_config = example({**VECTOR_EXAMPLE, "collection": "articles", "freshness": FRESHNESS_EXAMPLE})

    collection: str | None = Field(
        default=None,
        description="The collection's own name, also where the request named it by an alias; absent of a past version.",
    )
    as_of: PastAnswer = None
    freshness: FreshnessAnswer


class SkipItem(BaseModel):
    """The decision that an event which could not be projected is passed over: searches are as if it had not been."""

    position: int = Field(description="Of the decision, in the log.")
    timestamp: datetime
    actor: str | None = Field(description="Who decided it.")
    reason: str | None = Field(description="Why, in their words.")


class EventItem(BaseModel):
    """One event. `changed` names what it set; `data` has the new values of those parts that were asked for."""

    position: int = Field(description="In the log: positions have no gaps and are in the order of commits.")
    version: int = Field(description="Of the vector, once this had happened.")
    event_id: UUID
    event_type: str
    timestamp: datetime
    collection_id: UUID
    actor: str | None = Field(description="Who caused it.")
    request_id: str | None = Field(description="Through which request.")
    correlation_id: str | None
    causation_id: str | None
    id: str | None = Field(description="The vector's; null for an event of a collection.")
    changed: list[str] = Field(description="What the event set.")
    embeddings: list[EmbeddingSpec] = Field(description="What made the embeddings that the event brought.")
    data: dict[str, Any] = Field(
        description="The new values of what it set and `include` names. If it brought several embeddings, `embedding` "
        "is the first, and `embeddings` has all, in the order of the models."
    )
    unreadable: str | None = Field(default=None, description="Why this version of the software cannot read it, if so.")
    skipped: SkipItem | None = Field(default=None, description="The decision to pass over it, if there is one.")


class HistoryAnswer(BaseModel):
    model_config = example(
        {
            "items": [
                {
                    "position": 2,
                    "version": 1,
                    "event_id": "019a7f52-7b1e-7c55-8f3a-4e2f9b2d6c81",
                    "event_type": "VectorCreated",
                    "timestamp": "2026-01-05T08:30:00.123456Z",
                    "collection_id": "019a7f52-6d0c-7a33-9d2e-3f1f8a1c5b70",
                    "actor": "anonymous",
                    "request_id": "019a7f52-7b1d-7a10-9c4b-2d3e4f506172",
                    "id": "a-1",
                    "changed": ["content", "embedding", "metadata"],
                    "embeddings": [{"provider": "client", "model": "e5-small", "dimension": 3}],
                    "data": {"content": "Wing flutter", "metadata": {"lang": "en"}},
                }
            ],
            "next_cursor": "Amhp…",
            "freshness": FRESHNESS_EXAMPLE,
        }
    )

    items: list[EventItem]
    next_cursor: NextCursor
    freshness: FreshnessAnswer


class VectorListAnswer(BaseModel):
    model_config = example(
        {
            "items": [VECTOR_EXAMPLE],
            "next_cursor": "Anci…",
            "collection": "articles",
            "freshness": FRESHNESS_EXAMPLE,
        }
    )

    items: list[VectorItem]
    next_cursor: NextCursor
    collection: AnsweringCollection
    as_of: PastAnswer = None
    freshness: FreshnessAnswer


class CountAnswer(BaseModel):
    model_config = example({"count": 1, "exact": True, "collection": "articles", "freshness": FRESHNESS_EXAMPLE})

    count: int
    exact: bool = Field(description="True: every vector that matches was counted.")
    collection: AnsweringCollection
    as_of: PastAnswer = None
    freshness: FreshnessAnswer


class ActiveGenerationItem(BaseModel):
    """What searches read; it follows what the collection is to be."""

    generation: int
    metric: Metric
    type: VectorType
    index: IndexSpec
    month_partitions: bool
    lists: int | None = Field(description="How many lists an IVFFlat index has.")
    indexed: bool = Field(description="The index is there. Until then searches are exact.")


class PendingChangeItem(BaseModel):
    """A change of the tables that is not there yet; until then searches go on as `active` says."""

    state: Literal["waiting", "running", "failed"] = Field(
        description="waiting: it is not begun. running: the log is folded into new tables, then they are indexed. "
        "failed: it is tried again later, and at once when something else is asked for."
    )
    generation: int | None = Field(description="The one that is made, or could not be made.")
    position: int | None = Field(description="The new tables hold every event up to here.")
    target: int = Field(description="Where the projection stands; the new tables have to get there.")
    reason: str | None = Field(description="Why it failed, or why the last try did.")
    since: datetime = Field(description="When it failed, got on last, or was asked for.")
    from_spec: EmbeddingSpec | None = Field(description="What is searched by, if that is to be another model's.")
    to_spec: EmbeddingSpec | None = Field(
        description="What is to be searched by. While not every vector is embedded under it, the change is waiting."
    )


class MetadataIndexItem(BaseModel):
    field: str = Field(description="As filters name it.")
    type: MetadataIndexType
    state: DeclaredIndexState = Field(
        description="building: until it is made, filters do without. ready: filters use it. failed: it is tried again "
        "by itself."
    )
    reason: str | None = Field(description="Why it failed, or why the last try did.")
    since: datetime = Field(description="When it was made, failed, or was begun or asked for.")


class CollectionItem(BaseModel):
    name: str
    collection_id: UUID
    dimension: int = Field(description="Of the embeddings that are searched, as `model` and `provider`.")
    metric: Metric
    type: VectorType
    index: IndexSpec
    month_partitions: bool = Field(description="The tables are divided by the month in which vectors were created.")
    metadata_indexes: list[MetadataIndexItem] = Field(
        description="Indexes over fields of the metadata, as they were asked for, and what has become of each."
    )
    retention_seconds: int | None = Field(description="A vector that was not changed for so long expires.")
    active: ActiveGenerationItem
    change: PendingChangeItem | None = Field(description="Null: the tables are what the collection is to be.")
    model: str | None
    provider: str = Field(description="What embeds its texts; `client`: the embeddings are brought.")
    description: str | None
    version: Annotated[int, Field(description="It counts the events of the collection's stream, from 1.")]
    position: Position
    created_at: datetime
    updated_at: datetime


COLLECTION_EXAMPLE = {
    "name": "articles",
    "collection_id": "019a7f52-6d0c-7a33-9d2e-3f1f8a1c5b70",
    "dimension": 3,
    "metric": "cosine",
    "type": "vector",
    "index": {"kind": "hnsw", "m": 16, "ef_construction": 64},
    "month_partitions": False,
    "metadata_indexes": [
        {"field": "price", "type": "number", "state": "ready", "reason": None, "since": "2026-01-05T08:31:02.345678Z"}
    ],
    "retention_seconds": None,
    "active": {
        "generation": 1,
        "metric": "cosine",
        "type": "vector",
        "index": {"kind": "hnsw", "m": 16, "ef_construction": 64},
        "month_partitions": False,
        "indexed": True,
    },
    "change": None,
    "model": "e5-small",
    "provider": "client",
    "description": "Articles on wings",
    "version": 1,
    "position": 1,
    "created_at": "2026-01-05T08:29:59.654321Z",
    "updated_at": "2026-01-05T08:29:59.654321Z",
}


class CollectionAnswer(CollectionItem):
    model_config = example({**COLLECTION_EXAMPLE, "freshness": FRESHNESS_EXAMPLE})

    freshness: FreshnessAnswer


class CollectionListAnswer(BaseModel):
    model_config = example({"items": [COLLECTION_EXAMPLE], "next_cursor": "AmNv…", "freshness": FRESHNESS_EXAMPLE})

    items: list[CollectionItem]
    next_cursor: NextCursor
    freshness: FreshnessAnswer


class SnapshotItem(BaseModel):
    """The collection as it was once all events up to `position` had happened. Searches ask it with `as_of`."""

    name: str
    position: int
    time: datetime = Field(description="Of the event at `position`.")
    state: Literal["building", "ready", "failed"] = Field(
        description="building: it holds the events up to `built_to` so far. failed: it answers nothing."
    )
    built_to: int
    metric: Metric
    type: VectorType
    index: IndexSpec
    indexed: bool
    generation: int
    reason: str | None = Field(description="Why it failed, or why its last try did.")
    created_at: datetime
    expires_at: datetime = Field(description="It is dropped then.")


class SnapshotListAnswer(BaseModel):
    model_config = example(
        {
            "items": [
                {
                    "name": "release-1",
                    "position": 15,
                    "time": "2026-01-05T08:30:00.123456Z",
                    "state": "ready",
                    "built_to": 15,
                    "metric": "cosine",
                    "type": "vector",
                    "index": {"kind": "hnsw", "m": 16, "ef_construction": 64},
                    "indexed": True,
                    "generation": 2,
                    "reason": None,
                    "created_at": "2026-01-06T10:00:00.654321Z",
                    "expires_at": "2026-01-13T10:00:00.654321Z",
                }
            ],
            "collection": "articles",
            "freshness": FRESHNESS_EXAMPLE,
        }
    )

    items: Annotated[list[SnapshotItem], Field(description="All of them, in order of position.")]
    collection: AnsweringCollection
    freshness: FreshnessAnswer


class AliasListParameters(ListParameters):
    collection: Annotated[Name | None, Field(description="Only aliases of the collection with this name.")] = None


class AliasItem(BaseModel):
    name: str
    collection: str = Field(description="The name of the collection that it stands for.")
    collection_id: UUID
    version: Annotated[int, Field(description="It counts the events of the name, from 1.")]
    position: Annotated[int, Field(description="Of the event that set it.")]
    updated_at: datetime


ALIAS_EXAMPLE = {
    "name": "articles-current",
    "collection": "articles-2026",
    "collection_id": "019a7f52-6d0c-7a33-9d2e-3f1f8a1c5b70",
    "version": 1,
    "position": 9,
    "updated_at": "2026-01-05T08:31:02.345678Z",
}


class AliasAnswer(AliasItem):
    model_config = example({**ALIAS_EXAMPLE, "freshness": FRESHNESS_EXAMPLE})

    freshness: FreshnessAnswer


class AliasListAnswer(BaseModel):
    model_config = example({"items": [ALIAS_EXAMPLE], "next_cursor": "AmFs…", "freshness": FRESHNESS_EXAMPLE})

    items: list[AliasItem]
    next_cursor: NextCursor
    freshness: FreshnessAnswer
