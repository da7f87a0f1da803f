"""The servers' fixtures. Folders below add their own in conftest files of theirs."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest
import pytest_asyncio
import structlog

from aindusdb.local_stack.errors import KafkaNotAvailableError
from tests.servers import (
    DatabaseFactory,
    Databases,
    PostgresAdmins,
    kafka_installation,
    running_kafka,
    running_postgres,
    running_redis,
)

# A shell lets what it runs in the background ignore Ctrl-C, and so would every command that the tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Services run beside commands whose output is looked at, and `sys.stdout` and `sys.stderr` are then the command's.
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.__stderr__))

_SLOWEST_FIRST = ("stack", "transport", "client", "consistency", "docs", "pooler", "failover", "projector", "flow")
"""Folders. Whoever shares the files among several processes waits least at the end if the short ones come last."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        folder = item.path.parent.name
        return _SLOWEST_FIRST.index(folder) if folder in _SLOWEST_FIRST else len(_SLOWEST_FIRST)

    items.sort(key=rank)


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


@pytest.fixture(scope="session")
def kafka_installed() -> None:
    """For tests that start a broker."""
    with skipped_without(KafkaNotAvailableError):
        kafka_installation()


@contextmanager
def skipped_without(unavailable: type[Exception]) -> Iterator[None]:
    """Skips tests of a server that this machine cannot have, and says what is missing. Where
    AINDUSDB_TEST_REQUIRE_SERVERS is set, as in CI, they fail."""
    try:
        yield
    except unavailable as error:
        if os.environ.get("AINDUSDB_TEST_REQUIRE_SERVERS"):
            raise
        pytest.skip(str(error))


@pytest_asyncio.fixture(scope="session")
async def kafka_bootstrap(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    if not os.environ.get("AINDUSDB_TEST_KAFKA_BOOTSTRAP"):
        request.getfixturevalue("kafka_installed")
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
