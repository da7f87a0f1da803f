"""Builds a service's FastAPI application: the same refusals, permissions and documents on every route."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute
from prometheus_client import CollectorRegistry
from pydantic import TypeAdapter, ValidationError
from starlette.exceptions import HTTPException

from shared.beside_the_loop import beside_the_loop
from shared.http.middleware import RequestMiddleware
from shared.http.problem_pages import problem_page_routes
from shared.http.problems import PROBLEM_JSON, FieldError, ProblemError
from shared.http.unpacking import ENCODINGS
from shared.principal import Permission
from shared.settings import HttpSettings
from shared.strict_json import MalformedJsonError, parse_json

API_PREFIX = "/api/v1"
LARGE_BODY_BYTES = 64 * 1024
"""From this size on, a body is parsed and validated in a thread, so that small requests are not held up."""

_PERMISSION = "x-permission"
_PROBLEM_OF_ERROR_TYPE = {
    "not_finite": "not-finite",
}
"""Pydantic error types that have a problem of their own; all others are `validation`."""


class UndeclaredRouteError(Exception):
    """A route declares no permission, so the application does not start."""


class BlockingRouteError(Exception):
    """A route, or what it depends on, is a plain function: each request would wait for a thread to call it."""


class StrictRequest(Request):
    """Reads its body with the strict parser: no duplicate keys, no NaN, no trailing bytes."""

    async def read_json(self, model: Any) -> None:
        """Parses the body. FastAPI finds the outcome in `json()`: of a large body already the model's instance,
        which it takes as it is; one that is not valid is left to FastAPI to complain of."""
        body = await self.body()
        if len(body) < LARGE_BODY_BYTES:
            self._json = parse_json(body)
        else:
            self._json = await beside_the_loop(_parse_and_validate, body, model)


def _parse_and_validate(body: bytes, model: Any) -> Any:
    parsed = parse_json(body)
    try:
        return TypeAdapter(model).validate_python(parsed)
    except ValidationError:
        return parsed


class StrictRoute(APIRoute):
    """A route that takes JSON as `application/json` only, parsed strictly."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        field = self.body_field

        async def strict(request: Request) -> Response:
            strict_request = StrictRequest(request.scope, request.receive)
            if field is not None and await strict_request.body():
                _check_media_type(request)
                await strict_request.read_json(field.field_info.annotation)
            return await handle(strict_request)

        return strict


def _check_media_type(request: Request) -> None:
    given = request.headers.get("content-type", "")
    media_type = given.split(";", 1)[0].strip().lower()
    if media_type != "application/json" and not (
        media_type.startswith("application/") and media_type.endswith("+json")
    ):
        raise ProblemError(
            "unsupported-media-type", f"send Content-Type: application/json, not {given or 'a body without a type'}"
        )
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        known = ", ".join(ENCODINGS)
        raise ProblemError(
            "unsupported-media-type",
            f"Content-Encoding {encoding!r} is not supported; there are {known}",
            headers={"Accept-Encoding": known},
        )


class _Service(FastAPI):
    def openapi(self) -> dict[str, Any]:
        """Refusals are problems only: FastAPI documents a response's model as plain JSON besides."""
        document = super().openapi()
        for operations in document["paths"].values():
            for operation in operations.values():
                for answer in operation["responses"].values():
                    if PROBLEM_JSON in answer.get("content", ()):
                        answer["content"].pop("application/json", None)
        return document


def permission(needed: Permission) -> dict[str, Any]:
    """The `openapi_extra` that declares what a route's caller must be allowed to do."""
    return {_PERMISSION: needed.value}


