"""What searches look for: embeddings as they are, ids of stored vectors, and texts, which are embedded together by the
model of the tables that are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from events_schema.embedding import EmbeddingSpec, Float32Array
from query_service.errors import RefusedPartError
from query_service.models import Origin, SearchOptions
from query_service.queries import KeptQuery
from query_service.query_bus import Answer, Target
from query_service.search import SearchVectors
from query_service.service import QueryService
from query_service.texts import check_model, embedded_queries
from shared.embedding.errors import ModelMismatchError
from shared.read_model.conditions import Filter
from shared.read_model.filters import InvalidFilterError, parse_filter
from shared.read_model.snapshot import FoundT

_MAX_SWITCHES = 4
"""So often a query is embedded until it is so for what is read."""


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


async def answered(
    service: QueryService,
    target: Target,
    asked: Sequence[Asked],
    query_of: Callable[[Resolved], KeptQuery[FoundT]],
    *,
    model: str | None = None,
    read_anyway: bool = False,
) -> tuple[Resolved, Answer[FoundT]]:
    """What the query that is made of them finds. `model`: of the request as a whole. Where the collection comes to
    another model between their embedding and the reading, they are embedded for that one.

    Raises:
        CollectionNotFoundError, ProjectionParkedError
        ProblemError: a model is not the collection's, or a text cannot be embedded.
        ProviderUnavailableError, TooManyTextsError
        Whatever the query and the bus refuse.
    """
    spec: EmbeddingSpec | None = None
    for tries_left in reversed(range(_MAX_SWITCHES)):
        looked_for = await _resolved(service, target, asked, model, spec)
        try:
            answer = await service.bus.execute_kept(query_of(looked_for), target, read_anyway=read_anyway)
        except ModelMismatchError as error:
            if not tries_left:
                raise
            # Another server may be the next to be asked, and not be as far.
            spec = error.expected
        else:
            return looked_for, answer
    raise AssertionError


async def _resolved(
    service: QueryService, target: Target, asked: Sequence[Asked], model: str | None, spec: EmbeddingSpec | None
) -> Resolved:
    """`spec`: what is to be searched is embedded under it, if that is known."""
    texts = {index: one.origin.query for index, one in enumerate(asked) if one.origin.query is not None}
    models = {f"{one.pointer}/model": one.model for one in asked} | ({"/model": model} if model is not None else {})
    if not texts and not any(models.values()):
        return Resolved([_given(one.origin) for one in asked], [None] * len(asked), None)
    collection = await service.bus.find(target)
    if spec is not None:
        collection = replace(collection, embedding_spec=spec)
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
    looked_for: Resolved,
    number: int,
    wanted: Filter | None,
    *,
    k: int,
    explain: bool,
) -> SearchVectors:
    """For the origin of this number."""
    return SearchVectors(
        origin=looked_for.origins[number],
        k=k,
        filter=wanted,
        ef_search=options.ef_search,
        exact=options.exact,
        min_score=options.min_score,
        include=options.parts(),
        metrics=service.metrics,
        explain=explain,
        spec=looked_for.spec,
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
