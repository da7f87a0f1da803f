"""An endpoint of OpenAI's protocol: a real HTTP server in this process, which fails when a test asks it to."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from aindusdb.local_stack.ports import free_port

DIMENSION = 8

Fault = Callable[[int, list[str]], Response | float | asyncio.Event | None]
"""Asked before each request with its number, from 1, and its texts: what is answered instead, or how many seconds the
endpoint keeps silent first, or until when."""


def numbers_of(text: str, dimension: int = DIMENSION) -> list[float]:
    """Different for different texts, never zero."""
    digest = hashlib.sha256(text.encode()).digest()
    return [1.0 + digest[index % 32] / 256 for index in range(dimension)]


def answered(rows: list[Any]) -> Response:
    return JSONResponse({"object": "list", "data": [{"index": at, "embedding": row} for at, row in enumerate(rows)]})


@dataclass
class Endpoint:
    requests: list[list[str]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    fault: Fault = lambda _number, _texts: None
    url: str = ""
    dimensions: dict[str, int] = field(default_factory=dict)
    """Of models that have another one than DIMENSION."""

    @property
    def texts(self) -> list[str]:
        return [text for request in self.requests for text in request]

    def healthy(self) -> None:
        self.fault = lambda _number, _texts: None

    async def answer(self, request: Request) -> Response:
        asked = json.loads(await request.body())
        self.keys.append(request.headers.get("authorization"))
        self.models.append(asked["model"])
        self.requests.append(asked["input"])
        fault = self.fault(len(self.requests), asked["input"])
        if isinstance(fault, Response):
            return fault
        if isinstance(fault, asyncio.Event):
            await fault.wait()
        elif fault is not None:
            await asyncio.sleep(fault)
        dimension = self.dimensions.get(asked["model"], DIMENSION)
        data = [{"index": at, "embedding": numbers_of(text, dimension)} for at, text in enumerate(asked["input"])]
        return JSONResponse({"object": "list", "model": asked["model"], "data": data[::-1]})


@asynccontextmanager
async def running_endpoint() -> AsyncIterator[Endpoint]:
    endpoint = Endpoint()
    application = Starlette(routes=[Route("/v1/embeddings", endpoint.answer, methods=["POST"])])
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(application, port=port, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    )
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - the server has nothing to wait for
        await asyncio.sleep(0.01)
    endpoint.url = f"http://127.0.0.1:{port}/v1"
    try:
        yield endpoint
    finally:
        server.should_exit = True
        await serving
