"""From the acknowledgement of a write to its first appearance in a read that carries no token."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import numpy as np

from benchmarks.figures import Target, arguments, conclude, percentiles_ms, say
from benchmarks.lean_http import Connection, request
from benchmarks.loading import new_collection
from benchmarks.stack import Stack, stack
from events_schema.embedding import encode

DIMENSION = 384
POLL_SECONDS = 0.005
SAMPLE_EVERY = 10
GIVE_UP_SECONDS = 10.0
TARGETS = (
    Target("lag_p50_ms", 50, at_most=True),
    Target("lag_p99_ms", 250, at_most=True),
    Target("never_appeared", 0, at_most=True),
    Target("writes_per_second", 95),
)
TARGETS_THROUGH_KAFKA = (
    Target("lag_p50_ms", 100, at_most=True),
    Target("lag_p99_ms", 400, at_most=True),
    *TARGETS[2:],
)


def main(**defaults: Any) -> int:
    parser = arguments(__doc__)
    parser.set_defaults(**defaults)
    parser.add_argument("--rate", type=float, default=100.0, help="single writes a second")
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    with stack(options) as running:
        figures = asyncio.run(measure_lag(running, options.rate, round(options.rate * options.seconds)))
    return conclude(figures, TARGETS_THROUGH_KAFKA if options.kafka else TARGETS, check=options.check)


async def measure_lag(running: Stack, rate: float, writes: int) -> dict[str, float]:
    """Lags of a sample of single writes, in milliseconds, and how many writes a second there were."""
    path = f"/api/v1/collections/{new_collection(running, DIMENSION).name}/vectors"
    vectors = np.random.default_rng(3).standard_normal((100, DIMENSION)).astype(np.float32)
    prepared = [
        request(running.command_url, "PUT", f"{path}/v{number}", {"embedding": encode(vectors[number % 100])})
        for number in range(writes)
    ]
    free = [await Connection.open(running.command_url) for _ in range(16)]
    writing: set[asyncio.Task[float | None]] = set()
    say(f"{writes:,} writes, {rate:g} a second")
    started = time.perf_counter()
    for number, raw in enumerate(prepared):
        # By the clock and not by the last answer: a slow answer must not lower the rate.
        await asyncio.sleep(max(started + number / rate - time.perf_counter(), 0))
        free[:] = [connection for connection in free if connection.is_open]
        connection = free.pop() if free else await Connection.open(running.command_url)
        sampled = number % SAMPLE_EVERY == 0
        look = request(running.query_url, "GET", f"{path}/v{number}") if sampled else None
        writing.add(asyncio.create_task(_write(running, connection, free, raw, look)))
    lags = [lag for lag in await asyncio.gather(*writing) if lag is not None]
    elapsed = time.perf_counter() - started
    appeared = [lag for lag in lags if lag < GIVE_UP_SECONDS]
    return {
        "writes_per_second": round(writes / elapsed, 1),
        "sampled": len(lags),
        "never_appeared": len(lags) - len(appeared),
        **percentiles_ms(appeared, "lag"),
    }


async def _write(
    running: Stack, connection: Connection, free: list[Connection], raw: bytes, look: bytes | None
) -> float | None:
    """The lag in seconds, `GIVE_UP_SECONDS` if it never appeared; None for a write that is not sampled."""
    status, body = await connection.send(raw)
    acknowledged = time.perf_counter()
    free.append(connection)
    if status not in (200, 201):
        raise SystemExit(f"a write was refused with {status}: {body.decode(errors='replace')}")
    if look is None:
        return None
    reading = await Connection.open(running.query_url)
    try:
        while time.perf_counter() - acknowledged < GIVE_UP_SECONDS:
            status, _ = await reading.send(look)
            if status == 200:
                return time.perf_counter() - acknowledged
            await asyncio.sleep(POLL_SECONDS)
        return GIVE_UP_SECONDS
    finally:
        reading.close()


if __name__ == "__main__":
    sys.exit(main())
