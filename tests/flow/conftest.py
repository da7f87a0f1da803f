"""Both services inside the test process, with a projector between them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest_asyncio

from tests.command.conftest import running_service as running_command_service
from tests.projector.projecting import Projection, projector_settings, running_consumer
from tests.query.conftest import running_service as running_query_service
from tests.servers import Databases, connected

API = "/api/v1"


@dataclass(frozen=True, slots=True)
class Flow:
    """`write` and `read` are clients of the services. Each read is given the token of all that was written before."""

    write: httpx.AsyncClient
    read: httpx.AsyncClient
    projection: Projection
    _tokens: list[str]

    async def written(self, method: str, path: str, body: Any = None, **options: Any) -> dict[str, Any]:
        answer = await self.write.request(method, f"{API}{path}", json=body, **options)
        assert answer.is_success, answer.text
        document: dict[str, Any] = answer.json()
        self._tokens[:] = [*self._tokens, document["consistency_token"]][-8:]
        return document

    @property
    def token(self) -> str:
        """Of what was written last."""
        return self._tokens[-1]

    async def found(self, method: str, path: str, body: Any = None, **options: Any) -> dict[str, Any]:
        answer = await self.asked(method, path, body, **options)
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    async def asked(self, method: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
        headers = {"X-Consistency-Token": ",".join(self._tokens)} if self._tokens else {}
        options.setdefault("params", {})["timeout_ms"] = 30_000
        if method == "POST":
            body, options["params"] = {"timeout_ms": 30_000, **(body or {})}, {}
        return await self.read.request(method, f"{API}{path}", json=body, headers=headers, **options)

    async def collection(self, name: str, ids: tuple[str, ...] = (), **fields: Any) -> dict[str, Any]:
        created = await self.written("POST", "/collections", {"name": name, "dimension": 2, **fields})
        if ids:
            operations = [{"op": "create", "id": one, "embedding": [1, 2]} for one in ids]
            await self.written("POST", f"/collections/{name}/vectors/batch", {"operations": operations})
        return created


@asynccontextmanager
async def running_flow(databases: Databases, **settings: Any) -> AsyncIterator[Flow]:
    """`settings` are the command service's."""
    async with (
        connected(databases.events_dsn) as log,
        connected(databases.read_dsn) as read,
        running_consumer(projector_settings(databases)),
        running_command_service(databases, **settings) as command,
        running_query_service(databases.read_reader_dsn, events_dsn=databases.events_reader_dsn) as query,
    ):
        yield Flow(command, query, Projection(databases, log, read), [])


@pytest_asyncio.fixture(scope="module")
async def flow(databases: Databases) -> AsyncIterator[Flow]:
    async with running_flow(databases) as running:
        yield running
