"""The edge of the local stack: one URL in front of both services. A convenience for development, not a gateway."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, generate_latest
from pydantic_settings import BaseSettings, SettingsConfigDict
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from aindusdb.local_stack.openapi import merge
from aindusdb.local_stack.services import problem_detail
from shared.http.problem_pages import problem_page
from shared.telemetry import configure_logging, process_registry

WRITERS_GET = re.compile(r"/collections/[^/]+/reembedding$")
"""What the command service is asked."""
READING_POST = re.compile(r"/(search(/batch|/groups)?|count|recommend|scroll)$")
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"expect",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"upgrade",
    }
)
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
PAGE_ASSETS = {"swagger-ui-bundle.js", "swagger-ui.css"}
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>AindusDB Core API</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script>
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  validatorUrl: null,
})
</script>
</body>
</html>
"""


class EdgeSettings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="AINDUSDB_", frozen=True, extra="ignore", use_attribute_docstrings=True
    )

    host: str = "127.0.0.1"
    """The address that it listens on."""
    port: int = 8000
    """The port that it listens on."""
    log_format: str = "json"
    """`json`, or `console` for lines for people."""
    edge_command_url: str = "http://127.0.0.1:8001"
    """The command service."""
    edge_query_url: str = "http://127.0.0.1:8002"
    """The query service."""


class Upstream:
    """One service, reached over a shared client."""

    def __init__(self, name: str, url: str, http: httpx.AsyncClient) -> None:
        self.name = name
        self._url = url
        self._http = http

    async def forward(self, request: Request) -> Response:
        """Streams the request there and the answer back; neither is ever held whole."""
        target = httpx.URL(self._url).copy_with(raw_path=_raw_target(request))
        has_body = "content-length" in request.headers or "transfer-encoding" in request.headers
        outgoing = httpx.Request(
            request.method,
            target,
            headers=_forwarded_headers(request),
            content=request.stream() if has_body else None,
        )
        try:
            answer = await self._http.send(outgoing, stream=True)
        except httpx.TransportError as error:
            return unavailable(f"The {self.name} does not answer ({type(error).__name__}).", request.url.path)
        response = StreamingResponse(
            answer.aiter_raw(), status_code=answer.status_code, background=BackgroundTask(answer.aclose)
        )
        response.raw_headers = [
            (name.lower(), value)
            for name, value in answer.headers.raw
            if name.lower() not in HOP_BY_HOP and name.lower() != b"transfer-encoding"
        ]
        return response

    async def obstacle(self) -> str | None:
        """Why it is not ready, None if it is."""
        try:
            answer = await self._http.get(f"{self._url}/ready", timeout=5)
        except httpx.HTTPError as error:
            return f"{self.name}: no answer ({type(error).__name__})"
        return None if answer.is_success else f"{self.name}: {problem_detail(answer)}"

    async def openapi(self) -> dict[str, Any]:
        answer = await self._http.get(f"{self._url}/openapi.json", timeout=10)
        document: dict[str, Any] = answer.raise_for_status().json()
        return document


def _raw_target(request: Request) -> bytes:
    """Path and query byte for byte: decoding and encoding again would change ids with escapes in them."""
    path: bytes = request.scope.get("raw_path") or request.url.path.encode()
    query: bytes = request.scope["query_string"]
    return path + b"?" + query if query else path


def _forwarded_headers(request: Request) -> list[tuple[bytes, bytes]]:
    client = request.client.host.encode() if request.client else b"unknown"
    kept: list[tuple[bytes, bytes]] = [pair for pair in request.headers.raw if pair[0] not in HOP_BY_HOP]
    return [
        *(pair for pair in kept if not pair[0].startswith(b"x-forwarded-")),
        (b"x-forwarded-for", client),
        (b"x-forwarded-proto", request.url.scheme.encode()),
        (b"x-forwarded-host", request.headers.get("host", "").encode()),
    ]


def is_read(method: str, path: str) -> bool:
    if method == "POST":
        return READING_POST.search(path) is not None
    return method in ("GET", "HEAD") and WRITERS_GET.search(path) is None


def unavailable(detail: str, instance: str) -> JSONResponse:
    problem = {
        "type": "/problems/dependency-unavailable",
        "title": "A service that this request needs is not available",
        "status": 503,
        "detail": detail,
        "instance": instance,
    }
    return JSONResponse(problem, 503, {"Retry-After": "1"}, media_type="application/problem+json")


def create_app(settings: EdgeSettings) -> Starlette:
    # Waiting is the services' business: they hold the timeouts, and a change feed is open for as long as it is read.
    http = httpx.AsyncClient(
        timeout=httpx.Timeout(None, connect=5.0),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=2.0),
        trust_env=False,
    )
    command = Upstream("command service", settings.edge_command_url, http)
    query = Upstream("query service", settings.edge_query_url, http)
    registry = process_registry()
    forwarded = Counter("aindusdb_edge_requests", "Requests passed on", ["upstream", "status"], registry=registry)

    async def api(request: Request) -> Response:
        upstream = query if is_read(request.method, request.url.path) else command
        try:
            response = await upstream.forward(request)
        except ClientDisconnect:
            return Response(status_code=499)
        forwarded.labels(upstream.name, response.status_code).inc()
        return response

    async def ready(request: Request) -> Response:
        obstacles = [obstacle for upstream in (command, query) if (obstacle := await upstream.obstacle())]
        return unavailable("; ".join(obstacles), request.url.path) if obstacles else JSONResponse({"status": "ready"})

    async def openapi(request: Request) -> Response:
        try:
            return JSONResponse(merge(await command.openapi(), await query.openapi()))
        except httpx.HTTPError as error:
            return unavailable(f"A service gives no OpenAPI document: {error}", request.url.path)

    async def problems(request: Request) -> Response:
        # Not passed on: a service that is away is what one may want to read about.
        return problem_page(request.path_params.get("name")) or await api(request)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with http:
            yield

    return Starlette(
        routes=[
            Route("/", lambda _request: RedirectResponse("/docs")),
            Route("/docs", lambda _request: HTMLResponse(PAGE)),
            Route("/docs/{name}", page_asset),
            Route("/openapi.json", openapi),
            Route("/health", lambda _request: JSONResponse({"status": "alive"})),
            Route("/ready", ready),
            Route("/metrics", lambda _request: metrics(registry)),
            Route("/problems", problems),
            Route("/problems/{name}", problems),
            Route("/api/v1/{path:path}", api, methods=METHODS),
            # What is no path of ours the services refuse in their own words.
            Route("/{path:path}", api, methods=METHODS),
        ],
        lifespan=lifespan,
    )


async def page_asset(request: Request) -> Response:
    """Swagger UI as the package fastapi-offline ships it: nothing is fetched from elsewhere."""
    name = request.path_params["name"]
    if name not in PAGE_ASSETS:
        return Response(status_code=404)
    spec = find_spec("fastapi_offline")
    if spec is None or spec.origin is None:
        return unavailable("The page is not installed: pip install 'aindusdb-core[local]'", request.url.path)
    return FileResponse(Path(spec.origin).parent / "static" / name)


def metrics(registry: CollectorRegistry) -> Response:
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def main() -> None:
    settings = EdgeSettings()
    configure_logging("edge", log_format="console" if settings.log_format == "console" else "json", level="info")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        # Change feeds are open for ever; whoever reads one reconnects.
        timeout_graceful_shutdown=5,
        # Nobody stands before the edge, so nobody's word on where a request comes from is taken.
        proxy_headers=False,
        server_header=False,
        date_header=False,
    )


if __name__ == "__main__":
    main()
