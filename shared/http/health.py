"""`/health` (alive), `/ready` (what it depends on), `/metrics`: on every process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Literal

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from pydantic import BaseModel, Field

from shared.http.application import permission
from shared.http.fields import example
from shared.http.problems import ProblemError, documented
from shared.principal import Permission

CHECK_TIMEOUT_SECONDS = 2.0

Check = Callable[[], Awaitable[str | None]]
"""Answers None when all is well, else a sentence that says what is wrong."""


class AliveAnswer(BaseModel):
    model_config = example({"status": "alive"})

    status: Literal["alive"]


class ReadyAnswer(BaseModel):
    model_config = example({"status": "ready", "checks": {"event_database": "ok"}})

    status: Literal["ready"]
    checks: dict[str, str] = Field(description="`ok`, or what is missing and is done without.")


def health_router(
    checks: Mapping[str, Check], registry: CollectorRegistry, *, optional: Mapping[str, Check] | None = None
) -> APIRouter:
    """`optional` is reported beside the checks: what it misses, the process does without."""
    router = APIRouter(tags=["health"])
    public = permission(Permission.PUBLIC)

    @router.get("/health", openapi_extra=public, summary="Whether the process is alive")
    async def health() -> AliveAnswer:
        return AliveAnswer(status="alive")

    @router.get(
        "/ready",
        openapi_extra=public,
        summary="Whether the process can do its work",
        response_model=ReadyAnswer,
        responses=documented("dependency-unavailable"),
    )
    async def ready() -> JSONResponse:
        results = await asyncio.gather(*(_run(check) for check in checks.values()))
        found = dict(zip(checks, results, strict=True))
        faults = {name: fault for name, fault in found.items() if fault is not None}
        if faults:
            detail = "; ".join(f"{name}: {fault}" for name, fault in faults.items())
            raise ProblemError("dependency-unavailable", detail, headers={"Retry-After": "1"}, checks=faults)
        missed = {name: await _run(check) or "ok" for name, check in (optional or {}).items()}
        return JSONResponse({"status": "ready", "checks": {**dict.fromkeys(checks, "ok"), **missed}})

    @router.get("/metrics", openapi_extra=public, summary="Prometheus metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    return router


async def _run(check: Check) -> str | None:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            return await check()
    except TimeoutError:
        return f"no answer within {CHECK_TIMEOUT_SECONDS:g} seconds"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def create_health_application(
    title: str,
    checks: Mapping[str, Check],
    registry: CollectorRegistry,
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]],
) -> FastAPI:
    """The application of a process that has no API of its own: health, readiness and metrics only."""
    application = FastAPI(title=title, lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    application.include_router(health_router(checks, registry))

    async def on_problem(_request: Request, error: Exception) -> Response:
        assert isinstance(error, ProblemError)
        return error.response()

    application.add_exception_handler(ProblemError, on_problem)
    return application
