"""`/aliases`: other names of collections, set and removed."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from command_service.domain.commands import CommandContext, RemoveAlias, SetAlias
from command_service.models import AliasWritten, SetAliasRequest
from command_service.outcomes import AliasOutcome
from command_service.requests import Context, IfMatch, Service, expected_version
from command_service.service import CommandService
from shared.http.application import API_PREFIX, StrictRoute, permission
from shared.http.paths import AliasName
from shared.http.problems import documented
from shared.principal import Permission

router = APIRouter(prefix=f"{API_PREFIX}/aliases", tags=["aliases"], route_class=StrictRoute)

_WRITES = permission(Permission.COLLECTIONS_WRITE)
_ANY = ("validation", "idempotency-key-reused", "version-mismatch", "overloaded", "dependency-unavailable",
        "timeout")  # fmt: skip


@router.put(
    "/{name}",
    response_model=AliasWritten,
    openapi_extra=_WRITES,
    summary="Let an alias stand for a collection",
    description="For one that stood for another collection, the switch is one event: each read is answered by the one "
    "or the other, and a read that carries the token by the new one.",
    responses={201: {"model": AliasWritten, "description": "The alias is new"},
               **documented(*_ANY, "malformed-json", "body-too-large", "unsupported-media-type",
                            "collection-not-found", "collection-exists")},
)  # fmt: skip
async def set_alias(
    name: AliasName, body: SetAliasRequest, service: Service, context: Context, if_match: IfMatch = None
) -> Response:
    outcome = await service.change_alias(SetAlias(context, name, body.collection, expected_version(if_match)))
    return _answer(service, context, outcome)


@router.delete(
    "/{name}",
    response_model=AliasWritten,
    openapi_extra=_WRITES,
    summary="Remove an alias; the collection stays",
    responses=documented(*_ANY, "alias-not-found"),
)
async def remove_alias(name: AliasName, service: Service, context: Context, if_match: IfMatch = None) -> Response:
    outcome = await service.change_alias(RemoveAlias(context, name, expected_version(if_match)))
    return _answer(service, context, outcome)


def _answer(service: CommandService, context: CommandContext, outcome: AliasOutcome) -> Response:
    answer = AliasWritten(
        name=outcome.name,
        collection=outcome.collection,
        collection_id=outcome.collection_id,
        version=outcome.version,
        position=outcome.last_position,
        consistency_token=service.token(context.tenant, outcome),
    )
    return Response(
        answer.model_dump_json(),
        status_code=201 if outcome.result == "created" else 200,
        headers={"ETag": f'"{outcome.version}"'},
        media_type="application/json",
    )
