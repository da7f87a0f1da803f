"""Whether three projectors get through a backlog as fast as one: by turns on one stack with Kafka."""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx
import numpy as np

from aindusdb.local_stack import databases
from aindusdb.local_stack.layout import DataFolder
from aindusdb.local_stack.ports import HOST, free_port
from aindusdb.local_stack.secrets import load_or_generate
from aindusdb.local_stack.state import StackState, read_state
from benchmarks.figures import Target, arguments, conclude, say
from benchmarks.lean_http import Load
from benchmarks.stack import Stack, stack
from benchmarks.write_path import BATCH, BATCH_CONNECTIONS, DIMENSION, batch_request, vectors_path

PROJECTORS = 3
CATCH_UP_SECONDS = 300.0
ASSIGNMENT_SECONDS = 10.0
TARGETS = (Target("three_to_one_ratio", 1.0), Target("refused", 0, at_most=True))

_HEAD = "SELECT max(position) FROM events"
_WATERMARK = "SELECT min(position) FROM projection_checkpoints"


def main() -> int:
    parser = arguments(__doc__)
    parser.set_defaults(kafka=True)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--events", type=int, default=3_000, help="in a round")
    options = parser.parse_args()
    with stack(options) as running:
        figures = _measure(running, options.rounds, max(1, options.events // BATCH))
    return conclude(figures, TARGETS, check=options.check)


def _measure(running: Stack, rounds: int, batches: int) -> dict[str, object]:
    folder = DataFolder(running.folder())
    state = read_state(folder.state_file)
    assert state is not None
    [own] = [one.process.pid for one in state.processes if one.name == "Projector" and one.process]
    passwords = databases.role_passwords(load_or_generate(folder.secrets_file, databases_exist=True))
    environment = {
        "AINDUSDB_EVENTS_DSN": _as_projector(state.events_dsn, passwords),
        "AINDUSDB_READ_DSN": _as_projector(state.read_dsn, passwords),
        "AINDUSDB_KAFKA_BOOTSTRAP": state.kafka_bootstrap,
    }
    rates: dict[int, list[float]] = {1: [], PROJECTORS: []}
    refused = 0
    for number in range(rounds + 1):
        # Each number comes first as often as the other.
        for count in sorted(rates, reverse=bool(number % 2)):
            with _more(count - 1, environment) as others:
                load, seconds = asyncio.run(_projected(running, state, [own, *others], batches))
            refused += sum(load.refusals.values())
            rate = BATCH * batches / seconds
            say(f"{count} projectors: {rate:,.0f} events a second" + ("" if number else ", not counted"))
            if number:
                rates[count].append(rate)
    ratios = [three / one for three, one in zip(rates[PROJECTORS], rates[1], strict=True)]
    return {
        "three_to_one_ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "one_events_per_second": round(statistics.median(rates[1])),
        "three_events_per_second": round(statistics.median(rates[PROJECTORS])),
        "refused": refused,
    }


async def _projected(running: Stack, state: StackState, projectors: Sequence[int], batches: int) -> tuple[Load, float]:
    """Writes while the projectors stand still, for less than their session lasts; how long they take from then on."""
    path = vectors_path(running)
    vectors = np.random.default_rng(7).standard_normal((BATCH, DIMENSION)).astype(np.float32)
    bodies = [
        batch_request(running.command_url, path, f"v{number}", vectors, as_numbers=False) for number in range(batches)
    ]
    async with _opened(state.events_dsn) as events, _opened(state.read_dsn) as read:
        _signal(projectors, signal.SIGSTOP)
        try:
            load = await Load().run(running.command_url, bodies, BATCH_CONNECTIONS)
            await asyncio.sleep(0.5)  # the relay sends the last of it
            head = await events.fetchval(_HEAD)
        finally:
            _signal(projectors, signal.SIGCONT)
        started = time.perf_counter()
        while await read.fetchval(_WATERMARK) < head:
            if time.perf_counter() - started > CATCH_UP_SECONDS:
                raise SystemExit("the projectors do not catch up")
            await asyncio.sleep(0.01)
        return load, time.perf_counter() - started


@asynccontextmanager
async def _opened(dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


def _signal(processes: Sequence[int], number: signal.Signals) -> None:
    for pid in processes:
        os.kill(pid, number)


@contextmanager
def _more(count: int, environment: Mapping[str, str]) -> Iterator[list[int]]:
    """So many projectors beside the stack's own; their pids, once all have their share."""
    with ExitStack() as ended:
        pids = [ended.enter_context(_projector(environment)) for _ in range(count)]
        if pids:
            time.sleep(ASSIGNMENT_SECONDS)
        yield pids


@contextmanager
def _projector(environment: Mapping[str, str]) -> Iterator[int]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "projector"],
        env={**os.environ, **environment, "AINDUSDB_PORT": str(port)},
        stdout=subprocess.DEVNULL,
    )
    try:
        _until_ready(f"http://{HOST}:{port}/ready")
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def _until_ready(url: str) -> None:
    with httpx.Client(trust_env=False, timeout=5, transport=httpx.HTTPTransport(retries=0)) as client:
        deadline = time.monotonic() + CATCH_UP_SECONDS
        while time.monotonic() < deadline:
            try:
                if client.get(url).is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
    raise SystemExit("a projector does not become ready")


def _as_projector(dsn: str, passwords: Mapping[str, str]) -> str:
    parts = urlsplit(dsn)
    server = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{databases.PROJECTOR}:{passwords[databases.PROJECTOR]}@{server}"))


if __name__ == "__main__":
    sys.exit(main())
