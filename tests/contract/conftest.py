"""The running services, once for each module."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.contract.running import Running, running_services
from tests.servers import Databases


@pytest_asyncio.fixture(scope="module")
async def running(
    databases: Databases, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Running]:
    async with running_services(databases, redis_url, tmp_path_factory.mktemp("models")) as services:
        yield services
