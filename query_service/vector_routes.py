"""`/vectors`: get, list and count, in a named collection or in `default`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi.responses import Response

from query_service.answers import origin, shown
from query_service.as_of import AsOf
from query_service.errors import VectorNotFoundError
from query_service.history import past_document, past_vector, stored_embedding, vector_at
from query_service.models import (
    CountAnswer,
    CountRequest,
    GetVectorParameters,
    ListVectorsParameters,
    ScrollRequest,
    VectorAnswer,
    VectorListAnswer,
)
from query_service.origins import filter_of
from query_service.pages import LIST, page_of
from query_service.parts import Include
from query_service.records import CountVectors, GetVector
from query_service.requests import Service, Tokens, cursor_of, demand_of, json_answer
from query_service.scroll import ScrollVectors
from query_service.service import QueryService
from query_service.vector_problems import ANY, PAST, WITH_BODY
from shared.http.application import API_PREFIX, StrictRoute, permission
from shared.http.paths import VectorIdPath, target_name
from shared.http.problems import documented
from shared.past_vectors import PastState
from shared.principal import Permission
from shared.read_model.snapshot import Reading

VectorCursor = Annotated[dict[str, Any] | None, cursor_of(LIST)]


def vector_router(prefix: str, *, named: bool) -> APIRouter:
    """The routes under `prefix`; not `named`: those of the collection `default`."""
    router = APIRouter(prefix=f"{API_PREFIX}{prefix}", tags=["vectors"], route_class=StrictRoute)
    reads = permission(Permission.VECTORS_READ)
    target_of = target_name(named=named)
    suffix = "" if named else " in the collection default"

    @router.post(
        "/count", response_model=CountAnswer, openapi_extra=reads, summary=f"Count the vectors that match{suffix}",
        responses=documented(*ANY, *WITH_BODY, *PAST),
    )  # fmt: skip
    async def count(body: CountRequest, service: Service, tokens: Tokens, target: str = target_of) -> Response:
        query = CountVectors(filter_of(body.filter))
        answer = await service.read_kept(query, target, demand_of(tokens, body), body.moment)
        return json_answer({"count": answer.found, "exact": True, **origin(service, answer)})

    @router.get(
        "", response_model=VectorListAnswer, openapi_extra=reads, summary=f"List the vectors in order of id{suffix}",
        responses=documented(*ANY, *PAST, "malformed-cursor"),
    )  # fmt: skip
    async def list_vectors(
        service: Service,
        tokens: Tokens,
        cursor: VectorCursor,
        parameters: Annotated[ListVectorsParameters, Query()],
        target: str = target_of,
    ) -> Response:
        query = ScrollVectors(None, None, parameters.limit, parameters.parts(), max_bytes=service.max_answer_bytes)
        demand = demand_of(tokens, parameters)
        return json_answer(await page_of(service, target, demand, query, cursor, parameters.moment))

    @router.post(
        "/scroll", response_model=VectorListAnswer, openapi_extra=reads,
        summary=f"List the vectors that match, page by page{suffix}",
        responses=documented(*ANY, *WITH_BODY, *PAST, "malformed-cursor"),
    )  # fmt: skip
    async def scroll(
        body: ScrollRequest, service: Service, tokens: Tokens, cursor: VectorCursor, target: str = target_of
    ) -> Response:
        query = ScrollVectors(
            None,
            None,
            body.limit,
            body.parts(),
            filter_of(body.filter),
            body.order_by,
            body.direction,
            service.max_answer_bytes,
        )
        return json_answer(await page_of(service, target, demand_of(tokens, body), query, cursor, body.moment))

    @router.get(
        "/{id}", response_model=VectorAnswer, openapi_extra=reads, summary=f"A vector{suffix}",
        responses=documented(*ANY, *PAST, "vector-not-found"),
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
        moment, began = parameters.moment, time.monotonic()
        tenant = service.principal.tenant
        if parameters.version is not None:
            collection_id = await service.collection_id(target, parameters.collection_id, demand)
            past = await past_vector(service.events, tenant, collection_id, vector_id, parameters.version, demand)
            return await _past_answer(service, collection_id, past, past.found.position, include, began)
        if moment is not None and moment.snapshot is None:
            # The log itself has it, of any moment, and no snapshot is needed.
            collection = await service.collection(target, demand)
            stretch = await AsOf(service.events, moment, demand).stretch(collection)
            past = await vector_at(service.events, tenant, collection.collection_id, vector_id, stretch, demand)
            as_of = {"collection": collection.name, "as_of": {"position": stretch.position, "time": stretch.time}}
            return await _past_answer(service, collection.collection_id, past, stretch.position, include, began, as_of)
        query = GetVector(vector_id, include)
        answer = await service.read(query, target, demand, moment)
        if answer.found is None:
            raise VectorNotFoundError(vector_id)
        document = {**shown(answer.found, query.include), **origin(service, answer)}
        return json_answer(document, etag=answer.found.version)

    return router


async def _past_answer(
    service: QueryService,
    collection_id: UUID,
    past: Reading[PastState],
    position: int,
    include: Include,
    began: float,
    as_of: Mapping[str, Any] | None = None,
) -> Response:
    """The vector as it was, with the embedding that it was searched by at this position."""
    stored = None
    if include.embedding:
        stored = await stored_embedding(service.events, collection_id, past.found, position)
    freshness = service.freshness(past.snapshot, began, parked=0)
    document = {**past_document(past.found, include, stored), **(as_of or {}), "freshness": freshness}
    return json_answer(document, etag=past.found.version)
