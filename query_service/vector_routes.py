"""`/vectors`: get, list and count, in a named collection or in `default`."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response

from query_service.answers import shown
from query_service.errors import VectorNotFoundError
from query_service.history import past_document, past_vector
from query_service.models import (
    CountAnswer,
    CountRequest,
    GetVectorParameters,
    ListVectorsParameters,
    VectorAnswer,
    VectorListAnswer,
)
from query_service.origins import filter_of
from query_service.records import CountVectors, GetVector, ListVectors
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
from query_service.vector_problems import ANY, WITH_BODY
from shared.http.application import API_PREFIX, StrictRoute, permission
from shared.http.problems import documented
from shared.principal import Permission


def vector_router(prefix: str, *, named: bool) -> APIRouter:
    """The routes under `prefix`; not `named`: those of the collection `default`."""
    router = APIRouter(prefix=f"{API_PREFIX}{prefix}", tags=["vectors"], route_class=StrictRoute)
    reads = permission(Permission.VECTORS_READ)
    target_of = target_name(named=named)
    suffix = "" if named else " in the collection default"

    @router.post(
        "/count", response_model=CountAnswer, openapi_extra=reads, summary=f"Count the vectors that match{suffix}",
        responses=documented(*ANY, *WITH_BODY),
    )  # fmt: skip
    async def count(body: CountRequest, service: Service, tokens: Tokens, target: str = target_of) -> Response:
        query = CountVectors(filter_of(body.filter))
        answer = await service.read_kept(query, target, demand_of(tokens, body))
        return json_answer({"count": answer.found, "exact": True, "freshness": service.freshness_of(answer)})

    @router.get(
        "", response_model=VectorListAnswer, openapi_extra=reads, summary=f"List the vectors in order of id{suffix}",
        responses=documented(*ANY, "malformed-cursor"),
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
                "items": [shown(vector, query.include) for vector in answer.found.vectors],
                "next_cursor": next_cursor,
                "freshness": service.freshness_of(answer),
            }
        )

    @router.get(
        "/{id}", response_model=VectorAnswer, openapi_extra=reads, summary=f"A vector{suffix}",
        responses=documented(*ANY, "vector-not-found"),
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
        document = {**shown(answer.found, query.include), "freshness": service.freshness_of(answer)}
        return json_answer(document, etag=answer.found.version)

    return router
