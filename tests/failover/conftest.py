"""One primary with a synchronous standby for all tests of a file, and a fresh pair of databases for each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest_asyncio

from tests.failover.pair import Pair, running_pair
from tests.servers import DatabaseFactory, Databases, PostgresAdmins


@pytest_asyncio.fixture(scope="module")
async def pair() -> AsyncIterator[Pair]:
    # A commit waits until the standby shows it, so that a standby which has it can be made to wait with that.
    settings = {"synchronous_commit": "remote_apply"}
    async with running_pair("databases", settings, synchronous=True) as running:
        yield running


@pytest_asyncio.fixture(scope="module")
async def factory(pair: Pair) -> AsyncIterator[DatabaseFactory]:
    admin = _admin(pair)
    factory = DatabaseFactory(PostgresAdmins(admin, admin))
    async with factory.templates():
        yield factory


@pytest_asyncio.fixture
async def databases(pair: Pair, factory: DatabaseFactory) -> AsyncIterator[Databases]:
    """Each address names both servers."""
    async with _databases(pair, factory) as databases:
        yield databases


@pytest_asyncio.fixture
async def of_the_read_side(pair: Pair, postgres_server: str) -> AsyncIterator[Databases]:
    """Only the read database is on the two servers."""
    factory = DatabaseFactory(PostgresAdmins(postgres_server, _admin(pair)))
    async with factory.templates(), _databases(pair, factory) as databases:
        yield databases


def _admin(pair: Pair) -> str:
    return f"{pair.dsn('postgres')}?target_session_attrs=read-write"


@asynccontextmanager
async def _databases(pair: Pair, factory: DatabaseFactory) -> AsyncIterator[Databases]:
    if pair.standby is None:
        await pair.add_standby(synchronous=True)
    async with factory.pair() as databases:
        yield databases
