"""Both services as processes on one pair of databases, with something in them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from shared.postgres import Connection
from tests.embedding.tiny_model import DIMENSION, write_tiny_model
from tests.processes import running_process
from tests.projector.projecting import Projection
from tests.servers import Databases, connected

COLLECTIONS = ("held", "doomed", "default")
"""Each takes texts, by a tiny model, and has the vectors `a` and `b`. `doomed` is for what deletes a collection."""

ALIASES = ("other-name", "doomed-name")
"""Of `held`. `doomed-name` is for what removes an alias."""

PLAIN = "plain"
"""A collection of three dimensions, with a vector `a`."""

_VECTORS = {
    "operations": [
        {"op": "upsert", "id": "a", "content": "text", "metadata": {"lang": "en"}},
        {"op": "upsert", "id": "b", "embedding": [1] * DIMENSION},
    ]
}


@dataclass(frozen=True, slots=True)
class Running:
    """A client of each service, by its name, a token of what they hold, and a connection to the event log."""

    clients: dict[str, httpx.AsyncClient]
    token: str
    log: Connection
    gone: str
    """The id of `gone`, a collection that was deleted."""


@asynccontextmanager
async def running_services(databases: Databases, redis_url: str, models: Path) -> AsyncIterator[Running]:
    common = {
        "AINDUSDB_SIGNING_KEYS": "test-key",
        "AINDUSDB_REDIS_URL": redis_url,
        "AINDUSDB_EMBEDDING_PATH": str(write_tiny_model(models / "tiny")),
    }
    async with (
        running_process(
            "command_service",
            AINDUSDB_EVENTS_DSN=databases.events_dsn,
            AINDUSDB_READ_DSN=databases.command_read_dsn,
            **common,
        ) as (_, command),
        running_process(
            "query_service",
            AINDUSDB_READ_DSN=databases.read_reader_dsn,
            AINDUSDB_EVENTS_DSN=databases.events_reader_dsn,
            AINDUSDB_FEED_HEARTBEAT_SECONDS="0.1",
            **common,
        ) as (_, query),
        connected(databases.events_dsn) as log,
        connected(databases.read_dsn) as read,
    ):
        for name in COLLECTIONS:
            await _accepted(command.post("/api/v1/collections", json={"name": name}))
            await _accepted(command.post(f"/api/v1/collections/{name}/vectors/batch", json=_VECTORS))
        plain = {"name": PLAIN, "dimension": 3, "model": "none"}
        await _accepted(command.post("/api/v1/collections", json=plain))
        first = {"id": "a", "embedding": [1, 2, 3]}
        await _accepted(command.post(f"/api/v1/collections/{PLAIN}/vectors", json=first))
        for alias in ALIASES:
            await _accepted(command.put(f"/api/v1/aliases/{alias}", json={"collection": "held"}))
        gone = (await command.post("/api/v1/collections", json={"name": "gone"})).json()["collection_id"]
        await _accepted(command.post("/api/v1/collections/gone/vectors/batch", json=_VECTORS))
        token = await _accepted(command.delete("/api/v1/collections/gone"))
        await Projection(databases, log, read).catch_up()
        yield Running({"command_service": command, "query_service": query}, token, log, gone)


async def _accepted(sending: Awaitable[httpx.Response]) -> str:
    answer = await sending
    assert answer.is_success, answer.text
    token: str = answer.json()["consistency_token"]
    return token