def create_application(
    *,
    title: str,
    version: str,
    description: str,
    settings: HttpSettings,
    registry: CollectorRegistry,
    routers: Sequence[APIRouter],
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]],
    problem_of: Callable[[Exception], ProblemError | None],
) -> FastAPI:
    """`problem_of` is the service's table from its own errors to problems; None for those it does not know.
    `state.stopping` is set when the process is asked to end, before the requests under way are waited for.

    Raises:
        UndeclaredRouteError: a route under the API prefix declares no permission.
        BlockingRouteError
    """
    application = _Service(
        title=title,
        version=version,
        description=description,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
    )
    application.state.stopping = asyncio.Event()
    for router in routers:
        application.include_router(router)
        for route in router.routes:
            if isinstance(route, APIRoute):
                _expect_declared(route)
    application.router.routes.extend(problem_page_routes())
    application.add_exception_handler(ProblemError, _on_problem)
    application.add_exception_handler(RequestValidationError, _on_validation_error)
    application.add_exception_handler(MalformedJsonError, _on_malformed_json)
    application.add_exception_handler(HTTPException, _on_http_exception)
    application.add_middleware(
        RequestMiddleware,
        registry=registry,
        timeout_seconds=settings.request_timeout_seconds,
        max_body_bytes=settings.max_body_bytes,
        max_bodies_bytes=settings.max_bodies_bytes,
        problem_of=problem_of,
    )
    return application


def _expect_declared(route: APIRoute) -> None:
    named = f"{sorted(route.methods or ())} {route.path}"
    if _PERMISSION not in (route.openapi_extra or {}):
        raise UndeclaredRouteError(f"{named} declares no permission")
    for call in _calls(route.dependant):
        if not inspect.iscoroutinefunction(call):
            raise BlockingRouteError(f"{named} calls {call!r}, which is no coroutine function")


def _calls(dependant: Dependant) -> Iterator[object]:
    yield dependant.call
    for one in dependant.dependencies:
        yield from _calls(one)


def _respond(request: Request, problem: ProblemError) -> Response:
    return problem.response(instance=request.url.path, request_id=request.state.request_id)


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return _respond(request, error)


async def _on_malformed_json(request: Request, error: Exception) -> Response:
    return _respond(request, ProblemError("malformed-json", str(error)))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    match error.status_code:
        case 404:
            problem = ProblemError(
                "route-not-found", f"{request.method} {request.url.path} is no route of this service"
            )
        case 405:
            problem = ProblemError(
                "method-not-allowed", f"{request.url.path} has no {request.method}", headers=error.headers
            )
        case _:
            problem = ProblemError("validation", str(error.detail))
    return _respond(request, problem)


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _respond(request, validation_problem(error.errors(), error.body))


def validation_problem(errors: Sequence[Any], body: Any) -> ProblemError:
    """The problem for pydantic's errors. A body that is no JSON at all is `malformed-json`; an error that has a
    problem type of its own, such as `not-finite`, gives its name to the whole."""
    found = [
        FieldError(
            pointer=_pointer(one["loc"], one.get("ctx", {}).get("within", ""), body),
            type=one["type"].replace("_", "-"),
            detail=one["msg"],
        )
        for one in errors
    ]
    special = next(
        (_PROBLEM_OF_ERROR_TYPE[one["type"]] for one in errors if one["type"] in _PROBLEM_OF_ERROR_TYPE), None
    )
    first = found[0]
    return ProblemError(special or "validation", f"{first.pointer or 'the body'}: {first.detail}", errors=found)


def _pointer(location: Sequence[str | int], within: str, body: Any) -> str:
    """`("body", "operations", 3, "upsert", "id")` -> `/operations/3/id`: what is in the location but not in the
    body is the name of a union's member, unless it ends it (a missing field). A parameter keeps its name. A rule on
    several fields says in its context which of them it is `within`."""
    origin, *rest = location
    if origin != "body":
        return str(rest[0]) if rest else within.removeprefix("/") or str(origin)
    parts: list[str] = []
    at = body
    for number, part in enumerate(rest):
        inside = (isinstance(at, dict) and part in at) or (isinstance(at, list) and isinstance(part, int))
        if inside:
            at = at[part]
        if inside or number == len(rest) - 1:
            parts.append(str(part).replace("~", "~0").replace("/", "~1"))
    return "".join(f"/{part}" for part in parts) + within
