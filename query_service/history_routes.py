"""`/vectors/{id}/history`: every event of a vector, and `/vectors/{id}` as it was."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response

from events_schema.streams import vector_stream
from query_service.errors import VectorNotFoundError
from query_service.history import described
from query_service.models import HistoryAnswer, HistoryParameters, include_of
from query_service.requests import HistoryCursor, Service, Tokens, cursor_scope, demand_of, json_answer
from shared.http.application import API_PREFIX, StrictRoute, permission
from shared.http.paths import VectorIdPath, target_name
from shared.http.problems import documented
from shared.principal import Permission
from shared.tokens import MalformedCursorError

_PROBLEMS = ("malformed-token", "malformed-cursor", "wrong-database", "validation", "collection-not-found",
             "vector-not-found", "projection-parked", "not-fresh-enough", "dependency-unavailable",
             "timeout")  # fmt: skip


def history_router(prefix: str, *, named: bool) -> APIRouter:
    """The routes under `prefix`; not `named`: those of the collection `default`."""
    router = APIRouter(prefix=f"{API_PREFIX}{prefix}", tags=["history"], route_class=StrictRoute)
    reads = permission(Permission.VECTORS_READ)
    suffix = "" if named else " in the collection default"

    @router.get(
        "/{id}/history", response_model=HistoryAnswer, openapi_extra=reads,
        summary=f"Every event of a vector, the first one first{suffix}", responses=documented(*_PROBLEMS),
    )  # fmt: skip
    async def history(
        vector_id: VectorIdPath,
        service: Service,
        tokens: Tokens,
        cursor: HistoryCursor,
        parameters: Annotated[HistoryParameters, Query()],
        target: str = target_name(named=named),
    ) -> Response:
        demand = demand_of(tokens, parameters)
        collection_id = await service.collection_id(target, parameters.collection_id, demand)
        stream = vector_stream(collection_id, vector_id)
        if cursor is not None and cursor["stream"] != stream.hex:
            raise MalformedCursorError("the cursor belongs to another list")
        after_version = 0 if cursor is None else cursor["after"]
        tenant = service.principal.tenant
        began = time.monotonic()
        reading = await service.events.history(
            stream, tenant, after_version=after_version, limit=parameters.limit,
            max_bytes=service.max_answer_bytes, demand=demand,
        )  # fmt: skip
        page = reading.found.events
        if not page and cursor is None:
            raise VectorNotFoundError(vector_id)
        next_cursor = None
        if reading.found.more:
            key = {"stream": stream.hex, "after": page[-1].version}
            next_cursor = service.signer.sign_cursor(cursor_scope(tenant, "history"), key)
        skips = await service.events.skips(page, tenant)
        include = include_of(parameters.include, parameters.embedding_format)
        return json_answer(
            {
                "items": [described(event, include, skips.get(event.event_id)) for event in page],
                "next_cursor": next_cursor,
                "freshness": service.freshness(reading.snapshot, began, parked=0),
            }
        )

    return router
