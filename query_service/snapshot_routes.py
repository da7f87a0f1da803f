"""`/collections/{name}/snapshots`: which moments of the past a collection can be searched as of."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response

from query_service.catalogue import LiveCollection
from query_service.models import ReadParameters, SnapshotListAnswer
from query_service.polls import Poll
from query_service.query_bus import Target, resolve
from query_service.requests import Service, Tokens, demand_of, json_answer
from query_service.snapshots import CollectionSnapshot, read_snapshots
from query_service.vector_problems import ANY
from shared.http.application import API_PREFIX, StrictRoute, permission
from shared.http.paths import CollectionName
from shared.http.problems import documented
from shared.postgres import Connection
from shared.principal import Permission

router = APIRouter(prefix=f"{API_PREFIX}/collections", tags=["snapshots"], route_class=StrictRoute)
_reads = permission(Permission.COLLECTIONS_READ)


@router.get(
    "/{name}/snapshots", response_model=SnapshotListAnswer, openapi_extra=_reads,
    summary="List the snapshots of a collection", responses=documented(*ANY),
)  # fmt: skip
async def list_snapshots(
    name: CollectionName, service: Service, tokens: Tokens, parameters: Annotated[ReadParameters, Query()]
) -> Response:
    demand = demand_of(tokens, parameters)
    target = Target(service.principal.tenant, name, demand)

    async def read(connection: Connection, poll: Poll) -> tuple[LiveCollection, int, list[CollectionSnapshot]]:
        collection, parked = resolve(poll, target)
        return collection, parked, await read_snapshots(connection, collection.collection_id)

    poll, (collection, parked, snapshots) = await service.bus.survey(demand, read)
    return json_answer(
        {
            "items": [_item(one) for one in snapshots],
            "collection": collection.name,
            "freshness": service.freshness(poll.snapshot, poll.began, parked),
        }
    )


def _item(snapshot: CollectionSnapshot) -> dict[str, Any]:
    return {
        "name": snapshot.moment.snapshot,
        "position": snapshot.moment.position,
        "time": snapshot.moment.time,
        "state": snapshot.state,
        "built_to": snapshot.position,
        "metric": snapshot.shape.metric,
        "type": snapshot.shape.type,
        "index": snapshot.shape.index.model_dump(),
        "indexed": snapshot.indexed,
        "generation": snapshot.generation,
        "reason": snapshot.reason,
        "created_at": snapshot.created_at,
        "expires_at": snapshot.expires_at,
    }
