"""A fresh pair of databases for each test, with connections that look at both."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.projector.log_writer import LogWriter
from tests.projector.projecting import Projection
from tests.servers import DatabaseFactory, connected


@pytest_asyncio.fixture
async def projection(database_factory: DatabaseFactory) -> AsyncIterator[Projection]:
    async with (
        database_factory.pair() as databases,
        connected(databases.events_dsn) as log,
        connected(databases.read_dsn) as read,
    ):
        yield Projection(databases, log, read)


@pytest_asyncio.fixture
async def log(projection: Projection) -> LogWriter:
    return LogWriter(projection.log)
