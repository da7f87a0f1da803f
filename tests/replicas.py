"""A PostgreSQL of a test's own with streaming replicas, whose processes the test may kill, freeze or hold back."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from aindusdb.local_stack.ports import free_port
from aindusdb.local_stack.postgres import PostgresServer, find_binaries
from aindusdb.local_stack.processes import SupervisedProcess
from aindusdb.local_stack.replicas import Replica
from aindusdb.local_stack.users import postgres_user
from tests.servers import PostgresAdmins, connected, running


@dataclass(frozen=True, slots=True)
class RunningServer:
    """Supervised: when it is killed it comes back."""

    server: PostgresServer
    process: SupervisedProcess

    @property
    def admin_dsn(self) -> str:
        return self.server.dsn("postgres")

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    def signal(self, number: signal.Signals) -> None:
        """To the postmaster and its children: a stopped postmaster's children would go on answering."""
        postmaster = self.process.record().process
        assert postmaster is not None
        children = Path(f"/proc/{postmaster.pid}/task/{postmaster.pid}/children").read_text().split()
        for pid in (postmaster.pid, *map(int, children)):
            os.kill(pid, number)

    async def pause_replay(self) -> None:
        async with connected(self.admin_dsn) as admin:
            await admin.execute("SELECT pg_wal_replay_pause()")

    async def resume_replay(self) -> None:
        async with connected(self.admin_dsn) as admin:
            await admin.execute("SELECT pg_wal_replay_resume()")


@dataclass(frozen=True, slots=True)
class Replicated:
    primary: RunningServer
    replicas: Sequence[RunningServer]

    @property
    def admins(self) -> PostgresAdmins:
        return PostgresAdmins(self.primary.admin_dsn, self.primary.admin_dsn)

    def on(self, server: RunningServer, primary_dsn: str) -> str:
        """The address of the same database on another server."""
        return primary_dsn.replace(self.primary.address, server.address)


@asynccontextmanager
async def replicated_postgres(count: int) -> AsyncIterator[Replicated]:
    """The replicas end at once what stands in the way of their replay."""
    folder = Path(tempfile.mkdtemp(prefix="aindusdb-test-"))
    folder.chmod(0o755)  # PostgreSQL runs as another user when we are root
    user = postgres_user()
    primary = PostgresServer(
        find_binaries(user),
        folder / "postgres",
        free_port(),
        superuser_password="aindusdb-test",
        user=user,
        # Without synchronous_commit and fsync nothing waits for a disk; only processes die here.
        settings={"fsync": "off", "shared_buffers": "64MB", "max_wal_size": "1GB", "wal_keep_size": "64MB"},
    )
    try:
        primary.initialise()
        async with AsyncExitStack() as stack:
            running_primary = RunningServer(primary, await stack.enter_async_context(running(primary.spec(), folder)))
            replicas = []
            for number in range(1, count + 1):
                replica = Replica(primary, number, free_port())
                spec = replica.spec()
                spec = replace(spec, argv=(*spec.argv, "-c", "max_standby_streaming_delay=0"))
                process = await stack.enter_async_context(running(spec, folder))
                replicas.append(RunningServer(replica.server, process))
            yield Replicated(running_primary, replicas)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
