"""`/aliases`: other names of collections, from a poll."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response

from query_service.catalogue import Alias, LiveCollection
from query_service.errors import AliasNotFoundError
from query_service.models import AliasAnswer, AliasListAnswer, AliasListParameters, ReadParameters
from query_service.query_bus import refuse_parked
from query_service.requests import AliasCursor, Service, Tokens, cursor_scope, demand_of, json_answer
from shared.http.application import API_PREFIX, StrictRoute, permission
from shared.http.paths import AliasName
from shared.http.problems import documented
from shared.principal import Permission

_ANY = ("malformed-token", "wrong-database", "validation", "projection-parked", "not-fresh-enough",
        "dependency-unavailable", "overloaded", "timeout")  # fmt: skip

router = APIRouter(prefix=f"{API_PREFIX}/aliases", tags=["aliases"], route_class=StrictRoute)
_reads = permission(Permission.COLLECTIONS_READ)


@router.get(
    "", response_model=AliasListAnswer, openapi_extra=_reads, summary="List the aliases in order of name",
    responses=documented(*_ANY, "malformed-cursor"),
)  # fmt: skip
async def list_aliases(
    service: Service, tokens: Tokens, cursor: AliasCursor, parameters: Annotated[AliasListParameters, Query()]
) -> Response:
    tenant = service.principal.tenant
    demand = demand_of(tokens, parameters)
    poll = await service.bus.poll(demand)
    refuse_parked(poll.parked_aliases, demand)
    after = "" if cursor is None else cursor["after"]
    rest = [
        (alias, collection)
        for alias, collection in poll.catalogue.aliases_of(tenant)
        if alias.name > after and parameters.collection in (None, collection.name)
    ]
    page = rest[: parameters.limit]
    next_cursor = None
    if len(rest) > len(page):
        next_cursor = service.signer.sign_cursor(cursor_scope(tenant, "aliases"), {"after": page[-1][0].name})
    return json_answer(
        {
            "items": [_item(alias, collection) for alias, collection in page],
            "next_cursor": next_cursor,
            "freshness": service.freshness(poll.snapshot, poll.began, len(poll.parked_aliases)),
        }
    )


@router.get(
    "/{name}", response_model=AliasAnswer, openapi_extra=_reads, summary="What an alias stands for",
    responses=documented(*_ANY, "alias-not-found"),
)  # fmt: skip
async def get_alias(
    name: AliasName, service: Service, tokens: Tokens, parameters: Annotated[ReadParameters, Query()]
) -> Response:
    demand = demand_of(tokens, parameters)
    poll = await service.bus.poll(demand)
    refuse_parked(poll.parked_aliases, demand)
    found = poll.catalogue.find_alias(service.principal.tenant, name)
    if found is None:
        raise AliasNotFoundError(name)
    alias, collection = found
    freshness = service.freshness(poll.snapshot, poll.began, len(poll.parked_aliases))
    return json_answer({**_item(alias, collection), "freshness": freshness}, etag=alias.version)


def _item(alias: Alias, collection: LiveCollection) -> dict[str, Any]:
    return {
        "name": alias.name,
        "collection": collection.name,
        "collection_id": str(alias.collection_id),
        "version": alias.version,
        "position": alias.position,
        "updated_at": alias.updated_at,
    }
