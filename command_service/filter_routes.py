"""`POST …/vectors/delete` and `…/patch`: what a filter matches is deleted, or changed by a merge patch."""

from __future__ import annotations

import time
from typing import Any

import orjson
from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel

from command_service.by_filter import ChangeByFilter, ChangedByFilter, ChangingByFilter
from command_service.domain.commands import CommandContext, DeleteVector, PatchVector, VectorOperation
from command_service.matching import Match
from command_service.models import (
    MAX_REPORTED_SKIPS,
    DeleteByFilterRequest,
    DeletedByFilterAnswer,
    PatchByFilterRequest,
    PatchedByFilterAnswer,
    SkippedMatchAnswer,
)
from command_service.requests import IN_PACE, Context, Service, Tokens
from command_service.service import CommandService
from shared.freshness import Demand
from shared.http.application import API_PREFIX, StrictRoute, permission
from shared.http.paths import target_name
from shared.http.problems import documented
from shared.principal import Permission
from shared.read_model.filters import parse_filter
from shared.tokens import ConsistencyToken

_PROBLEMS = ("malformed-json", "malformed-token", "wrong-database", "body-too-large", "unsupported-media-type",
             "validation", "invalid-filter", "idempotency-key-reused", "collection-not-found", "collection-deleted",
             "projection-lag", "not-fresh-enough", "overloaded", "dependency-unavailable", "timeout")  # fmt: skip
_DESCRIPTION = """In transactions of at most 1,000 events, so not all or nothing: what is written stays. A request that
was cut off is sent again under the same Idempotency-Key: it goes on where it was, and answers for the whole."""


def filter_router(prefix: str, *, named: bool) -> APIRouter:
    """The routes under `prefix`; not `named`: those of the collection `default`."""
    router = APIRouter(prefix=f"{API_PREFIX}{prefix}", tags=["vectors"], route_class=StrictRoute,
                       dependencies=IN_PACE)  # fmt: skip
    writes = permission(Permission.VECTORS_WRITE)
    name_of = target_name(named=named)
    suffix = "" if named else " in the collection default"

    @router.post(
        "/delete", response_model=DeletedByFilterAnswer, openapi_extra=writes, description=_DESCRIPTION,
        summary=f"Delete the vectors that a filter matches{suffix}", responses=documented(*_PROBLEMS),
    )  # fmt: skip
    async def delete_matching(
        body: DeleteByFilterRequest, service: Service, context: Context, tokens: Tokens, name: str = name_of
    ) -> Response:
        def operation(match: Match) -> VectorOperation:
            return DeleteVector(match.id, if_written=match.version)

        wanted = ChangeByFilter(parse_filter(body.filter), operation, event_bytes=0, limit=body.limit)
        report = await _changed(service, context, name, wanted, body, tokens)
        parts = _parts(service, context.tenant, report, dry_run=body.dry_run)
        return _answer(DeletedByFilterAnswer(deleted=report.changed, **parts))

    @router.post(
        "/patch", response_model=PatchedByFilterAnswer, openapi_extra=writes, description=_DESCRIPTION,
        summary=f"Change the vectors that a filter matches{suffix}", responses=documented(*_PROBLEMS),
    )  # fmt: skip
    async def patch_matching(
        body: PatchByFilterRequest, service: Service, context: Context, tokens: Tokens, name: str = name_of
    ) -> Response:
        def operation(match: Match) -> VectorOperation:
            return PatchVector(match.id, (), frozenset({"metadata"}), metadata=body.metadata, if_written=match.version)

        event_bytes = 1 + len(orjson.dumps(body.metadata))
        wanted = ChangeByFilter(parse_filter(body.filter), operation, event_bytes, body.limit)
        report = await _changed(service, context, name, wanted, body, tokens)
        parts = _parts(service, context.tenant, report, dry_run=body.dry_run)
        return _answer(PatchedByFilterAnswer(changed=report.changed, unchanged=report.unchanged, **parts))

    return router


async def _changed(
    service: CommandService,
    context: CommandContext,
    name: str,
    wanted: ChangeByFilter,
    body: DeleteByFilterRequest | PatchByFilterRequest,
    tokens: tuple[ConsistencyToken, ...],
) -> ChangedByFilter:
    demand = Demand(tokens, time.monotonic() + body.timeout_ms / 1000)
    changing = ChangingByFilter(service)
    if body.dry_run:
        return await changing.count(context, name, wanted, demand)
    return await changing.change(context, name, wanted, demand)


def _parts(service: CommandService, tenant: str, report: ChangedByFilter, *, dry_run: bool) -> dict[str, Any]:
    first = min((outcome.first_position for outcome in report.outcomes), default=None)
    last = max((outcome.last_position for outcome in report.outcomes), default=None)
    token = None
    if first is not None and last is not None:
        token = service.signer.sign_token(ConsistencyToken(report.outcomes[0].log_id, tenant, first, last))
    return {
        "collection": report.collection,
        "dry_run": dry_run,
        "matched": report.matched,
        "conflicts": sum(one.reason == "changed_meanwhile" for one in report.skipped),
        "skipped": [
            SkippedMatchAnswer.model_validate(one, from_attributes=True) for one in report.skipped[:MAX_REPORTED_SKIPS]
        ],
        "limit_reached": report.limit_reached,
        "first_position": first if report.changed else None,
        "last_position": last if report.changed else None,
        "consistency_token": token,
    }


def _answer(answer: BaseModel) -> Response:
    return Response(answer.model_dump_json(), media_type="application/json")
