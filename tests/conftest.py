"""The servers' fixtures. Folders below add their own in conftest files of theirs."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.servers import DatabaseFactory, Databases, PostgresAdmins, running_kafka, running_postgres, running_redis


@pytest_asyncio.fixture(scope="session")
async def postgres_servers() -> AsyncIterator[PostgresAdmins]:
    async with running_postgres() as admins:
        yield admins


@pytest_asyncio.fixture(scope="session")
async def postgres_server(postgres_servers: PostgresAdmins) -> str:
    """A superuser's address of the server that holds the event databases."""
    return postgres_servers.events


@pytest_asyncio.fixture(scope="session")
async def redis_url() -> AsyncIterator[str]:
    async with running_redis() as url:
        yield url


@pytest_asyncio.fixture(scope="session")
async def kafka_bootstrap() -> AsyncIterator[str]:
    async with running_kafka() as bootstrap:
        yield bootstrap


@pytest_asyncio.fixture(scope="session")
async def database_factory(postgres_servers: PostgresAdmins) -> AsyncIterator[DatabaseFactory]:
    factory = DatabaseFactory(postgres_servers)
    async with factory.templates():
        yield factory


@pytest_asyncio.fixture(scope="module")
async def databases(database_factory: DatabaseFactory) -> AsyncIterator[Databases]:
    """A fresh, migrated pair for each module. `database_factory.pair()` gives one more."""
    async with database_factory.pair() as pair:
        yield pair
