"""`…/restore`: what was changed or deleted comes back, by events that say so."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

from command_service.domain.refusals import CollectionNotFoundError
from command_service.models import (
    RestoreCollectionRequest,
    RestoredAnswer,
    RestoredCollectionAnswer,
    RestoreRequest,
    RestoreVectorRequest,
    SkippedAnswer,
    VectorWritten,
)
from command_service.outcomes import VectorsOutcome
from command_service.requests import IN_PACE, Context, IfMatch, Service, expected_version
from command_service.restoring import Restored, Restoring
from command_service.service import CommandService, WriteTarget, refused_alone
from command_service.vector_routes import one_written
from command_service.writing import by_what_it_is
from shared.http.application import API_PREFIX, StrictRoute, permission
from shared.http.paths import CollectionName, VectorIdPath, target_name
from shared.http.problems import documented
from shared.principal import Permission
from shared.tokens import ConsistencyToken

_BODY = ("malformed-json", "body-too-large", "unsupported-media-type", "validation")
_PAGED = (*_BODY, "malformed-cursor", "collection-deleted", "model-mismatch", "not-finite", "zero-vector",
          "projection-lag", "overloaded", "dependency-unavailable", "timeout")  # fmt: skip
_WRITES = permission(Permission.VECTORS_WRITE)

router = APIRouter(prefix=API_PREFIX, tags=["history"], route_class=StrictRoute, dependencies=IN_PACE)


@router.post(
    "/restore", response_model=RestoredAnswer, openapi_extra=_WRITES,
    summary="Take back what one request changed or deleted", responses=documented(*_PAGED),
)  # fmt: skip
async def restore_request(body: RestoreRequest, service: Service, context: Context) -> Response:
    scope = f"restore:{context.tenant}:{body.request_id}:{body.force}"
    page = await Restoring(service).request(
        context, body.request_id, _after(service, body.cursor, scope), force=body.force
    )
    answer = RestoredAnswer(**_parts(service, context.tenant, scope, page))
    return Response(answer.model_dump_json(), media_type="application/json")


@router.post(
    "/collections/{name}/restore", response_model=RestoredCollectionAnswer,
    openapi_extra=permission(Permission.COLLECTIONS_WRITE), summary="Bring a deleted collection back, under a new id",
    responses=documented(*_PAGED, "collection-not-found", "collection-exists"),
)  # fmt: skip
async def restore_collection(
    name: CollectionName, body: RestoreCollectionRequest, service: Service, context: Context
) -> Response:
    scope = f"restore-collection:{context.tenant}:{name}:{body.collection_id}"
    target, page = await Restoring(service).collection(
        context, name, body.collection_id, _after(service, body.cursor, scope)
    )
    parts = _parts(service, context.tenant, scope, page)
    answer = RestoredCollectionAnswer(name=target.name, collection_id=target.collection_id, **parts)
    return Response(answer.model_dump_json(), media_type="application/json")


def restore_vector_router(prefix: str, *, named: bool) -> APIRouter:
    """The route under `prefix`; not `named`: that of the collection `default`."""
    vectors = APIRouter(prefix=f"{API_PREFIX}{prefix}", tags=["history"], route_class=StrictRoute,
                        dependencies=IN_PACE)  # fmt: skip
    suffix = "" if named else " in the collection default"

    @vectors.post(
        "/{id}/restore", response_model=VectorWritten, openapi_extra=_WRITES,
        summary=f"Bring a vector back as it was at a version{suffix}",
        responses={201: {"model": VectorWritten, "description": "It had been deleted"},
                   **documented(*_BODY, "idempotency-key-reused", "collection-not-found", "vector-not-found",
                                "collection-deleted", "version-mismatch", "model-mismatch", "not-finite",
                                "zero-vector", "projection-lag", "overloaded", "dependency-unavailable", "timeout")},
    )  # fmt: skip
    async def restore_vector(
        vector_id: VectorIdPath,
        body: RestoreVectorRequest,
        service: Service,
        context: Context,
        name: str = target_name(named=named),
        if_match: IfMatch = None,
    ) -> Response:
        async def find_target() -> WriteTarget:
            target = await service.resolve(context.tenant, name)
            if target is None:
                raise CollectionNotFoundError(name)
            return target

        async def write(target: WriteTarget) -> VectorsOutcome:
            operation = await Restoring(service).vector(
                context, target.collection, vector_id, body.version, expected_version(if_match)
            )
            return await service.write(context, target, [operation])

        with refused_alone():
            restoring = by_what_it_is(service, context, find_target, write)
            outcome = await service.or_kept(context, restoring, VectorsOutcome)
        return one_written(service, context, name, outcome)

    return vectors


def _after(service: CommandService, cursor: str | None, scope: str) -> int:
    if cursor is None:
        return 0
    after: int = service.signer.read_cursor(cursor, scope)["after"]
    return after


def _parts(service: CommandService, tenant: str, scope: str, page: Restored) -> dict[str, Any]:
    token = None
    if page.outcomes:
        first = min(outcome.first_position for outcome in page.outcomes)
        last = max(outcome.last_position for outcome in page.outcomes)
        token = service.signer.sign_token(ConsistencyToken(page.outcomes[0].log_id, tenant, first, last))
    next_cursor = None if page.after is None else service.signer.sign_cursor(scope, {"after": page.after})
    return {
        "restored": page.restored,
        "unchanged": page.unchanged,
        "skipped": [SkippedAnswer.model_validate(one, from_attributes=True) for one in page.skipped],
        "next_cursor": next_cursor,
        "consistency_token": token,
    }
