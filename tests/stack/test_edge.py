"""The edge between a client and real upstreams, all in one process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from aindusdb.local_stack.edge import EdgeSettings, create_app
from aindusdb.local_stack.ports import free_port

second_event = asyncio.Event()


async def echo(request: Request) -> Response:
    headers = {name: value for name, value in request.headers.items() if name.startswith("x-")}
    answer = {"method": request.method, "url": request.url.path, "headers": headers, "bytes": len(await request.body())}
    return JSONResponse(answer, 201, {"X-Request-ID": "from-upstream", "ETag": '"7"'})


async def events(_request: Request) -> Response:
    async def stream() -> AsyncIterator[bytes]:
        yield b"data: first\n\n"
        await second_event.wait()
        yield b"data: second\n\n"

    return StreamingResponse(stream(), media_type="text/event-stream")


async def openapi(request: Request) -> Response:
    paths: dict[str, object] = {f"/api/v1/of-{request.url.port}": {"get": {}}}
    return JSONResponse({"openapi": "3.1.0", "info": {"title": "x", "version": "1"}, "paths": paths})


UPSTREAM = Starlette(
    routes=[
        Route("/openapi.json", openapi),
        Route("/ready", lambda _request: PlainTextResponse("ready")),
        Route("/api/v1/feed", events),
        Route("/api/v1/{path:path}", echo, methods=["GET", "POST", "PUT", "DELETE"]),
    ]
)


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[int]:
    server = uvicorn.Server(
        uvicorn.Config(app, port=free_port(), log_config=None, proxy_headers=False, timeout_graceful_shutdown=1)
    )
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn offers no event
        await asyncio.sleep(0.01)
    try:
        yield server.config.port
    finally:
        server.should_exit = True
        await task


@asynccontextmanager
async def edge_before(command_port: int, query_port: int) -> AsyncIterator[httpx.AsyncClient]:
    settings = EdgeSettings(
        edge_command_url=f"http://127.0.0.1:{command_port}", edge_query_url=f"http://127.0.0.1:{query_port}"
    )
    async with AsyncExitStack() as open_until_the_end:
        port = await open_until_the_end.enter_async_context(serving(create_app(settings)))
        client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False)
        yield await open_until_the_end.enter_async_context(client)


@pytest.fixture
async def edge() -> AsyncIterator[httpx.AsyncClient]:
    async with serving(UPSTREAM) as command, serving(UPSTREAM) as query, edge_before(command, query) as client:
        yield client


async def test_headers_pass_both_ways(edge: httpx.AsyncClient) -> None:
    answer = await edge.put(
        "/api/v1/a", content=b"12345", headers={"X-Request-ID": "mine", "X-Forwarded-For": "forged"}
    )
    seen = answer.json()
    assert answer.status_code == 201
    assert answer.headers["x-request-id"] == "from-upstream"
    assert answer.headers["etag"] == '"7"'
    assert seen["bytes"] == 5
    assert seen["headers"]["x-request-id"] == "mine"
    assert seen["headers"]["x-forwarded-for"] == "127.0.0.1"
    assert seen["headers"]["x-forwarded-proto"] == "http"


async def test_a_body_of_unknown_length_is_streamed(edge: httpx.AsyncClient) -> None:
    async def lines() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 100_000

    assert (await edge.post("/api/v1/import", content=lines())).json()["bytes"] == 10_000_000


async def test_an_event_arrives_before_the_next_one_is_sent(edge: httpx.AsyncClient) -> None:
    second_event.clear()
    async with edge.stream("GET", "/api/v1/feed") as feed:
        received = feed.aiter_raw()
        assert await anext(received) == b"data: first\n\n"
        second_event.set()
        assert await anext(received) == b"data: second\n\n"


async def test_a_service_that_is_away_is_a_problem() -> None:
    async with serving(UPSTREAM) as query, edge_before(free_port(), query) as edge:
        refused = await edge.post("/api/v1/collections", json={})
        assert refused.status_code == 503
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["type"] == "/problems/dependency-unavailable"
        assert (await edge.get("/api/v1/collections")).status_code == 201
        readiness = await edge.get("/ready")
        assert readiness.status_code == 503
        assert "command service" in readiness.json()["detail"]
        assert (await edge.get("/health")).status_code == 200


async def test_one_openapi_document_and_one_page(edge: httpx.AsyncClient) -> None:
    paths = (await edge.get("/openapi.json")).json()["paths"]
    assert len(paths) == 2
    page = await edge.get("/", follow_redirects=True)
    assert page.url.path == "/docs"
    assert "http://" not in page.text
    assert "https://" not in page.text


async def test_requests_are_counted(edge: httpx.AsyncClient) -> None:
    await edge.get("/api/v1/a")
    assert (
        'aindusdb_edge_requests_total{status="201",upstream="query service"} 1.0' in (await edge.get("/metrics")).text
    )
