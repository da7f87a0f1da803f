"""A local stack to be killed at: started by the command line, watched through its state file. Its databases stand on
servers of their own, so that they die apart, each with a standby that takes its place: that of the event database is a
synchronous one."""

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
from dataclasses import dataclass
from pathlib import Path

from aindusdb.local_stack import databases
from aindusdb.local_stack.layout import DataFolder
from aindusdb.local_stack.state import ProcessRecord, StackState, read_state
from tests.failover.pair import Pair, running_pair
from tests.killing import kill, restarted
from tests.servers import ROLE_PASSWORDS, connected
from tests.stack.running import free_base_port

EVENT_SERVER = "Event PostgreSQL"
EVENT_STANDBY = "Event standby"
READ_SERVER = "Read PostgreSQL"
READ_REPLICA = "Read replica"
EVENT_FAILOVER = "Event PostgreSQL for good"
READ_FAILOVER = "Read PostgreSQL for good"


@dataclass(frozen=True, slots=True)
class Stack:
    folder: DataFolder
    port: int
    events: Pair
    read: Pair

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
    arguments = ["--data-dir", str(folder.root)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AINDUSDB_")}
    command = [sys.executable, "-m", "aindusdb"]
    try:
        async with running_pair("events", synchronous=True) as events, running_pair("read", synchronous=False) as read:
            environment |= await _databases_on(events, read)
            options = ["--port", str(port), "--kafka"]
            await _run([*command, "up", "--detach", *options, *arguments], environment)
            try:
                yield Stack(folder, port, events, read)
            except BaseException:
                for log in sorted(folder.logs.glob("*.log")):
                    print(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}", file=sys.stderr)
                raise
            finally:
                await _run([*command, "down", *arguments], environment)
    finally:
        shutil.rmtree(root, ignore_errors=True)


async def _databases_on(events: Pair, read: Pair) -> dict[str, str]:
    """The settings that name the databases, each with both of its servers."""
    for pair, name, owner in (
        (events, "aindusdb_events", databases.OWNER),
        (read, "aindusdb_read", databases.PROJECTOR),
    ):
        async with connected(pair.primary.admin_dsn) as admin:
            await databases.create_roles(admin, ROLE_PASSWORDS)
            await databases.create_database(admin, name, owner)
    async with connected(read.primary.server.dsn("aindusdb_read")) as inside_read:
        await databases.create_vector_extension(inside_read)

    def dsn(pair: Pair, name: str, role: str) -> str:
        return pair.dsn(name, role, ROLE_PASSWORDS[role])

    read_dsn = dsn(read, "aindusdb_read", databases.PROJECTOR)
    return {
        "AINDUSDB_EVENTS_DSN": dsn(events, "aindusdb_events", databases.COMMAND),
        "AINDUSDB_EVENTS_OWNER_DSN": dsn(events, "aindusdb_events", databases.OWNER),
        "AINDUSDB_READ_DSN": read_dsn,
        "AINDUSDB_READ_REPLICA_DSNS": ",".join(read_dsn.replace(read.hosts, host) for host in read.hosts.split(",")),
    }


async def _run(command: list[str], environment: dict[str, str]) -> None:
    result = await asyncio.to_thread(
        subprocess.run, command, env=environment, stdout=sys.stderr, stdin=subprocess.DEVNULL, check=False, timeout=180
    )
    assert result.returncode == 0, f"{' '.join(command)} ended with {result.returncode}"
