"""`/collections`: the catalogue, from a poll."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response

from query_service.catalogue import LiveCollection
from query_service.models import CollectionAnswer, CollectionListAnswer, ListParameters, ReadParameters
from query_service.query_bus import Target, resolve
from query_service.requests import (
    CollectionCursor,
    CollectionName,
    Service,
    Tokens,
    cursor_scope,
    demand_of,
    json_answer,
)
from shared.http.application import API_PREFIX, StrictRoute, permission
from shared.http.problems import documented
from shared.principal import Permission

_ANY = (
    "malformed-token",
    "wrong-database",
    "validation",
    "not-fresh-enough",
    "dependency-unavailable",
    "overloaded",
    "timeout",
)

router = APIRouter(prefix=f"{API_PREFIX}/collections", tags=["collections"], route_class=StrictRoute)
_reads = permission(Permission.COLLECTIONS_READ)


@router.get(
    "", response_model=CollectionListAnswer, openapi_extra=_reads, summary="List the collections in order of name",
    responses=documented(*_ANY, "malformed-cursor"),
)  # fmt: skip
async def list_collections(
    service: Service, tokens: Tokens, cursor: CollectionCursor, parameters: Annotated[ListParameters, Query()]
) -> Response:
    tenant = service.principal.tenant
    poll = await service.bus.poll(demand_of(tokens, parameters))
    after = "" if cursor is None else cursor["after"]
    collections = poll.catalogue.of_tenant(tenant)
    rest = [collection for collection in collections if collection.name > after]
    page = rest[: parameters.limit]
    more = len(rest) > len(page)
    ids = {collection.collection_id for collection in collections}
    parked = sum(of in ids for of, _ in poll.parked)
    return json_answer(
        {
            "items": [_item(collection) for collection in page],
            "next_cursor": service.signer.sign_cursor(cursor_scope(tenant, "collections"), {"after": page[-1].name})
            if more
            else None,
            "freshness": service.freshness(poll.snapshot, poll.began, parked),
        }
    )


@router.get(
    "/{name}", response_model=CollectionAnswer, openapi_extra=_reads, summary="A collection",
    responses=documented(*_ANY, "collection-not-found", "projection-parked"),
)  # fmt: skip
async def get_collection(
    name: CollectionName, service: Service, tokens: Tokens, parameters: Annotated[ReadParameters, Query()]
) -> Response:
    demand = demand_of(tokens, parameters)
    poll = await service.bus.poll(demand)
    collection, parked = resolve(poll, Target(service.principal.tenant, name, demand))
    document = {**_item(collection), "freshness": service.freshness(poll.snapshot, poll.began, parked)}
    return json_answer(document, etag=collection.version)


def _item(collection: LiveCollection) -> dict[str, Any]:
    return {
        "name": collection.name,
        "collection_id": str(collection.collection_id),
        "dimension": collection.declared.embedding_spec.dimension,
        "metric": collection.declared.metric,
        "type": collection.declared.type,
        "index": collection.declared.index.model_dump(),
        "active": {
            "generation": collection.generation,
            "metric": collection.metric,
            "type": collection.type,
            "index": collection.index.model_dump(),
            "lists": collection.lists,
            "indexed": collection.indexed,
        },
        "model": collection.declared.embedding_spec.model,
        "provider": collection.declared.embedding_spec.provider,
        "description": collection.description,
        "version": collection.version,
        "position": collection.position,
        "created_at": collection.created_at,
        "updated_at": collection.updated_at,
    }
