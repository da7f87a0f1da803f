"""`POST …/vectors/import`: NDJSON, a vector a line, of any size."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import ClientDisconnect

from command_service.importing import ImportReport, OnError, import_lines
from command_service.models import ImportAnswer, LineErrorAnswer
from command_service.requests import KeylessContext, Service
from command_service.service import CommandService
from shared.http.application import API_PREFIX, StrictRoute, permission
from shared.http.paths import target_name
from shared.http.problems import FieldError, ProblemError, documented
from shared.principal import Permission
from shared.tokens import ConsistencyToken

MEDIA_TYPES = ("application/x-ndjson", "application/jsonl", "application/ndjson")

_PROBLEMS = ("validation", "unsupported-media-type", "malformed-json", "collection-not-found", "collection-deleted",
             "overloaded", "dependency-unavailable", "timeout")  # fmt: skip
_EXAMPLE = """{"id": "a-1", "embedding": [0.1, 0.2, 0.3], "metadata": {"lang": "en"}}
{"id": "a-2", "embedding": [0.3, 0.2, 0.1], "content": "Wing flutter"}
"""


class ImportParameters(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    on_error: Annotated[
        OnError, Field(description="What a bad line does: it is left out, or it ends the import before it.")
    ] = "skip"
    import_id: Annotated[
        UUID | None, Field(description="Gives ids to lines without one, the same for the same line and import_id.")
    ] = None


def import_router(prefix: str, *, named: bool) -> APIRouter:
    """The route under `prefix`; not `named`: that of the collection `default`."""
    router = APIRouter(prefix=f"{API_PREFIX}{prefix}", tags=["vectors"], route_class=StrictRoute)
    suffix = "" if named else " in the collection default"
    content = {one: {"schema": {"type": "string"}, "example": _EXAMPLE} for one in MEDIA_TYPES}

    @router.post(
        "/import", response_model=ImportAnswer, summary=f"Create or replace many vectors, a line each{suffix}",
        openapi_extra={**permission(Permission.VECTORS_WRITE), "requestBody": {"required": True, "content": content}},
        responses=documented(*_PROBLEMS),
    )  # fmt: skip
    async def import_vectors(
        request: Request,
        service: Service,
        context: KeylessContext,
        parameters: Annotated[ImportParameters, Query()],
        name: str = target_name(named=named),
    ) -> Response:
        _check(request)
        # As long as lines come, it goes on: each wait for them has the limit that other requests have as a whole.
        patience = _Patience(request.state.time_limit)

        async def in_pace(lines: int) -> None:
            patience.lift()
            await service.backpressure.keep_pace(lines)
            patience.renew()

        report = await import_lines(
            service,
            context,
            name,
            _arriving(request, patience),
            on_error=parameters.on_error,
            import_id=parameters.import_id,
            in_pace=in_pace,
        )
        return Response(_answer(service, context.tenant, report).model_dump_json(), media_type="application/json")

    return router


def _check(request: Request) -> None:
    given = request.headers.get("content-type", "").split(";", 1)[0].strip().lower()
    if given not in MEDIA_TYPES:
        raise ProblemError(
            "unsupported-media-type", f"send Content-Type: {MEDIA_TYPES[0]}, not {given or 'a body without a type'}"
        )
    if "idempotency-key" in request.headers:
        detail = "an import takes no Idempotency-Key: sent again, it appends nothing for what is there already"
        error = FieldError(pointer="Idempotency-Key", type="idempotency-key", detail=detail)
        raise ProblemError("validation", f"{error.pointer}: {detail}", errors=[error])


class _Patience:
    """A request's time limit, counted anew whenever it gets on."""

    def __init__(self, limit: asyncio.Timeout) -> None:
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        ends = limit.when()
        self._seconds = None if ends is None else ends - self._loop.time()

    def renew(self) -> None:
        if self._seconds is not None:
            self._limit.reschedule(self._loop.time() + self._seconds)

    def lift(self) -> None:
        """Until it is renewed."""
        self._limit.reschedule(None)


async def _arriving(request: Request, patience: _Patience) -> AsyncIterator[bytes]:
    """The body as it comes.

    Raises:
        ProblemError: the connection broke; what came last may be half a line.
    """
    request.state.body_is_unlimited = True
    try:
        async for piece in request.stream():
            yield piece
            patience.renew()
    except ClientDisconnect as error:
        raise ProblemError("malformed-json", "the body broke off; whole parts of it are written") from error


def _answer(service: CommandService, tenant: str, report: ImportReport) -> ImportAnswer:
    token = None
    if report.outcomes:
        first, last = report.outcomes[0], report.outcomes[-1]
        token = service.signer.sign_token(
            ConsistencyToken(last.log_id, tenant, first.first_position, max(first.last_position, last.last_position))
        )
    return ImportAnswer(
        lines=report.lines,
        created=report.results["created"],
        updated=report.results["updated"],
        unchanged=report.results["unchanged"],
        failed=report.failed,
        errors=[LineErrorAnswer.model_validate(one, from_attributes=True) for one in report.errors],
        stopped_at=report.stopped_at,
        collection=report.collection,
        consistency_token=token,
    )
