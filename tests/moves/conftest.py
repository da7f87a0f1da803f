"""Collections that move to another model, on a real event database and an endpoint of several models."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import count
from typing import Any, TypeAlias

import asyncpg
import httpx
import orjson
import pytest
import pytest_asyncio

from events_schema.embedding import decode
from tests.command.conftest import log, running_service
from tests.embedding.endpoint import DIMENSION, Endpoint, numbers_of, running_endpoint
from tests.projector.projecting import until
from tests.servers import DatabaseFactory, Databases

__all__ = ["log"]

Log: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

API = "/api/v1/collections"
OLD, NEW, THIRD, AWAY = "old", "new", "third", "away"
DIMENSIONS = {OLD: DIMENSION, NEW: 12, THIRD: DIMENSION, AWAY: 5}

_names = (f"moving{number}" for number in count())


@pytest_asyncio.fixture(scope="module")
async def endpoint() -> AsyncIterator[Endpoint]:
    async with running_endpoint() as running:
        running.dimensions = DIMENSIONS
        yield running


@pytest_asyncio.fixture(scope="module")
async def databases(database_factory: DatabaseFactory) -> AsyncIterator[Databases]:
    async with database_factory.pair() as pair:
        yield pair


def models(endpoint: Endpoint, first: str = OLD, *others: str) -> dict[str, Any]:
    of_others = [{"provider": "openai", "model": model, "url": endpoint.url} for model in others]
    return {
        "embedding_provider": "openai", "embedding_url": endpoint.url, "embedding_model": first,
        "embedding_others": orjson.dumps(of_others).decode(), "embedding_timeout_seconds": 2.0,
    }  # fmt: skip


@pytest_asyncio.fixture(scope="module")
async def service(databases: Databases, endpoint: Endpoint) -> AsyncIterator[httpx.AsyncClient]:
    settings = {**models(endpoint, OLD, NEW, THIRD, AWAY), "reembedding_interval_seconds": 0.05}
    async with running_service(databases, **settings) as client:
        yield client


@pytest.fixture(autouse=True)
def healthy(endpoint: Endpoint) -> None:
    endpoint.healthy()


class Moving:
    """A collection by its path, and what the log has of it."""

    def __init__(self, service: httpx.AsyncClient, log: Log, created: dict[str, Any]) -> None:
        self.service = service
        self.log = log
        self.collection_id = created["collection_id"]
        self.path = f"{API}/{created['name']}"

    async def sent(self, method: str, path: str = "", body: Any = None, status: int | None = None) -> dict[str, Any]:
        answer = await self.service.request(method, f"{self.path}{path}", json=body)
        assert answer.is_success if status is None else answer.status_code == status, answer.text
        document: dict[str, Any] = answer.json()
        return document

    async def put(self, vector_id: str, **fields: Any) -> dict[str, Any]:
        return await self.sent("PUT", f"/vectors/{vector_id}", fields)

    async def status(self) -> dict[str, Any]:
        return await self.sent("GET", "/reembedding")

    async def comes_to(self, state: str) -> dict[str, Any]:
        found: dict[str, Any] = {}

        async def is_there() -> bool:
            found.update(await self.status())
            return bool(found["state"] == state)

        await until(is_there, f"the move did not come to {state}")
        return found

    async def events(self, *types: str) -> list[tuple[str, dict[str, Any]]]:
        rows = await self.log.fetch(
            "SELECT event_type, event_data FROM events WHERE collection_id = $1 AND event_type = ANY($2)"
            " ORDER BY position", self.collection_id, types,
        )  # fmt: skip
        return [(row["event_type"], orjson.loads(row["event_data"])) for row in rows]

    async def last(self, vector_id: str) -> tuple[str, dict[str | None, list[float]]]:
        """The type of the vector's last event, and the embeddings that it has, by model."""
        row = await self.log.fetchrow(
            "SELECT event_type, event_data FROM events WHERE collection_id = $1 AND event_data ->> 'id' = $2"
            " ORDER BY position DESC LIMIT 1", self.collection_id, vector_id,
        )  # fmt: skip
        assert row is not None
        embeddings = orjson.loads(row["event_data"]).get("embeddings", [])
        return row["event_type"], {one["spec"]["model"]: decode(one["data"]).tolist() for one in embeddings}


@pytest_asyncio.fixture
async def moving(service: httpx.AsyncClient, log: Log) -> Moving:
    return await collection(service, log)


async def collection(service: httpx.AsyncClient, log: Log, **fields: Any) -> Moving:
    answer = await service.post(API, json={"name": next(_names), **fields})
    assert answer.status_code == 201, answer.text
    return Moving(service, log, answer.json())


def by(*model_names: str, text: str) -> dict[str | None, list[float]]:
    return {model: numbers_of(text, DIMENSIONS[model]) for model in model_names}
