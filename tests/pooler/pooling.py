"""A pair of databases behind a pooler, and the system's processes on it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx

from aindusdb.local_stack.ports import HOST, free_port
from aindusdb.local_stack.processes import ProcessSpec, SupervisedProcess
from aindusdb.local_stack.services import http_probe
from aindusdb.local_stack.users import postgres_user
from shared.postgres import connect_uncached
from tests.pooler.pgbouncer import PgBouncer, obtain_pgbouncer
from tests.projector.log_writer import LogWriter
from tests.projector.projecting import Projection
from tests.servers import ROLE_PASSWORDS, DatabaseFactory, Databases, connected, running
from tests.transport.transporting import Transport

POOL_SIZE = 5
"""Connections to the server for each role and database."""

UNCACHED: Mapping[str, Any] = {"statement_cache_size": 0}
"""What settings are changed when a pooler stands between."""

FOR_POOLERS = {"AINDUSDB_STATEMENT_CACHE_SIZE": "0"}
"""The same, told to a process."""


@dataclass(frozen=True, slots=True)
class Pooled:
    direct: Databases
    through: Databases
    """What the services use leads through the pooler; the owners' and superusers' addresses are direct."""
    pooler: PgBouncer
    process: SupervisedProcess

    def switch(self, dsn: str, successor: str) -> None:
        """From now on what was the one database is the other; clients of the pooler stay connected."""
        self.pooler.servers[urlsplit(dsn).path.removeprefix("/")] = successor
        self.pooler.configure()
        running = self.process.record().process
        assert running is not None
        os.kill(running.pid, signal.SIGHUP)


@asynccontextmanager
async def pooled_databases(factory: DatabaseFactory) -> AsyncIterator[Pooled]:
    user = postgres_user()
    binary = obtain_pgbouncer(user)
    folder = Path(tempfile.mkdtemp(prefix="aindusdb-test-"))
    folder.chmod(0o755)  # PgBouncer runs as another user when we are root
    try:
        async with factory.pair() as direct:
            pooler = PgBouncer(binary, folder, free_port(), POOL_SIZE, ROLE_PASSWORDS, user)
            through = replace(
                direct,
                events_dsn=pooler.through(direct.events_dsn),
                read_dsn=pooler.through(direct.read_dsn),
                command_read_dsn=pooler.through(direct.command_read_dsn),
                projector_events_dsn=pooler.through(direct.projector_events_dsn),
                events_reader_dsn=pooler.through(direct.events_reader_dsn),
                read_reader_dsn=pooler.through(direct.read_reader_dsn),
            )
            async with running(pooler.spec(), folder) as process:
                yield Pooled(direct, through, pooler, process)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def uncached(dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await connect_uncached(dsn)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def pooled_way(pooled: Pooled, bootstrap: str) -> AsyncIterator[Transport]:
    """Its relays and projectors go through the pooler, what the test writes and looks at does not."""
    async with (
        connected(pooled.direct.events_dsn) as log,
        connected(pooled.direct.events_dsn) as written,
        connected(pooled.direct.read_dsn) as read,
    ):
        yield Transport(Projection(pooled.through, log, read), LogWriter(written), bootstrap)


@dataclass(frozen=True, slots=True)
class System:
    """Two command services, a projector that only an append wakes, and a query service, as processes."""

    pooled: Pooled
    writers: Sequence[httpx.AsyncClient]
    reader: httpx.AsyncClient
    logs: Path


@asynccontextmanager
async def running_system(pooled: Pooled) -> AsyncIterator[System]:
    through = pooled.through
    with tempfile.TemporaryDirectory(prefix="aindusdb-test-") as folder:
        async with AsyncExitStack() as stack:
            probing = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))

            def spec(name: str, module: str, **environment: str) -> ProcessSpec:
                port = free_port()
                inherited = {key: value for key, value in os.environ.items() if not key.startswith("AINDUSDB_")}
                own = {"AINDUSDB_PORT": str(port), "AINDUSDB_SIGNING_KEYS": "test-key", **FOR_POOLERS, **environment}
                return ProcessSpec(
                    name, (sys.executable, "-m", module), port, http_probe(probing, port), {**inherited, **own}
                )

            specs = [
                spec(
                    "projector", "projector",
                    AINDUSDB_EVENTS_DSN=through.projector_events_dsn,
                    AINDUSDB_EVENTS_LISTEN_DSN=pooled.direct.projector_events_dsn,
                    AINDUSDB_READ_DSN=through.read_dsn,
                    AINDUSDB_POLL_INTERVAL_SECONDS="60",
                ),
                spec("command service 1", "command_service", AINDUSDB_EVENTS_DSN=through.events_dsn),
                spec("command service 2", "command_service", AINDUSDB_EVENTS_DSN=through.events_dsn),
                spec(
                    "query service", "query_service",
                    AINDUSDB_EVENTS_DSN=through.events_reader_dsn,
                    AINDUSDB_READ_DSN=through.read_reader_dsn,
                ),
            ]  # fmt: skip
            await asyncio.gather(*(stack.enter_async_context(running(one, Path(folder))) for one in specs))
            clients = [
                await stack.enter_async_context(
                    httpx.AsyncClient(base_url=f"http://{HOST}:{one.port}/api/v1", trust_env=False, timeout=60)
                )
                for one in specs[1:]
            ]
            yield System(pooled, clients[:2], clients[2], Path(folder))
