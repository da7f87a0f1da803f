"""What searches look for: embeddings as they are, ids of stored vectors, and texts, which are embedded together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from events_schema.embedding import EmbeddingSpec, Float32Array
from query_service.errors import RefusedPartError
from query_service.models import Origin, SearchOptions
from query_service.search import SearchVectors
from query_service.service import QueryService
from query_service.texts import check_model, embedded_queries
from shared.freshness import Demand
from shared.read_model.conditions import Filter
from shared.read_model.filters import InvalidFilterError, parse_filter


@dataclass(frozen=True, slots=True)
class Asked:
    """`pointer` is its address in the request; `model` what made its embedding, if that is to be checked."""

    pointer: str
    origin: Origin
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Resolved:
    """`origins`: each an embedding, float32, shape (dimension,), or the id of a stored vector. `truncated`: whether a
    text is longer than the model sees; None: it is no text. `spec`: what they were embedded under, if that is known."""

    origins: Sequence[Float32Array | str]
    truncated: Sequence[bool | None]
    spec: EmbeddingSpec | None


async def resolved(
    service: QueryService, target: str, demand: Demand, asked: Sequence[Asked], *, model: str | None = None
) -> Resolved:
    """`model`: of the request as a whole.

    Raises:
        CollectionNotFoundError, ProjectionParkedError
        ProblemError: a model is not the collection's, or a text cannot be embedded.
        ProviderUnavailableError, TooManyTextsError
    """
    texts = {index: one.origin.query for index, one in enumerate(asked) if one.origin.query is not None}
    models = {f"{one.pointer}/model": one.model for one in asked} | ({"/model": model} if model is not None else {})
    if not texts and not any(models.values()):
        return Resolved([_given(one.origin) for one in asked], [None] * len(asked), None)
    collection = await service.collection(target, demand)
    for pointer, named in models.items():
        if named is not None:
            check_model(collection, named, pointer)
    queries = [(f"{asked[index].pointer}/query", text) for index, text in texts.items()]
    embeddings = await embedded_queries(service.embedder, collection, queries)
    embedded = dict(zip(texts, embeddings, strict=True))
    return Resolved(
        [embedded[at].numbers if at in embedded else _given(one.origin) for at, one in enumerate(asked)],
        [embedded[at].truncated if at in embedded else None for at in range(len(asked))],
        collection.embedding_spec,
    )


def _given(origin: Origin) -> Float32Array | str:
    given: Float32Array | str | None = origin.id if origin.embedding is None else origin.embedding
    assert given is not None
    return given


def search_of(
    service: QueryService,
    options: SearchOptions,
    origin: Float32Array | str,
    wanted: Filter | None,
    spec: EmbeddingSpec | None,
    *,
    k: int,
    explain: bool,
) -> SearchVectors:
    return SearchVectors(
        origin=origin,
        k=k,
        filter=wanted,
        ef_search=options.ef_search,
        exact=options.exact,
        min_score=options.min_score,
        include=options.parts(),
        metrics=service.metrics,
        explain=explain,
        spec=spec,
        max_bytes=service.max_answer_bytes,
    )


def filter_of(document: Any, pointer: str = "") -> Filter | None:
    """
    Raises:
        InvalidFilterError, RefusedPartError: of one, where the request has several.
    """
    try:
        return None if document is None else parse_filter(document)
    except InvalidFilterError as error:
        if not pointer:
            raise
        raise RefusedPartError(pointer, error) from error
