"""Answers of the API. Members that this client does not know are kept, so that they can be shown."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class _Answer(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class CollectionIndex(_Answer):
    kind: Literal["hnsw", "ivfflat", "none"]
    m: int | None = None
    ef_construction: int | None = None
    lists: int | None = None


class ActiveGeneration(_Answer):
    """What searches read; without its index they are exact."""

    generation: int
    indexed: bool


class DescribedCollection(_Answer):
    name: str
    collection_id: str
    dimension: int
    metric: Literal["cosine", "l2", "ip"]
    type: Literal["vector", "halfvec"]
    index: CollectionIndex
    model: str | None = None
    provider: str = "client"
    """What embeds its texts; `client`: the embeddings are brought."""
    description: str | None = None
    version: int


class Collection(DescribedCollection):
    """As reads show it."""

    active: ActiveGeneration


class CreatedCollection(DescribedCollection):
    position: int
    consistency_token: str


class CollectionPage(_Answer):
    items: list[Collection]
    next_cursor: str | None = None


class OperationResult(_Answer):
    index: int
    op: str
    id: str
    result: Literal["created", "updated", "deleted", "unchanged"]
    version: int
    position: int
    truncated: bool = False
    """The content is longer than the model sees."""


class BatchAnswer(_Answer):
    results: list[OperationResult]
    first_position: int
    last_position: int
    consistency_token: str


class Hit(_Answer):
    """`score`: higher is nearer; `distance` as pgvector gives it."""

    id: str
    score: float
    distance: float
    content: str | None = None
    metadata: dict[str, Any] | None = None
    version: int


class Freshness(_Answer):
    """The answer holds every event up to `position`; `token` lets a later read not go back behind it."""

    position: int
    token: str | None = None
    age_ms: float | None = None


class SearchAnswer(_Answer):
    hits: list[Hit]
    complete: bool
    freshness: Freshness
    cached: bool = False
    took_ms: float
    truncated: bool | None = None
    """Of a search by text: the query is longer than the model sees."""
