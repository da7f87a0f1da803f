"""The command service inside the test process, on a real event database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx
import pytest_asyncio
from prometheus_client import CollectorRegistry

from command_service.app import create_app
from command_service.settings import CommandSettings
from tests.servers import Databases


def command_settings(databases: Databases, **changes: Any) -> CommandSettings:
    return CommandSettings(events_dsn=databases.events_dsn, signing_keys="test-key", **changes)


@asynccontextmanager
async def running_service(databases: Databases, **changes: Any) -> AsyncIterator[httpx.AsyncClient]:
    application = create_app(command_settings(databases, **changes), CollectorRegistry())
    async with application.router.lifespan_context(application):
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="http://service", timeout=30) as client:
            yield client


@pytest_asyncio.fixture(scope="module")
async def service(databases: Databases) -> AsyncIterator[httpx.AsyncClient]:
    async with running_service(databases) as client:
        yield client


@pytest_asyncio.fixture(scope="module")
async def log(databases: Databases) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A superuser's connection to the event database."""
    connection = await asyncpg.connect(databases.events_owner_dsn)
    yield connection
    await connection.close()
