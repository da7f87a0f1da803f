"""`/vectors`: search, get, list and count, in a named collection or in `default`."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response

from events_schema.embedding import Float32Array
from query_service.errors import VectorNotFoundError
from query_service.history import past_document, past_vector
from query_service.models import (
    CountAnswer,
    CountRequest,
    GetVectorParameters,
    ListVectorsParameters,
    SearchAnswer,
    SearchParameters,
    SearchRequest,
    VectorAnswer,
    VectorListAnswer,
)
from query_service.parts import Include
from query_service.query_bus import Route
from query_service.records import CountVectors, GetVector, ListVectors, StoredVector
from query_service.requests import (
    Service,
    Tokens,
    VectorCursor,
    VectorIdPath,
    cursor_scope,
    demand_of,
    json_answer,
    target_name,
)
from query_service.search import Hit, Hits, SearchVectors
from query_service.service import QueryService
from query_service.texts import check_model, embedded_query
from shared.http.application import API_PREFIX, StrictRoute, permission
from shared.http.problems import documented
from shared.principal import Permission
from shared.read_model.conditions import Filter
from shared.read_model.filters import parse_filter

_ANY = ("malformed-token", "wrong-database", "validation", "collection-not-found", "projection-parked",
        "not-fresh-enough", "dependency-unavailable", "overloaded", "timeout")  # fmt: skip
_BODY = ("malformed-json", "body-too-large", "unsupported-media-type", "invalid-filter")


def vector_router(prefix: str, *, named: bool) -> APIRouter:
    """The routes under `prefix`; not `named`: those of the collection `default`."""
    router = APIRouter(prefix=f"{API_PREFIX}{prefix}", tags=["vectors"], route_class=StrictRoute)
    reads = permission(Permission.VECTORS_READ)
    target_of = target_name(named=named)
    suffix = "" if named else " in the collection default"

    @router.post(
        "/search", response_model=SearchAnswer, openapi_extra=reads, summary=f"Find the nearest vectors{suffix}",
        responses=documented(*_ANY, *_BODY, "dimension-mismatch", "not-finite", "zero-vector", "model-mismatch",
                             "vector-not-found"),
    )  # fmt: skip
    async def search(body: SearchRequest, service: Service, tokens: Tokens, target: str = target_of) -> Response:
        return await _search(body, service, tokens, target)

    @router.get(
        "/search", response_model=SearchAnswer, openapi_extra=reads,
        summary=f"Find the vectors nearest to a text{suffix}",
        responses=documented(*_ANY, "invalid-filter", "model-mismatch", "not-finite", "zero-vector"),
    )  # fmt: skip
    async def search_by_text(
        service: Service,
        tokens: Tokens,
        parameters: Annotated[SearchParameters, Query()],
        target: str = target_of,
    ) -> Response:
        return await _search(parameters.as_request(), service, tokens, target)

    @router.post(
        "/count", response_model=CountAnswer, openapi_extra=reads, summary=f"Count the vectors that match{suffix}",
        responses=documented(*_ANY, *_BODY),
    )  # fmt: skip
    async def count(body: CountRequest, service: Service, tokens: Tokens, target: str = target_of) -> Response:
        query = CountVectors(_filter(body.filter))
        answer = await service.read_kept(query, target, demand_of(tokens, body))
        return json_answer({"count": answer.found, "exact": True, "freshness": service.freshness_of(answer)})

    @router.get(
        "", response_model=VectorListAnswer, openapi_extra=reads, summary=f"List the vectors in order of id{suffix}",
        responses=documented(*_ANY, "malformed-cursor"),
    )  # fmt: skip
    async def list_vectors(
        service: Service,
        tokens: Tokens,
        cursor: VectorCursor,
        parameters: Annotated[ListVectorsParameters, Query()],
        target: str = target_of,
    ) -> Response:
        query = ListVectors(
            after="" if cursor is None else cursor["after"],
            of_collection=None if cursor is None else cursor["collection_id"],
            limit=parameters.limit,
            include=parameters.parts(),
            max_bytes=service.max_answer_bytes,
        )
        answer = await service.read(query, target, demand_of(tokens, parameters))
        next_cursor = None
        if answer.found.more:
            key = {"collection_id": answer.collection.collection_id.hex, "after": answer.found.vectors[-1].id}
            next_cursor = service.signer.sign_cursor(cursor_scope(service.principal.tenant, "vectors"), key)
        return json_answer(
            {
                "items": [_parts(vector, query.include) for vector in answer.found.vectors],
                "next_cursor": next_cursor,
                "freshness": service.freshness_of(answer),
            }
        )

    @router.get(
        "/{id}", response_model=VectorAnswer, openapi_extra=reads, summary=f"A vector{suffix}",
        responses=documented(*_ANY, "vector-not-found"),
    )  # fmt: skip
    async def get_vector(
        vector_id: VectorIdPath,
        service: Service,
        tokens: Tokens,
        parameters: Annotated[GetVectorParameters, Query()],
        target: str = target_of,
    ) -> Response:
        demand = demand_of(tokens, parameters)
        include = parameters.parts()
        if parameters.version is not None:
            collection_id = await service.collection_id(target, parameters.collection_id, demand)
            tenant, began = service.principal.tenant, time.monotonic()
            past = await past_vector(service.events, tenant, collection_id, vector_id, parameters.version, demand)
            freshness = service.freshness(past.snapshot, began, parked=0)
            return json_answer({**past_document(past.found, include), "freshness": freshness}, etag=past.found.version)
        query = GetVector(vector_id, include)
        answer = await service.read(query, target, demand)
        if answer.found is None:
            raise VectorNotFoundError(vector_id)
        document = {**_parts(answer.found, query.include), "freshness": service.freshness_of(answer)}
        return json_answer(document, etag=answer.found.version)

    return router


async def _search(body: SearchRequest, service: QueryService, tokens: Tokens, target: str) -> Response:
    started = time.monotonic()
    demand = demand_of(tokens, body)
    wanted = _filter(body.filter)
    origin: Float32Array | str | None = body.id if body.embedding is None else body.embedding
    spec, of_text = None, {}
    if body.model is not None or body.query is not None:
        collection = await service.collection(target, demand)
        spec = collection.embedding_spec
        if body.model is not None:
            check_model(collection, body.model)
        if body.query is not None:
            embedded = await embedded_query(service.embedder, collection, body.query)
            origin, of_text = embedded.numbers, {"truncated": embedded.truncated}
    assert origin is not None
    query = SearchVectors(
        origin=origin,
        k=body.k,
        filter=wanted,
        ef_search=body.ef_search,
        exact=body.exact,
        min_score=body.min_score,
        include=body.parts(),
        max_bytes=service.max_answer_bytes,
        metrics=service.metrics,
        explain=body.explain,
        spec=spec,
    )
    answer = await service.read_kept(query, target, demand, read_anyway=body.explain)
    found = answer.found
    if found is None:
        assert body.id is not None
        raise VectorNotFoundError(body.id)
    return json_answer(
        {
            "hits": [_parts(hit, query.include) for hit in found.hits],
            "complete": found.complete,
            "freshness": service.freshness_of(answer),
            "cached": answer.cached,
            "took_ms": _milliseconds(time.monotonic() - started),
            **of_text,
            **({"explain": _explained(found, answer.route)} if body.explain else {}),
        }
    )


def _explained(found: Hits, route: Route) -> dict[str, Any]:
    assert route.server is not None
    return {
        **(found.explanation or {}),
        "server": route.server.name,
        "role": "primary" if route.server.is_primary else "replica",
        "kept": route.kept_in,
        "failed_reads": route.failed_reads,
        "choice_ms": _milliseconds(route.choice_seconds),
        "cache_ms": _milliseconds(route.cache_seconds),
        "read_ms": _milliseconds(route.read_seconds),
    }


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 2)


def _filter(document: Any) -> Filter | None:
    return None if document is None else parse_filter(document)


_SHOWN = ("content", "metadata", "embedding")


def _parts(found: Hit | StoredVector, include: Include) -> dict[str, Any]:
    """Without what was not asked for."""
    document = {name: getattr(found, name) for name in found.__slots__ if name not in _SHOWN}
    return document | include.shown(found.content, found.metadata, found.embedding)
