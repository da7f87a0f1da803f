"""`/collections`: the catalogue, from a poll."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response

from query_service.catalogue import LiveCollection
from query_service.models import CollectionAnswer, CollectionListAnswer, ListParameters, ReadParameters
from query_service.pending_changes import Noted, PendingChange, pending_change, read_noted
from query_service.polls import Poll
from query_service.query_bus import Target, resolve
from query_service.requests import CollectionCursor, Service, Tokens, cursor_scope, demand_of, json_answer
from shared.http.application import API_PREFIX, StrictRoute, permission
from shared.http.paths import CollectionName
from shared.http.problems import documented
from shared.postgres import Connection
from shared.principal import Permission
from shared.read_model.index_states import DeclaredIndex, read_declared

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
    after = "" if cursor is None else cursor["after"]

    async def read(connection: Connection, poll: Poll) -> tuple[list[LiveCollection], list[LiveCollection], _Noted]:
        collections = poll.catalogue.of_tenant(tenant)
        rest = [collection for collection in collections if collection.name > after]
        return collections, rest, await _read_noted(connection, rest[: parameters.limit])

    poll, (collections, rest, noted) = await service.bus.survey(demand_of(tokens, parameters), read)
    page = rest[: parameters.limit]
    more = len(rest) > len(page)
    ids = {collection.collection_id for collection in collections}
    parked = sum(of in ids for of, _ in poll.parked)
    return json_answer(
        {
            "items": [_item(collection, noted, poll) for collection in page],
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
    target = Target(service.principal.tenant, name, demand)

    async def read(connection: Connection, poll: Poll) -> tuple[LiveCollection, int, _Noted]:
        collection, parked = resolve(poll, target)
        return collection, parked, await _read_noted(connection, [collection])

    poll, (collection, parked, noted) = await service.bus.survey(demand, read)
    document = {**_item(collection, noted, poll), "freshness": service.freshness(poll.snapshot, poll.began, parked)}
    return json_answer(document, etag=collection.version)


@dataclass(frozen=True, slots=True)
class _Noted:
    """What is said of collections beside the poll."""

    generations: Noted
    indexes: Sequence[DeclaredIndex]


async def _read_noted(connection: Connection, collections: Sequence[LiveCollection]) -> _Noted:
    ids = [collection.collection_id for collection in collections]
    return _Noted(await read_noted(connection, collections), await read_declared(connection, ids))


def _item(collection: LiveCollection, noted: _Noted, poll: Poll) -> dict[str, Any]:
    generations = noted.generations.get(collection.collection_id, ())
    change = pending_change(collection, generations, poll.snapshot.low)
    return {
        "name": collection.name,
        "collection_id": str(collection.collection_id),
        "dimension": collection.embedding_spec.dimension,
        "metric": collection.declared.metric,
        "type": collection.declared.type,
        "index": collection.declared.index.model_dump(),
        "month_partitions": collection.declared.month_partitions,
        "metadata_indexes": [
            {"field": one.field, "type": one.type, "state": one.state, "reason": one.reason, "since": one.since}
            for one in noted.indexes
            if one.collection_id == collection.collection_id
        ],
        "retention_seconds": collection.retention_seconds,
        "active": {
            "generation": collection.generation,
            "metric": collection.metric,
            "type": collection.type,
            "index": collection.index.model_dump(),
            "month_partitions": collection.month_partitions,
            "lists": collection.lists,
            "indexed": collection.indexed,
        },
        "change": None if change is None else _shown(change),
        "model": collection.embedding_spec.model,
        "provider": collection.embedding_spec.provider,
        "description": collection.description,
        "version": collection.version,
        "position": collection.position,
        "created_at": collection.created_at,
        "updated_at": collection.updated_at,
    }


def _shown(change: PendingChange) -> dict[str, Any]:
    specs = {"from_spec": change.from_spec, "to_spec": change.to_spec}
    return {**asdict(change), **{name: None if one is None else one.model_dump() for name, one in specs.items()}}
