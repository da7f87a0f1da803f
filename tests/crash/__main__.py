"""The crash test. The last line that it prints is one JSON object."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time

from tests.crash.load import Load
from tests.crash.stack import (
    EVENT_FAILOVER,
    EVENT_SERVER,
    EVENT_STANDBY,
    READ_FAILOVER,
    READ_REPLICA,
    READ_SERVER,
    Stack,
    running_stack,
)
from tests.crash.verification import Verdict, verify

TARGETS = (
    READ_SERVER,
    "Command service",
    EVENT_FAILOVER,
    "Projector",
    "Query service",
    EVENT_SERVER,
    "Relay",
    READ_FAILOVER,
    "Kafka",
    READ_REPLICA,
    "Redis",
    EVENT_STANDBY,
)
IN_FLIGHT_SECONDS = 0.5
"""A kill counts only if writes were under way and one had been acknowledged within this time."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40, help="kills that count (default: 40)")
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    report = asyncio.run(_run(options.rounds, options.writers, options.seed))
    print(json.dumps(report), flush=True)
    bad = report["lost"] or report["doubled"] or report["different"] or report["stale_reads"]
    sys.exit(1 if bad else 0)


async def _run(rounds: int, writers: int, seed: int) -> dict[str, object]:
    print(f"seed {seed}", file=sys.stderr)
    chosen = random.Random(seed)
    kills = dict.fromkeys(TARGETS, 0)
    slowest = 0.0
    async with running_stack() as stack:
        load = Load(stack.command_url, stack.query_url, writers=writers, seed=seed)
        await load.start()
        counted = attempts = 0
        while counted < rounds:
            attempts += 1
            assert attempts <= rounds * 3 + 10, "too few kills met writes in flight"
            target = TARGETS[counted % len(TARGETS)]
            await _acknowledging(load)
            await asyncio.sleep(chosen.uniform(0.2, 1.5))
            in_flight = load.acknowledged.under_way > 0 and _recently(load)
            seconds = await stack.strike(target)
            slowest = max(slowest, seconds)
            if in_flight:
                counted += 1
                kills[target] += 1
            print(f"{counted}/{rounds}: {target} killed, back after {seconds:.1f} s", file=sys.stderr)
        await _acknowledging(load)
        await load.stop()
        verdict = await _verdict(stack, load)
    return {
        "rounds": counted,
        "kills": kills,
        "acknowledged": len(load.acknowledged.marks) + load.acknowledged.deletions,
        "acknowledged_by_filter": len(load.acknowledged.positions),
        "lost": verdict.lost,
        "doubled": verdict.doubled,
        "different": verdict.different,
        "stale_reads": load.acknowledged.stale_reads,
        "unanswered": len(load.acknowledged.unknown),
        "events": verdict.events,
        "slowest_restart_seconds": round(slowest, 1),
        "seed": seed,
    }


async def _verdict(stack: Stack, load: Load) -> Verdict:
    state = stack.state()
    return await verify(state.events_dsn, state.read_dsn, load.acknowledged)


def _recently(load: Load) -> bool:
    return time.monotonic() - load.acknowledged.last_at < IN_FLIGHT_SECONDS


async def _acknowledging(load: Load) -> None:
    """Waits until writes are acknowledged (again)."""
    deadline = time.monotonic() + 60
    before = len(load.acknowledged.marks)
    while len(load.acknowledged.marks) < before + 20:
        assert time.monotonic() < deadline, "no write was acknowledged for a minute"
        await asyncio.sleep(0.02)


if __name__ == "__main__":
    main()
