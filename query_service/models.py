"""Bodies and parameters of requests, and the answers as they are documented."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from events_schema.collections import IndexSpec, Metric, VectorType
from query_service.freshness import DEFAULT_TIMEOUT_MS, MAX_STALENESS_MS, MAX_TIMEOUT_MS
from query_service.search import DEFAULT_EF_SEARCH, MAX_EF_SEARCH, MAX_K, Include
from shared.embedding_input import EmbeddingInput
from shared.http.fields import VectorId

DEFAULT_PAGE = 100
MAX_PAGE = 1_000


def _no_provider(_value: str) -> str:
    raise PydanticCustomError(
        "embedding_provider", "no embedding provider is configured, so search by `embedding` instead of `query`"
    )


Part = Literal["content", "metadata", "embedding"]
TimeoutMs = Annotated[int, Field(ge=0, le=MAX_TIMEOUT_MS, description="How long to wait for the consistency token.")]
MaxStalenessMs = Annotated[
    int,
    Field(
        ge=0,
        le=MAX_STALENESS_MS,
        description="An answer is welcome whose snapshot was confirmed at most so long before this request; "
        "0: after it. Not given: 20 milliseconds.",
    ),
]

DEFAULT_PARTS: tuple[Part, ...] = ("content", "metadata")


def include_of(parts: Sequence[Part]) -> Include:
    return Include(content="content" in parts, metadata="metadata" in parts, embedding="embedding" in parts)


class _ReadBody(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, arbitrary_types_allowed=True)

    consistency_token: str | None = None
    timeout_ms: TimeoutMs = DEFAULT_TIMEOUT_MS
    max_staleness_ms: MaxStalenessMs | None = None
    filter: dict[str, Any] | None = None


class SearchRequest(_ReadBody):
    """One of `embedding`, `query` and `id` (of a stored vector, itself left out) says what to look for."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"embedding": [0.1, 0.2, 0.3], "k": 5, "filter": {"lang": "en"}}]}
    )

    query: Annotated[str, AfterValidator(_no_provider)] | None = None
    embedding: EmbeddingInput | None = None
    id: VectorId | None = None
    k: Annotated[int, Field(ge=1, le=MAX_K)] = 10
    ef_search: Annotated[int, Field(ge=1, le=MAX_EF_SEARCH)] = DEFAULT_EF_SEARCH
    exact: bool = False
    min_score: Annotated[float, Field(allow_inf_nan=False)] | None = None
    include: list[Part] = list(DEFAULT_PARTS)
    explain: bool = False

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        given = [name for name in ("embedding", "id", "query") if getattr(self, name) is not None]
        if len(given) != 1:
            raise PydanticCustomError(
                "origin", "give one of embedding, id and query, not {given}",
                {"given": " and ".join(given) or "none", "within": f"/{given[-1] if given else 'embedding'}"},
            )  # fmt: skip
        return self


class CountRequest(_ReadBody):
    model_config = ConfigDict(json_schema_extra={"examples": [{"filter": {"lang": "en"}}]})


class ReadParameters(BaseModel):
    """Query parameters of a GET. Unknown ones are refused, as in a body."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    consistency_token: str | None = None
    timeout_ms: TimeoutMs = DEFAULT_TIMEOUT_MS
    max_staleness_ms: MaxStalenessMs | None = None


class ListParameters(ReadParameters):
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = DEFAULT_PAGE
    cursor: str | None = None


class GetVectorParameters(ReadParameters):
    include: list[Part] = list(DEFAULT_PARTS)


class ListVectorsParameters(ListParameters):
    include: list[Part] = list(DEFAULT_PARTS)


class FreshnessAnswer(BaseModel):
    position: int = Field(description="All events up to here are in the answer.")
    token: str | None = Field(description="A consistency token, for reads that must not go back in time.")
    age_ms: float = Field(description="Time since the statement, or the poll of a server, that vouches for the answer.")
    parked: int = Field(description="Events of the collection that could not be projected and were set aside.")


class HitAnswer(BaseModel):
    id: str
    score: float = Field(description="Higher is nearer.")
    distance: float = Field(description="As pgvector gives it: lower is nearer.")
    content: str | None = None
    metadata: dict[str, Any] | None = None
    embedding: list[float] | None = None
    version: int


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


class SearchAnswer(BaseModel):
    hits: list[HitAnswer]
    complete: bool = Field(description="There are k hits, or no more that match.")
    freshness: FreshnessAnswer
    cached: bool
    took_ms: float
    explain: ExplainAnswer | None = Field(default=None, description="With `explain: true`.")


class VectorItem(BaseModel):
    id: str
    content: str | None = None
    metadata: dict[str, Any] | None = None
    embedding: list[float] | None = None
    version: int
    created_at: datetime
    updated_at: datetime
    position: int


class VectorAnswer(VectorItem):
    freshness: FreshnessAnswer


class VectorListAnswer(BaseModel):
    items: list[VectorItem]
    next_cursor: str | None
    freshness: FreshnessAnswer


class CountAnswer(BaseModel):
    count: int
    exact: bool
    freshness: FreshnessAnswer


class CollectionItem(BaseModel):
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
    created_at: datetime
    updated_at: datetime


class CollectionAnswer(CollectionItem):
    freshness: FreshnessAnswer


class CollectionListAnswer(BaseModel):
    items: list[CollectionItem]
    next_cursor: str | None
    freshness: FreshnessAnswer
