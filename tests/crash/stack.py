"""A local stack to be killed at: started by the command line, watched through its state file. Its event database
stands on a server of its own, so that the two databases die apart."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aindusdb.local_stack import databases
from aindusdb.local_stack.layout import DataFolder
from aindusdb.local_stack.ports import free_port
from aindusdb.local_stack.postgres import PostgresServer, find_binaries
from aindusdb.local_stack.processes import SupervisedProcess
from aindusdb.local_stack.state import ProcessRecord, StackState, read_state
from aindusdb.local_stack.users import postgres_user
from tests.killing import kill, restarted
from tests.servers import connected, running
from tests.stack.running import free_base_port

EVENT_SERVER = "Event PostgreSQL"


@dataclass(frozen=True, slots=True)
class Stack:
    folder: DataFolder
    port: int
    event_server: SupervisedProcess

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
        if name == EVENT_SERVER:
            return self.event_server.record()
        return next(record for record in self.state().processes if record.name == name)

    def kill(self, name: str) -> int:
        """SIGKILL; returns the pid that was killed."""
        return kill(lambda: self.process(name))

    async def restarted(self, name: str, killed_pid: int) -> float:
        """Waits until the process runs again under another pid; says how many seconds it took."""
        return await restarted(lambda: self.process(name), killed_pid)


@asynccontextmanager
async def running_stack() -> AsyncIterator[Stack]:
    root = Path(tempfile.mkdtemp(prefix="aindusdb-crash-"))
    root.chmod(0o755)  # root's PostgreSQL runs as another user, which must reach its data
    folder, port = DataFolder(root / "data"), free_base_port()
    arguments = ["--data-dir", str(folder.root)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AINDUSDB_")}
    command = [sys.executable, "-m", "aindusdb"]
    try:
        async with _event_server(root) as (event_server, addresses):
            environment |= addresses
            options = ["--port", str(port), "--kafka", "--replicas", "1"]
            await _run([*command, "up", "--detach", *options, *arguments], environment)
            try:
                yield Stack(folder, port, event_server)
            except BaseException:
                for log in sorted(folder.logs.glob("*.log")):
                    print(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}", file=sys.stderr)
                raise
            finally:
                await _run([*command, "down", *arguments], environment)
    finally:
        shutil.rmtree(root, ignore_errors=True)


@asynccontextmanager
async def _event_server(root: Path) -> AsyncIterator[tuple[SupervisedProcess, dict[str, str]]]:
    """The server and the settings that name its database; as durable as the stack's own."""
    password = "aindusdb-crash"
    user = postgres_user()
    server = PostgresServer(find_binaries(user), root / "events", free_port(), password, user)
    await asyncio.to_thread(server.initialise)
    passwords = dict.fromkeys((databases.OWNER, databases.COMMAND, databases.PROJECTOR, databases.QUERY), password)
    async with running(server.spec(), root) as process:
        async with connected(server.dsn("postgres")) as admin:
            await databases.create_roles(admin, passwords)
            await databases.create_database(admin, "aindusdb_events", databases.OWNER)
        yield (
            process,
            {
                "AINDUSDB_EVENTS_DSN": server.dsn("aindusdb_events", databases.COMMAND, password),
                "AINDUSDB_EVENTS_OWNER_DSN": server.dsn("aindusdb_events", databases.OWNER, password),
            },
        )


async def _run(command: list[str], environment: dict[str, str]) -> None:
    result = await asyncio.to_thread(
        subprocess.run, command, env=environment, stdout=sys.stderr, stdin=subprocess.DEVNULL, check=False, timeout=180
    )
    assert result.returncode == 0, f"{' '.join(command)} ended with {result.returncode}"
