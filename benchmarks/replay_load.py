"""A full rebuild under load: 200 writes and 50 searches a second with and without one; in the end the read model is the
fold of the log."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import numpy as np
import orjson

from aindusdb.client import CreatedCollection
from benchmarks.figures import Target, arguments, conclude, percentiles_ms, say
from benchmarks.lean_http import Connection, request
from benchmarks.loading import new_collection
from benchmarks.log_filling import fill_log
from benchmarks.replay_commands import make_index, projector_settings, replay, state_of, verify
from benchmarks.stack import Stack, stack
from events_schema.embedding import Float32Array, encode
from shared.postgres import connect

DIMENSION = 384
LEAST_P99_LIMIT_MS = 50.0
P99_LIMIT_FACTOR = 3.0
PREPARED = 500
POLL_SECONDS = 0.005
SETTLE_SECONDS = 2.0

TARGETS = (
    Target("failed_searches", 0, at_most=True),
    Target("failed_writes", 0, at_most=True),
    Target("search_p99_over_limit", 1.0, at_most=True),
    Target("promotion_pause_ms", 500, at_most=True),
    Target("is_fold_of_the_log", 1),
)

_WATERMARK = "SELECT min(position) FROM projection_checkpoints"


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--vectors", type=int, default=50_000)
    parser.add_argument("--dimension", type=int, default=DIMENSION)
    parser.add_argument("--writes", type=float, default=200.0, help="a second")
    parser.add_argument("--searches", type=float, default=50.0, help="a second")
    parser.add_argument("--seconds", type=float, default=30.0, help="of the load without a rebuild")
    options = parser.parse_args()
    with stack(options) as running:
        collection = new_collection(running, options.dimension, index={"kind": "none"})
        asyncio.run(fill_log(state_of(running), collection, options.vectors, options.dimension))
        make_index(running, collection)
        load = _Load(running, collection, options.dimension, options.vectors)
        figures = asyncio.run(_measure(load, options.writes, options.searches, options.seconds))
    return conclude(figures, TARGETS, check=options.check)


async def _measure(load: _Load, writes: float, searches: float, seconds: float) -> dict[str, Any]:
    say(f"{writes:g} writes and {searches:g} searches a second …")
    async with load.going(writes, searches) as before:
        await asyncio.sleep(seconds)
    await asyncio.sleep(SETTLE_SECONDS)
    say("… and a rebuild …")
    began = time.perf_counter()
    async with load.going(writes, searches) as during:
        built = await asyncio.to_thread(replay, load.running, "build", load.collection)
        promote = asyncio.create_task(
            asyncio.to_thread(replay, load.running, "promote", load.collection, "--force", "--drop-old")
        )
        standstill = await _longest_standstill(load.running, promote)
        promoted = await promote
        elapsed = time.perf_counter() - began
        await asyncio.sleep(SETTLE_SECONDS)
    say("Comparing the read model with the log …")
    verified = await asyncio.to_thread(verify, load.running, load.collection)
    limit = max(LEAST_P99_LIMIT_MS, P99_LIMIT_FACTOR * percentiles_ms(before.searches, "search")["search_p99_ms"])
    figures = percentiles_ms(during.searches, "search")
    return {
        "rebuild_seconds": round(elapsed, 1),
        "events_folded": built.answer["events"],
        "failed_searches": before.failed_searches + during.failed_searches,
        "failed_writes": before.failed_writes + during.failed_writes,
        **figures,
        **percentiles_ms(during.writes, "write"),
        **percentiles_ms(before.searches, "undisturbed_search"),
        **percentiles_ms(before.writes, "undisturbed_write"),
        "searches_during_rebuild": len(during.searches),
        "writes_during_rebuild": len(during.writes),
        "search_p99_limit_ms": limit,
        "search_p99_over_limit": round(figures["search_p99_ms"] / limit, 3),
        "promotion_pause_ms": round(promoted.answer["pause_seconds"] * 1000, 1),
        "longest_standstill_ms": round(standstill * 1000, 1),
        "is_fold_of_the_log": int(verified.exit_code == 0),
    }


async def _longest_standstill(running: Stack, promoting: asyncio.Task[Any]) -> float:
    """For how many seconds the projection did not move, at the longest, while the task went on: during the promotion,
    or in a batch of the projector's that the machine had little time for."""
    settings = projector_settings(running)
    connection: asyncpg.Connection[asyncpg.Record] = await connect(settings.read_direct_address(), settings)
    try:
        longest, at, since = 0.0, 0, time.perf_counter()
        while not promoting.done():
            position, now = await connection.fetchval(_WATERMARK), time.perf_counter()
            if position != at:
                at, since = position, now
            longest = max(longest, now - since)
            await asyncio.sleep(POLL_SECONDS)
    finally:
        connection.terminate()
    return longest


