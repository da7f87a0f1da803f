"""A pooler for each module, with a pair of databases behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from aindusdb.local_stack.users import postgres_user
from tests.conftest import skipped_without
from tests.pooler.pgbouncer import PgBouncerNotAvailableError, obtain_pgbouncer
from tests.pooler.pooling import Pooled, System, pooled_databases, running_system
from tests.servers import DatabaseFactory, Databases, PostgresAdmins, connected, own_postgres


@pytest.fixture(scope="session")
def pgbouncer_installed() -> None:
    with skipped_without(PgBouncerNotAvailableError):
        obtain_pgbouncer(postgres_user())


@pytest_asyncio.fixture(scope="module")
async def pooled(pgbouncer_installed: None, database_factory: DatabaseFactory) -> AsyncIterator[Pooled]:
    del pgbouncer_installed
    async with pooled_databases(database_factory) as databases:
        yield databases


@pytest_asyncio.fixture(scope="module")
async def system(pooled: Pooled) -> AsyncIterator[System]:
    async with running_system(pooled) as processes:
        yield processes


@pytest_asyncio.fixture(scope="session")
async def other_server() -> AsyncIterator[DatabaseFactory]:
    async with own_postgres() as dsn:
        factory = DatabaseFactory(PostgresAdmins(dsn, dsn))
        async with factory.templates():
            yield factory


@pytest_asyncio.fixture
async def switched(pgbouncer_installed: None, database_factory: DatabaseFactory) -> AsyncIterator[Pooled]:
    """A pooler of its own, to be pointed at another server."""
    del pgbouncer_installed
    async with pooled_databases(database_factory) as databases:
        yield databases


@pytest_asyncio.fixture
async def successor(other_server: DatabaseFactory) -> AsyncIterator[Databases]:
    """Another server's pair, in which the types of pgvector have other numbers."""
    async with other_server.pair() as databases:
        async with connected(databases.read_admin_dsn) as admin:
            await admin.execute("DROP EXTENSION vector; CREATE EXTENSION vector")
        yield databases
