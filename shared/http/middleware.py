"""What happens around every request: its id, its time limit, its size limit, its log line, its metrics.

Plain ASGI, because Starlette's BaseHTTPMiddleware costs a task and two queues for each request.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uuid_utils.compat import uuid7

from shared.http.problems import FieldError, ProblemError
from shared.http.unpacking import ENCODINGS, MalformedBodyError, unpacked

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}\Z")
_OF_THE_PACKED = (b"content-encoding", b"content-length")
_log = structlog.get_logger("http")


class BodyTooLargeError(Exception):
    """The body is over the limit; raised to whoever reads it."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"a body has at most {limit} bytes")
        self.limit = limit


class BodiesTooLargeError(Exception):
    """The bodies of all requests under way are over the limit together."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the bodies of the requests under way exceed {limit} bytes; try again in a second")


class RequestMiddleware:
    """Gives every request an id and a bound, and counts it by route.

    `state.request_id` is the caller's X-Request-ID if it is well-formed, else a new UUIDv7; either is answered.
    `state.time_limit` is the running `asyncio.Timeout`: a route whose answer has no end takes it off. A route that
    takes its body piece by piece and keeps none of it sets `state.body_is_unlimited`.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        registry: CollectorRegistry,
        timeout_seconds: float,
        max_body_bytes: int,
        max_bodies_bytes: int,
        problem_of: Callable[[Exception], ProblemError | None],
    ) -> None:
        self._app = app
        self._problem_of = problem_of
        self._timeout_seconds = timeout_seconds
        self._max_body_bytes = max_body_bytes
        self._max_bodies_bytes = max_bodies_bytes
        self._bodies_bytes = 0
        self._duration = Histogram(
            "aindusdb_http_request_duration_seconds",
            "Time from the first byte of a request to the last of its answer.",
            ["method", "route", "status"],
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=registry,
        )
        self._failures = Counter(
            "aindusdb_http_failures_total", "Requests that ended in an unforeseen error.", registry=registry
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        started = time.perf_counter()
        status = 0
        body = _Body()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                _check_encoding(scope)
                async with asyncio.timeout(self._timeout_seconds) as time_limit:
                    scope["state"]["time_limit"] = time_limit
                    await self._app(scope, self._bounded(scope, receive, body), send_with_id)
            except Exception as error:
                problem = self._problem(error)
                if status:  # the answer is under way; only cutting the connection can still say that it failed
                    raise
                await problem.response(instance=scope["path"], request_id=request_id)(scope, receive, send_with_id)
            finally:
                self._bodies_bytes -= body.received
                elapsed = time.perf_counter() - started
                self._duration.labels(scope["method"], _route(scope), status).observe(elapsed)
                _log.debug(
                    "request",
                    method=scope["method"],
                    path=scope["path"],
                    status=status,
                    milliseconds=round(elapsed * 1000, 2),
                )

    def _problem(self, error: Exception) -> ProblemError:
        known = self._problem_of(error)
        if known is not None:
            return known
        match error:
            case ProblemError():
                return error
            case TimeoutError():
                return ProblemError("timeout", f"the request took longer than {self._timeout_seconds:g} seconds")
            case BodyTooLargeError():
                return ProblemError("body-too-large", str(error), limit=error.limit)
            case MalformedBodyError():
                return ProblemError("malformed-json", str(error))
            case BodiesTooLargeError():
                return ProblemError("overloaded", str(error), headers={"Retry-After": "1"})
            case _:
                self._failures.inc()
                _log.error("request failed", exc_info=error)
                return ProblemError("internal-error", "the request failed; the log has the reason under its request id")

    def _bounded(self, scope: Scope, receive: Receive, body: _Body) -> Receive:
        limit = self._max_body_bytes
        declared = _header(scope, b"content-length") or b""
        too_large = declared.isdigit() and int(declared) > limit
        encoding = (_header(scope, b"content-encoding") or b"").decode("latin-1").strip().lower()
        if encoding in ENCODINGS:
            receive = unpacked(receive, encoding)
            # From here on nobody needs to know.
            scope["headers"] = [one for one in scope["headers"] if one[0] not in _OF_THE_PACKED]

        async def bounded() -> Message:
            if scope["state"].get("body_is_unlimited"):
                return await receive()
            if too_large:
                raise BodyTooLargeError(limit)
            message: MutableMapping[str, Any] = await receive()
            size = len(message.get("body", b""))
            body.received += size
            self._bodies_bytes += size
            if body.received > limit:
                raise BodyTooLargeError(limit)
            if self._bodies_bytes > self._max_bodies_bytes:
                raise BodiesTooLargeError(self._max_bodies_bytes)
            return message

        return bounded


@dataclass(slots=True)
class _Body:
    """How much of one request's body is in memory."""

    received: int = 0


def _check_encoding(scope: Scope) -> None:
    """What is no UTF-8 would reach the routes as replacement characters, and name something else than was meant.

    Raises:
        ProblemError: validation.
    """
    for part, raw in (("path", scope.get("raw_path") or b""), ("query", scope.get("query_string") or b"")):
        if b"%" in raw or not raw.isascii():
            try:
                unquote_to_bytes(raw).decode()
            except UnicodeDecodeError:
                error = FieldError(pointer=part, type="encoding", detail=f"the {part} is not valid UTF-8")
                raise ProblemError("validation", error.detail, errors=[error]) from None


def _header(scope: Scope, name: bytes) -> bytes | None:
    return next((value for key, value in scope["headers"] if key == name), None)


def _request_id(scope: Scope) -> str:
    given = _header(scope, b"x-request-id")
    if given is not None and _REQUEST_ID.match(given):
        return given.decode("ascii")
    return str(uuid7())


def _route(scope: Scope) -> str:
    """The route's template, so that ids do not become label values."""
    route = scope.get("route")
    return getattr(route, "path", "unmatched")
