"""A file of a million vectors through `aindusdb import`, with client and command service killed half-way.

The same command is run again and has to end in exactly the file's vectors, each by one event. While it runs, the
memory of the client and of every service is looked at: it must not grow with the file. The collection has no index, so
that what is measured is the way in.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from aindusdb.client import Client, RetryPolicy
from aindusdb.client.errors import NotFreshEnoughError
from aindusdb.local_stack.layout import DataFolder
from aindusdb.local_stack.state import StackState, read_state
from benchmarks.figures import Target, arguments, conclude, say
from benchmarks.material import REPOSITORY
from benchmarks.stack import Stack, stack

VECTORS = 1_000_000
DIMENSION = 384
BLOCK_ROWS = 20_000
BATCH = 1_000
COLLECTION = "million"
MEASURED = ("Command service", "Query service", "Projector", "Edge")
SAMPLE_SECONDS = 0.5
CATCH_UP_SECONDS = 3_600.0
PATIENCE = RetryPolicy(patience_seconds=60.0)

TARGETS = (
    Target("vectors_missing_or_more", 0, at_most=True),
    Target("events_missing_or_more", 0, at_most=True),
    Target("ids_wrong", 0, at_most=True),
    Target("client_peak_mb", 400, at_most=True),
    *(
        Target(f"{name}_growth_mb", 64, at_most=True)
        for name in ("client", *(one.lower().replace(" ", "_") for one in MEASURED))
    ),
)


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--vectors", type=int, default=VECTORS)
    parser.add_argument("--dimension", type=int, default=DIMENSION)
    parser.add_argument("--format", choices=("npy", "parquet"), default="npy")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aindusdb-million-") as folder, stack(options) as running:
        say(f"Writing {options.vectors:,} × {options.dimension} numbers …")
        file = _write(Path(folder), options.vectors, options.dimension, options.format)
        figures = _measure(running, file, options.vectors, options.dimension)
    return conclude(figures, TARGETS, check=options.check)


def _measure(running: Stack, file: list[str], count: int, dimension: int) -> dict[str, Any]:
    with Client(_state(running).url, retries=PATIENCE) as client:
        client.create_collection(COLLECTION, dimension=dimension, index={"kind": "none"})
        head = running.head_position()
        command = [sys.executable, "-m", "aindusdb", "import", *file, "--collection", COLLECTION]
        command += ["--batch-size", str(BATCH), "--json", "--url", _state(running).url]
        started = time.monotonic()
        first, second = _Memory(running), _Memory(running)
        killed_at = _killed_half_way(running, command, Path(file[0]), count, first)
        say(f"Client and command service killed at row {killed_at:,}; the same command again …")
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
        with second.watching(process.pid):
            said, _ = process.communicate()
        if process.returncode != 0:
            raise SystemExit("the second run of the import failed")
        report = json.loads(said)
        acknowledged_seconds = time.monotonic() - started
        say("Waiting for the read model …")
        found = _searchable(client, report["consistency_token"])
        wrong = _wrong_ids(client, count, report["consistency_token"])
        searchable_seconds = time.monotonic() - started
    events = running.head_position() - head
    return {
        "vectors": found,
        "events": events,
        "vectors_missing_or_more": abs(found - count),
        "events_missing_or_more": abs(events - count),
        "ids_wrong": wrong,
        "killed_at_row": killed_at,
        "created": report["created"],
        "unchanged": report["unchanged"],
        "acknowledged_seconds": round(acknowledged_seconds, 1),
        "searchable_seconds": round(searchable_seconds, 1),
        "second_run_rows_per_second": report["lines_per_second"],
        "client_peak_mb": max(first.peak_mb("client"), second.peak_mb("client")),
        "client_growth_mb": second.growth_mb("client"),
        **{
            f"{name.lower().replace(' ', '_')}_{what}": figure
            for name in MEASURED
            for what, figure in (
                ("peak_mb", max(first.peak_mb(name), second.peak_mb(name))),
                ("growth_mb", second.growth_mb(name)),
            )
        },
    }


def _write(folder: Path, count: int, dimension: int, kind: str) -> list[str]:
    """The arguments that name the file; it is written block by block."""
    path = folder / f"vectors.{kind}"
    if kind == "parquet":
        _write_parquet(path, count, dimension)
        return [str(path)]
    numbers = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(count, dimension))
    ids = folder / "ids.txt"
    with ids.open("w") as lines:
        for start, block in _blocks(count, dimension):
            numbers[start : start + len(block)] = block
            lines.writelines(f"{_id(number)}\n" for number in range(start, start + len(block)))
    numbers.flush()
    return [str(path), "--ids", str(ids)]


def _write_parquet(path: Path, count: int, dimension: int) -> None:
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema([("id", pyarrow.string()), ("embedding", pyarrow.list_(pyarrow.float32(), dimension))])
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for start, block in _blocks(count, dimension):
            embeddings = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(block.ravel()), dimension)
            ids = pyarrow.array([_id(number) for number in range(start, start + len(block))])
            writer.write_batch(pyarrow.RecordBatch.from_arrays([ids, embeddings], schema=schema))


def _blocks(count: int, dimension: int) -> Iterator[tuple[int, np.ndarray[Any, np.dtype[np.float32]]]]:
    random = np.random.default_rng(1)
    for start in range(0, count, BLOCK_ROWS):
        yield start, random.standard_normal((min(BLOCK_ROWS, count - start), dimension), dtype=np.float32)


def _id(number: int) -> str:
    return f"v{number:09}"


def _killed_half_way(running: Stack, command: list[str], data: Path, count: int, memory: _Memory) -> int:
    """Runs the import until half of the rows are acknowledged, and kills it and the command service. The row that it
    had come to."""
    progress = data.with_name(f"{data.name}.{COLLECTION}.aindusdb-progress")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=REPOSITORY)
    try:
        with memory.watching(process.pid):
            while True:
                if process.poll() is not None:
                    raise SystemExit("the import ended before it could be killed")
                row = json.loads(progress.read_text())["line"] if progress.exists() else 0
                if row >= count // 2:
                    process.kill()
                    os.kill(_pids(running)["Command service"], 9)
                    return int(row)
                time.sleep(0.05)
    finally:
        process.kill()
        process.wait()


def _searchable(client: Client, token: str) -> int:
    """How many vectors reads find, once they cover the token."""
    deadline = time.monotonic() + CATCH_UP_SECONDS
    while True:
        try:
            return client.count(COLLECTION, token=token, timeout_ms=20_000).count
        except NotFreshEnoughError:
            if time.monotonic() > deadline:
                raise


def _wrong_ids(client: Client, count: int, token: str) -> int:
    listed = client.vectors(COLLECTION, include=["content"], token=token)
    return sum(one.id != _id(number) for number, one in zip(range(count), listed, strict=False))


def _state(running: Stack) -> StackState:
    state = read_state(DataFolder(running.folder()).state_file)
    if state is None:
        raise SystemExit("no stack runs on the data folder")
    return state


def _pids(running: Stack) -> dict[str, int]:
    return {one.name: one.process.pid for one in _state(running).processes if one.process is not None}


@dataclass
class _Memory:
    """Resident memory over time, in MB: of the client, and of each service with its children."""

    running: Stack
    samples: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    @contextmanager
    def watching(self, client: int) -> Iterator[None]:
        over = threading.Event()

        def watch() -> None:
            while not over.wait(SAMPLE_SECONDS):
                self._look(client)

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _look(self, client: int) -> None:
        pids = {name: pid for name, pid in _pids(self.running).items() if name in MEASURED}
        for name, pid in {**pids, "client": client}.items():
            with suppress(psutil.Error):
                process = psutil.Process(pid)
                resident = sum(one.memory_info().rss for one in (process, *process.children(recursive=True)))
                self.samples[name].append(resident / 1_000_000)

    def peak_mb(self, name: str) -> float:
        return round(max(self.samples[name], default=0.0), 1)

    def growth_mb(self, name: str) -> float:
        """The median of the last fifth over that of the second: the first one is warming up."""
        samples = self.samples[name]
        fifth = len(samples) // 5
        if not fifth:
            return 0.0
        return round(float(np.median(samples[-fifth:]) - np.median(samples[fifth : 2 * fifth])), 1)


if __name__ == "__main__":
    sys.exit(main())
