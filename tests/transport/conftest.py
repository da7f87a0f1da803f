"""A fresh log and topic for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.servers import DatabaseFactory
from tests.transport.transporting import Transport, transport


@pytest_asyncio.fixture
async def way(database_factory: DatabaseFactory, kafka_bootstrap: str) -> AsyncIterator[Transport]:
    async with transport(database_factory, kafka_bootstrap) as opened:
        yield opened
