"""Runs the command line as a person would: as a process, on a data folder and ports of its own."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from aindusdb.local_stack.layout import DataFolder, is_held
from aindusdb.local_stack.ports import is_free
from aindusdb.local_stack.state import ProcessRecord, StackState, read_state
from aindusdb.local_stack.users import UnixUser

REPOSITORY = Path(__file__).parents[2]
PORT_OFFSETS = (0, 1, 2, 3, 4, 10, 11, 20, 30, 31)


def free_base_port() -> int:
    while True:
        base = random.randrange(20_000, 32_000)
        if all(is_free(base + offset) for offset in PORT_OFFSETS):
            return base


@dataclass
class StackUnderTest:
    data_dir: Path
    port: int = field(default_factory=free_base_port)
    module: str = "tests.stack.stand_in_stack"
    python: str = sys.executable
    environment: Mapping[str, str] = field(default_factory=lambda: {"PYTHONPATH": str(REPOSITORY)})
    user: UnixUser | None = None

    def command(self, *arguments: str) -> list[str]:
        return [self.python, "-m", self.module, *arguments, "--data-dir", str(self.data_dir)]

    def process_arguments(self) -> dict[str, Any]:
        named_servers = (
            "AINDUSDB_EVENTS_DSN",
            "AINDUSDB_READ_DSN",
            "AINDUSDB_REDIS_URL",
            "AINDUSDB_KAFKA_BOOTSTRAP",
            "AINDUSDB_READ_REPLICA_DSNS",
        )
        inherited = {name: value for name, value in os.environ.items() if name not in named_servers}
        return {
            "cwd": "/",
            "env": {**inherited, **self.environment},
            "user": self.user.uid if self.user else None,
            "group": self.user.gid if self.user else None,
            "extra_groups": () if self.user else None,
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
            **self.process_arguments(),
        )

    def up(self, *options: str) -> str:
        done = self.run("up", "--detach", "--port", str(self.port), *options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def up_in_foreground(self) -> subprocess.Popen[str]:
        """Returns once it says that it is running."""
        process = subprocess.Popen(
            self.command("up", "--port", str(self.port)), stdout=subprocess.PIPE, text=True, **self.process_arguments()
        )
        assert process.stdout is not None
        assert any("AindusDB is running" in line for line in process.stdout), "it ended before it was running"
        return process

    def refused_up(self) -> str:
        """The sentence with which `up` refuses."""
        done = self.run("up", "--port", str(self.port))
        assert done.returncode == 1, done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        return done.stderr

    def down(self) -> None:
        done = self.run("down")
        assert done.returncode == 0, done.stdout + done.stderr

    def status(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self.run("status", "--json").stdout)
        return report

    @property
    def state(self) -> StackState:
        state = read_state(DataFolder(self.data_dir).state_file)
        assert state is not None
        return state

    def process(self, name: str) -> ProcessRecord:
        return next(record for record in self.state.processes if record.name == name)

    def pid(self, name: str) -> int:
        process = self.process(name).process
        assert process is not None
        return process.pid

    def all_processes(self) -> list[psutil.Process]:
        """The supervisor and everything below it."""
        supervisor = psutil.Process(self.state.supervisor.pid)
        return [supervisor, *supervisor.children(recursive=True)]

    def dsn(self, database: str) -> str:
        secrets = json.loads(DataFolder(self.data_dir).secrets_file.read_text())
        return f"postgresql://postgres:{secrets['superuser_password']}@127.0.0.1:{self.port + 10}/{database}"

    @property
    def postgres_data(self) -> Path:
        layout = json.loads(DataFolder(self.data_dir).layout_file.read_text())
        return Path(layout.get("postgres_data", self.data_dir))

    def remove(self) -> None:
        folder = DataFolder(self.data_dir)
        if folder.lock_file.exists() and is_held(folder):
            self.run("down")
        if folder.layout_file.exists() and not self.postgres_data.is_relative_to(self.data_dir):
            shutil.rmtree(self.postgres_data.parent, ignore_errors=True)
        shutil.rmtree(self.data_dir, ignore_errors=True)


def are_gone(processes: list[psutil.Process], timeout_seconds: float = 15.0) -> bool:
    return eventually(lambda: not any(map(is_running, processes)), timeout_seconds)


def is_running(process: psutil.Process) -> bool:
    """A zombie has ended; when it disappears is up to its parent, which for a detached supervisor is init."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def eventually(condition: Callable[[], bool], timeout_seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False
