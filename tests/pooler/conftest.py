"""A pooler for each module, with a pair of databases behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.pooler.pooling import Pooled, System, pooled_databases, running_system
from tests.servers import DatabaseFactory


@pytest_asyncio.fixture(scope="module")
async def pooled(database_factory: DatabaseFactory) -> AsyncIterator[Pooled]:
    async with pooled_databases(database_factory) as databases:
        yield databases


@pytest_asyncio.fixture(scope="module")
async def system(pooled: Pooled) -> AsyncIterator[System]:
    async with running_system(pooled) as processes:
        yield processes
