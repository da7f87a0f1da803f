"""A local stack to be killed at: started by the command line, watched through its state file. Its databases stand on
servers of their own, so that they die apart, each with a standby that takes its place: that of the event database is a
synchronous one, and both of its servers archive. The broker stands apart too, and runs on while the stack is down."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aindusdb.local_stack import databases
from aindusdb.local_stack.layout import DataFolder
from aindusdb.local_stack.processes import SupervisedProcess
from aindusdb.local_stack.state import ProcessRecord, StackState, read_state
from tests.failover import documented
from tests.failover.archived import Archive, empty_archive
from tests.failover.pair import Pair, running_pair
from tests.killing import kill, restarted
from tests.servers import ROLE_PASSWORDS, connected, own_kafka
from tests.stack.running import free_base_port

EVENT_DATABASE = "aindusdb_events"
READ_DATABASE = "aindusdb_read"

EVENT_SERVER = "Event PostgreSQL"
EVENT_STANDBY = "Event standby"
READ_SERVER = "Read PostgreSQL"
READ_REPLICA = "Read replica"
EVENT_FAILOVER = "Event PostgreSQL for good"
READ_FAILOVER = "Read PostgreSQL for good"
BROKER = "Kafka"


@dataclass(frozen=True, slots=True)
class Stack:
    folder: DataFolder
    port: int
    events: Pair
    read: Pair
    archive: Archive
    broker: SupervisedProcess
    settings: dict[str, str] = field(repr=False)
    """Which servers there are."""

    @property
    def command_url(self) -> str:
        return f"http://127.0.0.1:{self.port + 1}"

    @property
    def query_url(self) -> str:
        return f"http://127.0.0.1:{self.port + 2}"

    def state(self) -> StackState:
        state = read_state(self.folder.state_file)
        assert state is not None, "the stack left no state"
        return state

    def process(self, name: str) -> ProcessRecord:
        servers = {
            EVENT_SERVER: self.events.primary,
            EVENT_STANDBY: self.events.standby,
            READ_SERVER: self.read.primary,
            READ_REPLICA: self.read.standby,
        }
        if (server := servers.get(name)) is not None:
            return server.process.record()
        if name == BROKER:
            return self.broker.record()
        return next(record for record in self.state().processes if record.name == name)

    async def strike(self, name: str) -> float:
        """SIGKILL; returns how many seconds it took until it was there again, be it in another server's place."""
        began = time.monotonic()
        match name:
            case str() if name == EVENT_FAILOVER:
                await self._fail_over(self.events)
            case str() if name == READ_FAILOVER:
                await self._fail_over(self.read)
            case _:
                await restarted(lambda: self.process(name), kill(lambda: self.process(name)))
        return time.monotonic() - began

    async def up(self) -> None:
        await self.run("up", "--detach", "--port", str(self.port), "--data-dir", str(self.folder.root))

    async def down(self) -> None:
        await self.run("down", "--data-dir", str(self.folder.root))

    async def run(self, *arguments: str) -> None:
        """An `aindusdb` command."""
        command = [sys.executable, "-m", "aindusdb", *arguments]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AINDUSDB_")}
        result = await asyncio.to_thread(
            subprocess.run, command,
            env={**environment, **self.settings},
            stdout=sys.stderr, stdin=subprocess.DEVNULL, check=False, timeout=180,
        )  # fmt: skip
        assert result.returncode == 0, f"{' '.join(command)} ended with {result.returncode}"

    @staticmethod
    async def _fail_over(pair: Pair) -> None:
        synchronous = pair.synchronous
        await pair.fail_over()
        await pair.add_standby(synchronous=synchronous)


@asynccontextmanager
async def running_stack() -> AsyncIterator[Stack]:
    root = Path(tempfile.mkdtemp(prefix="aindusdb-crash-"))
    root.chmod(0o755)  # root's PostgreSQL runs as another user, which must reach its data
    folder, port = DataFolder(root / "data"), free_base_port()
    archiving = documented.archiving()
    try:
        with empty_archive() as archive:
            async with (
                running_pair("events", archiving, synchronous=True, archive=archive) as events,
                running_pair("read", synchronous=False) as read,
                own_kafka() as (kafka, broker),
            ):
                await make_event_database(events)
                await make_read_database(read)
                settings = {**_addresses(events, read), "AINDUSDB_KAFKA_BOOTSTRAP": kafka.bootstrap}
                stack = Stack(folder, port, events, read, archive, broker, settings)
                await stack.up()
                try:
                    yield stack
                except BaseException:
                    for log in sorted(folder.logs.glob("*.log")):
                        print(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}", file=sys.stderr)
                    raise
                finally:
                    await stack.down()
    finally:
        shutil.rmtree(root, ignore_errors=True)


async def make_event_database(events: Pair) -> None:
    await _make_database(events, EVENT_DATABASE, databases.OWNER)


async def make_read_database(read: Pair) -> None:
    await _make_database(read, READ_DATABASE, databases.PROJECTOR)
    async with connected(read.primary.server.dsn(READ_DATABASE)) as inside_read:
        await databases.create_vector_extension(inside_read)


async def _make_database(pair: Pair, name: str, owner: str) -> None:
    async with connected(pair.primary.admin_dsn) as admin:
        await databases.create_roles(admin, ROLE_PASSWORDS)
        await databases.create_database(admin, name, owner)


def _addresses(events: Pair, read: Pair) -> dict[str, str]:
    """The settings that name the databases, each with both of its servers."""

    def dsn(pair: Pair, name: str, role: str) -> str:
        return pair.dsn(name, role, ROLE_PASSWORDS[role])

    read_dsn = dsn(read, READ_DATABASE, databases.PROJECTOR)
    return {
        "AINDUSDB_EVENTS_DSN": dsn(events, EVENT_DATABASE, databases.COMMAND),
        "AINDUSDB_EVENTS_OWNER_DSN": dsn(events, EVENT_DATABASE, databases.OWNER),
        "AINDUSDB_READ_DSN": read_dsn,
        "AINDUSDB_READ_REPLICA_DSNS": ",".join(read_dsn.replace(read.hosts, host) for host in read.hosts.split(",")),
    }
