"""The crash test. The last line that it prints is one JSON object."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time

from tests.crash.load import Load
from tests.crash.losses import lose_event_database, lose_read_database
from tests.crash.stack import (
    BROKER,
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
    BROKER,
    READ_REPLICA,
    "Redis",
    EVENT_STANDBY,
)
FAULTS = ("lost", "doubled", "different", "stale_reads", "internal_errors")
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
    sys.exit(1 if any(report[fault] for fault in FAULTS) else 0)


async def _run(rounds: int, writers: int, seed: int) -> dict[str, object]:
    print(f"seed {seed}", file=sys.stderr)
    chosen = random.Random(seed)
    kills = dict.fromkeys(TARGETS, 0)
    slowest = 0.0
    async with running_stack() as stack:
        load = Load(stack.command_url, stack.query_url, writers=writers, seed=seed)
        await load.start()
        await stack.archive.back_up(stack.events.primary.server)
        counted = attempts = 0
        while counted < rounds:
            attempts += 1
            assert attempts <= rounds * 3 + 10, "too few kills met writes in flight"
            target = TARGETS[counted % len(TARGETS)]
            await load.goes_on()
            await asyncio.sleep(chosen.uniform(0.2, 1.5))
            in_flight = load.acknowledged.under_way > 0 and _recently(load)
            seconds = await stack.strike(target)
            slowest = max(slowest, seconds)
            if in_flight:
                counted += 1
                kills[target] += 1
            print(f"{counted}/{rounds}: {target} killed, back after {seconds:.1f} s", file=sys.stderr)
        await load.goes_on()
        print("both servers of the read database are lost", file=sys.stderr)
        read_loss = await lose_read_database(stack, load)
        await load.goes_on()
        print("both servers of the event database are lost", file=sys.stderr)
        event_loss = await lose_event_database(stack, load)
        await load.goes_on()
        await load.stop()
        verdict = await _verdict(stack, load)
    acknowledged = load.acknowledged
    by_filter = sum(promise.version is None for promise in acknowledged.promises.values())
    return {
        "rounds": counted,
        "kills": kills,
        "read_database_lost": read_loss,
        "event_database_lost": event_loss,
        "acknowledged": len(acknowledged.promises) - by_filter + acknowledged.deletions,
        "acknowledged_by_filter": by_filter,
        "lost": verdict.lost + sum(restored["lost"] for restored in event_loss["restored"].values()),
        "doubled": verdict.doubled,
        "different": verdict.different,
        "fresh_reads": acknowledged.fresh_reads,
        "stale_reads": acknowledged.stale_reads,
        "internal_errors": acknowledged.internal_errors,
        "unanswered": len(acknowledged.unknown),
        "events": verdict.events,
        "slowest_restart_seconds": round(slowest, 1),
        "seed": seed,
    }


async def _verdict(stack: Stack, load: Load) -> Verdict:
    state = stack.state()
    return await verify(state.events_dsn, state.read_dsn, load.acknowledged)


def _recently(load: Load) -> bool:
    return time.monotonic() - load.acknowledged.last_at < IN_FLIGHT_SECONDS


if __name__ == "__main__":
    main()
