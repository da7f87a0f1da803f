"""A log, a read model of it, and the query service that reads both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest_asyncio

from projector import replays
from projector.generations import Generation
from projector.replay_session import opened_session
from projector.replay_targets import read_targets
from projector.replays import Replaying
from projector.snapshots import Wanted
from tests.projector.log_writer import LogWriter
from tests.projector.projecting import Projection, projector_settings
from tests.query.conftest import running_service
from tests.servers import DatabaseFactory, connected

API = "/api/v1/collections"


@dataclass(frozen=True, slots=True)
class Past:
    service: httpx.AsyncClient
    log: LogWriter
    projection: Projection

    async def asked(self, collection: str, path: str, **body: Any) -> httpx.Response:
        return await self.service.post(f"{API}/{collection}/vectors/{path}", json=body)

    async def found(self, collection: str, path: str, **body: Any) -> dict[str, Any]:
        answer = await self.asked(collection, path, **body)
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    async def got(self, path: str, **parameters: Any) -> httpx.Response:
        return await self.service.get(f"{API}/{path}", params=parameters)

    async def build(self, collection: str, positions: Iterable[int], **settings: Any) -> list[Generation]:
        """A snapshot of each position."""
        chosen = projector_settings(self.projection.databases, **settings)
        [target] = await read_targets(self.projection.read, "default", [collection])
        async with opened_session(chosen, target) as session:
            return [await replays.build(Replaying(session), Wanted(position)) for position in positions]


@pytest_asyncio.fixture(scope="module")
async def past(database_factory: DatabaseFactory) -> AsyncIterator[Past]:
    async with (
        database_factory.pair() as databases,
        connected(databases.events_dsn) as log,
        connected(databases.read_dsn) as read,
        running_service(databases.read_reader_dsn, events_dsn=databases.events_reader_dsn) as service,
    ):
        yield Past(service, LogWriter(log), Projection(databases, log, read))
