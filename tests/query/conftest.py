"""The query service inside the test process, on a real read database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from query_service.app import create_app
from query_service.settings import QuerySettings
from shared.tokens import Signer
from tests.query.read_model import ReadModel
from tests.servers import Databases, connected

SIGNING_KEY = "test-key"


@asynccontextmanager
async def running_service(read_dsn: str, **changes: Any) -> AsyncIterator[httpx.AsyncClient]:
    settings = QuerySettings(read_dsn=read_dsn, signing_keys=SIGNING_KEY, **changes)
    application = create_app(settings, CollectorRegistry())
    async with application.router.lifespan_context(application):
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="http://service", timeout=30) as client:
            yield client


@pytest_asyncio.fixture(scope="module")
async def read_model(databases: Databases) -> AsyncIterator[ReadModel]:
    async with connected(databases.read_dsn) as connection:
        model = ReadModel(connection)
        await model.start()
        yield model


@pytest_asyncio.fixture(scope="module")
async def service(databases: Databases, read_model: ReadModel) -> AsyncIterator[httpx.AsyncClient]:
    async with running_service(databases.read_reader_dsn) as client:
        yield client


@pytest.fixture
def signer() -> Signer:
    return Signer([SIGNING_KEY.encode()])
