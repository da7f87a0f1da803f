"""`aindusdb replay` and `verify` run on a benchmark's stack: what they say, and the memory that they take."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import psutil

from aindusdb.client import Client, CreatedCollection
from aindusdb.local_stack.layout import DataFolder
from aindusdb.local_stack.state import StackState, read_state
from benchmarks.figures import say
from benchmarks.loading import wait_until_indexed
from benchmarks.material import REPOSITORY
from benchmarks.stack import Stack
from projector.settings import ProjectorSettings

BARE_INDEX_WORKERS = 2
"""PostgreSQL's own default, for an index that nobody writes or searches beside."""

DIFFERENT_EXIT_CODE = 3
_SAMPLE_SECONDS = 0.1
_MEGABYTE = 1_000_000


@dataclass
class Memory:
    """Resident memory of a process over time, in MB."""

    pid: int
    samples: list[float] = field(default_factory=list)

    @contextmanager
    def watching(self) -> Iterator[None]:
        over = threading.Event()

        def watch() -> None:
            with suppress(psutil.Error):
                process = psutil.Process(self.pid)
                while not over.wait(_SAMPLE_SECONDS):
                    self.samples.append(process.memory_info().rss / _MEGABYTE)

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def peak_mb(self) -> float:
        return round(max(self.samples, default=0.0), 1)

    def growth_mb(self) -> float:
        """The greatest of the last fifth over that of the second and third: at first it is warming up."""
        fifth = len(self.samples) // 5
        if not fifth:
            return 0.0
        return round(max(self.samples[-fifth:]) - max(self.samples[fifth : 3 * fifth]), 1)


@dataclass(frozen=True, slots=True)
class Done:
    """What a command said of its one collection."""

    answer: dict[str, Any]
    exit_code: int
    memory: Memory


def replay(running: Stack, step: str, collection: CreatedCollection, *more: str) -> Done:
    """`aindusdb replay <step>`."""
    return _run(running, "replay", step, "--collection", collection.name, *more)


def verify(running: Stack, collection: CreatedCollection) -> Done:
    """Every vector against the log; what the index finds is not asked."""
    return _run(running, "verify", "--collection", collection.name, "--min-recall", "0")


def _run(running: Stack, *arguments: str) -> Done:
    process = subprocess.Popen(
        [sys.executable, "-m", "aindusdb", *arguments, "--json", "--data-dir", str(running.folder())],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    memory = Memory(process.pid)
    with memory.watching():
        said, complaint = process.communicate()
    if process.returncode not in (0, DIFFERENT_EXIT_CODE):
        raise SystemExit(f"aindusdb {' '.join(arguments)} failed: {complaint}")
    [answer] = json.loads(said.splitlines()[-1])["collections"]
    return Done(answer, process.returncode, memory)


def make_index(running: Stack, collection: CreatedCollection) -> None:
    """Has a collection without index get an HNSW one."""
    say("Making the index for the first time …")
    with Client(running.command_url) as client:
        client.update_collection(collection.name, index={"kind": "hnsw"})
    wait_until_indexed(running, collection.name)


def state_of(running: Stack) -> StackState:
    state = read_state(DataFolder(running.folder()).state_file)
    if state is None:
        raise SystemExit("no stack runs on the data folder")
    return state


def projector_settings(running: Stack) -> ProjectorSettings:
    state = state_of(running)
    return ProjectorSettings.model_validate(
        {"events_dsn": state.projector_events_dsn, "read_dsn": state.projector_read_dsn}
    )
