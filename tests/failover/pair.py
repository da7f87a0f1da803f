"""A PostgreSQL primary and its standby, on two ports for good: the primary dies, the standby is promoted, and what was
the primary's place is taken by a standby of the new one. Or both are lost, and what comes in their place begins with
nothing, or with what their archive has."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from aindusdb.local_stack.ports import HOST, free_port
from aindusdb.local_stack.postgres import PostgresServer, find_binaries
from aindusdb.local_stack.replicas import Replica
from aindusdb.local_stack.users import postgres_user
from tests.failover.archived import Archive, recovered
from tests.projector.projecting import until
from tests.replicas import RunningServer
from tests.servers import connected, running

# docs/operations/failover.md has these; the first is for the primary, the others are for the standby, in this order.
RELOAD = "SELECT pg_reload_conf()"
SYNCHRONOUS = ("ALTER SYSTEM SET synchronous_standby_names = '*'", RELOAD)
PROMOTE = ("ALTER SYSTEM RESET synchronous_standby_names", RELOAD, "SELECT pg_promote()")

_STREAMING = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
_CONFIRMING = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"


class Pair:
    def __init__(
        self,
        folder: Path,
        name: str,
        password: str,
        settings: Mapping[str, str],
        stack: AsyncExitStack,
        archive: Archive | None,
    ):
        user = postgres_user()
        self.ports = (free_port(), free_port())
        self._folder = folder
        self._name = name
        self._stack = stack
        self._archive = archive
        self._server = PostgresServer(
            find_binaries(user), folder / name, self.ports[0], password, user, settings=dict(settings)
        )
        self.synchronous = False
        self.primary: RunningServer
        self.standby: RunningServer | None = None

    @property
    def hosts(self) -> str:
        return ",".join(f"{HOST}:{port}" for port in self.ports)

    def dsn(self, database: str, role: str = "postgres", password: str | None = None) -> str:
        """An address with both hosts, which stays right whichever of them is the primary."""
        return self._server.dsn(database, role, password).replace(f"{HOST}:{self._server.port}", self.hosts)

    async def start(self) -> None:
        """A primary that holds nothing yet."""
        await asyncio.to_thread(self._server.initialise)
        self.primary = await self._run(self._server, self._name)

    async def lose(self) -> None:
        """SIGKILL for both servers; nothing is left of their data."""
        lost = [server for server in (self.primary, self.standby) if server is not None]
        for server in lost:
            server.signal(signal.SIGKILL)
        for server in lost:
            await self._gone(server)
        self.standby = None

    async def restore(self, target: str = "") -> None:
        """A primary again, from the backup and the archive: to its end, or to a time."""
        assert self._archive is not None
        await self._archive.restore(self._server, target)
        self.primary = await self._run(self._server, self._name)
        await recovered(self._server)

    async def add_standby(self, *, synchronous: bool) -> None:
        """Copies the primary, and waits until the copy follows it."""
        primary = self.primary.server
        port = next(port for port in self.ports if port != primary.port)
        replica = Replica(primary, 1, port)
        await asyncio.to_thread(replica.prepare)
        self.standby = await self._run(replica.server, f"{self._name} standby")
        self.synchronous = synchronous
        if synchronous:
            await self.tell(self.primary, *SYNCHRONOUS)
        await self._follows()

    async def fail_over(self) -> None:
        """SIGKILL for the primary and all of its backends; the standby takes its place."""
        await self.kill_primary()
        await self.promote()

    async def kill_primary(self) -> None:
        self.primary.signal(signal.SIGKILL)
        await self._gone(self.primary)

    async def promote(self) -> None:
        assert self.standby is not None
        await self.tell(self.standby, *PROMOTE)
        self.primary, self.standby = self.standby, None

    async def tell(self, server: RunningServer, *statements: str) -> None:
        async with connected(server.admin_dsn) as admin:
            for statement in statements:
                await admin.execute(statement)

    async def _follows(self) -> None:
        async with connected(self.primary.admin_dsn) as admin:
            await until(
                lambda: admin.fetchval(_CONFIRMING if self.synchronous else _STREAMING),
                "the standby does not follow its primary",
            )

    @staticmethod
    async def _gone(server: RunningServer) -> None:
        await server.process.stop()
        shutil.rmtree(server.server.data, ignore_errors=True)

    async def _run(self, server: PostgresServer, name: str) -> RunningServer:
        spec = server.spec() if self._archive is None else self._archive.spec(server)
        spec = replace(spec, name=f"{name} on {server.port}")
        return RunningServer(server, await self._stack.enter_async_context(running(spec, self._folder)))


@asynccontextmanager
async def running_pair(
    name: str, settings: Mapping[str, str] | None = None, *, synchronous: bool, archive: Archive | None = None
) -> AsyncIterator[Pair]:
    """With a standby. Processes die here and no machine does, so nothing waits for a disk. `archive` goes with the
    settings of servers that archive."""
    folder = Path(tempfile.mkdtemp(prefix="aindusdb-test-"))
    folder.chmod(0o755)  # PostgreSQL runs as another user when we are root
    try:
        if (user := postgres_user()) is not None:
            os.chown(folder, user.uid, user.gid)
        async with AsyncExitStack() as stack:
            given = {"fsync": "off", "shared_buffers": "64MB", "max_wal_size": "1GB", **(settings or {})}
            pair = Pair(folder, name, "aindusdb-test", given, stack, archive)
            await pair.start()
            await pair.add_standby(synchronous=synchronous)
            yield pair
    finally:
        shutil.rmtree(folder, ignore_errors=True)