@dataclass
class _Seen:
    """How long each answer took, in seconds, and how many requests failed."""

    searches: list[float] = field(default_factory=list)
    writes: list[float] = field(default_factory=list)
    failed_searches: int = 0
    failed_writes: int = 0


class _Load:
    """Sent by the clock and not by the last answer, so that a slow answer does not lower the rate."""

    def __init__(self, running: Stack, collection: CreatedCollection, dimension: int, vectors: int) -> None:
        self.running = running
        self.collection = collection
        random = np.random.default_rng(11)
        path = f"/api/v1/collections/{collection.name}/vectors"
        numbers: Float32Array = random.standard_normal((PREPARED, dimension), dtype=np.float32)
        # A third of them replace vectors that are there.
        self._writes = [
            request(
                running.command_url, "PUT",
                f"{path}/v{random.integers(vectors):09}" if number % 3 == 0 else f"{path}/w%d",
                {"embedding": encode(embedding), "metadata": {"written": number}},
            )
            for number, embedding in enumerate(numbers)
        ]  # fmt: skip
        self._searches = [
            request(running.query_url, "POST", f"{path}/search", {"embedding": encode(embedding), "k": 10})
            for embedding in random.standard_normal((PREPARED, dimension), dtype=np.float32)
        ]
        self._written = 0

    @asynccontextmanager
    async def going(self, writes: float, searches: float) -> AsyncIterator[_Seen]:
        seen = _Seen()
        over = asyncio.Event()
        sending = [
            asyncio.create_task(self._send(self.running.command_url, writes, over, self._write(seen))),
            asyncio.create_task(self._send(self.running.query_url, searches, over, self._search(seen))),
        ]
        try:
            yield seen
        finally:
            over.set()
            await asyncio.gather(*sending)

    async def _send(
        self, url: str, rate: float, over: asyncio.Event, ask: Callable[[Connection, int], Awaitable[None]]
    ) -> None:
        free: list[Connection] = []
        under_way: set[asyncio.Task[None]] = set()

        async def one(number: int) -> None:
            open_ones = [connection for connection in free if connection.is_open]
            free.clear()
            free.extend(open_ones)
            connection = free.pop() if free else await Connection.open(url)
            await ask(connection, number)
            free.append(connection)

        began, number = time.perf_counter(), 0
        while not over.is_set():
            await asyncio.sleep(max(began + number / rate - time.perf_counter(), 0))
            task = asyncio.create_task(one(number))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            number += 1
        await asyncio.gather(*under_way)

    def _write(self, seen: _Seen) -> Callable[[Connection, int], Awaitable[None]]:
        async def write(connection: Connection, number: int) -> None:
            self._written += 1
            raw = self._writes[number % PREPARED].replace(b"/w%d", b"/w%d" % self._written, 1)
            status, seconds = await _timed(connection, raw)
            if status in (200, 201):
                seen.writes.append(seconds)
            else:
                seen.failed_writes += 1

        return write

    def _search(self, seen: _Seen) -> Callable[[Connection, int], Awaitable[None]]:
        async def search(connection: Connection, number: int) -> None:
            began = time.perf_counter()
            try:
                status, body = await connection.send(self._searches[number % PREPARED])
            except ConnectionError:
                seen.failed_searches += 1
                return
            if status == 200 and len(orjson.loads(body)["hits"]) == 10:
                seen.searches.append(time.perf_counter() - began)
            else:
                seen.failed_searches += 1

        return search


async def _timed(connection: Connection, raw: bytes) -> tuple[int, float]:
    """The status, 0 for a lost connection, and how long it took."""
    began = time.perf_counter()
    try:
        status, _ = await connection.send(raw)
    except ConnectionError:
        status = 0
    return status, time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
