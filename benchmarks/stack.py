"""The stack that a benchmark measures: one of its own, or one that runs already."""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aindusdb.local_stack.layout import DataFolder
from aindusdb.local_stack.ports import HOST, Ports, is_free
from aindusdb.local_stack.state import read_state
from benchmarks.figures import say
from benchmarks.material import REPOSITORY

_PORT_OFFSETS = (0, 1, 2, 3, 4, 10, 11, 20, 30, 31)


@dataclass(frozen=True, slots=True)
class Stack:
    """Benchmarks talk to the services directly, not through the edge."""

    command_url: str
    query_url: str
    data_dir: Path | None

    def status(self) -> dict[str, Any]:
        """What `aindusdb status --json` says; empty without a data folder."""
        if self.data_dir is None:
            return {}
        done = _aindusdb("status", "--json", data_dir=self.data_dir, check=False)
        status: dict[str, Any] = json.loads(done.stdout)
        return status

    def backlog_events(self) -> int | None:
        """How many events the read model is behind; None if that cannot be told."""
        log = self.status().get("log")
        return None if log is None else int(log["lag_events"])

    def head_position(self) -> int:
        return int(self.status()["log"]["head_position"])

    def folder(self) -> Path:
        if self.data_dir is None:
            raise SystemExit("name the running stack's data folder with --data-dir")
        return self.data_dir

    def read_dsn(self) -> str | None:
        """The read database's address."""
        if self.data_dir is None:
            return os.environ.get("AINDUSDB_READ_DSN")
        state = read_state(DataFolder(self.data_dir).state_file)
        return None if state is None else state.read_dsn


@contextmanager
def stack(options: argparse.Namespace) -> Iterator[Stack]:
    """Stopped and removed at the end if it was started here."""
    if options.url_command and options.url_query:
        data_dir = Path(options.data_dir).absolute() if options.data_dir else None
        yield Stack(options.url_command.rstrip("/"), options.url_query.rstrip("/"), data_dir)
        return
    folder = Path(tempfile.mkdtemp(prefix="aindusdb-benchmark-"))
    folder.chmod(0o755)  # root's PostgreSQL runs as another user, which must reach its data
    data_dir, ports = folder / "data", Ports(_free_base_port())
    say("Starting a stack …")
    # Whoever ends the benchmark ends its stack with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        servers = ["--replicas", str(options.replicas), *(["--kafka"] if options.kafka else [])]
        started = _aindusdb("up", "--detach", "--port", str(ports.edge), *servers, data_dir=data_dir, check=False)
        if started.returncode != 0:
            raise SystemExit(f"The stack did not start:\n{started.stdout}{started.stderr}")
        yield Stack(f"http://{HOST}:{ports.command_service}", f"http://{HOST}:{ports.query_service}", data_dir)
    finally:
        _aindusdb("down", data_dir=data_dir, check=False)
        shutil.rmtree(folder, ignore_errors=True)


def _aindusdb(*arguments: str, data_dir: Path, check: bool) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "aindusdb", *arguments, "--data-dir", str(data_dir)],
        capture_output=True,
        text=True,
        check=check,
        cwd=REPOSITORY,
    )


def _free_base_port() -> int:
    while True:
        base = random.randrange(20_000, 32_000, 100)
        if all(is_free(base + offset) for offset in _PORT_OFFSETS):
            return base
