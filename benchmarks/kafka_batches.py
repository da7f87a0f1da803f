"""Whether batches are acknowledged as fast with Kafka as without: both stacks side by side, measured by turns.

Relay and broker copy every event once more. To tell that work, which takes the processor from the services on a small
machine, from a wait in the way of a write, the stacks are measured twice: with a core that only relay and broker use
(`kafka_to_log_ratio`, which has the target), and with all cores shared by all (`shared_ratio`).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import time
from typing import Any

import numpy as np
import psutil

from benchmarks.figures import Target, arguments, conclude, say
from benchmarks.lean_http import Load
from benchmarks.loading import wait_until_indexed
from benchmarks.stack import Stack, stack
from benchmarks.write_path import BATCH, BATCH_CONNECTIONS, DIMENSION, batch_request, vectors_path
from events_schema.embedding import Float32Array

CATCH_UP_SECONDS = 300.0
CARRIERS = ("Relay", "Kafka")
TARGETS = (Target("kafka_to_log_ratio", 0.95), Target("refused", 0, at_most=True))


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--batches", type=int, default=40, help="in a round")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("this measurement takes two cores: one of them for relay and broker alone")
    with stack(_with(options, kafka=False)) as by_log, stack(_with(options, kafka=True)) as by_kafka:
        stacks = {"log": by_log, "kafka": by_kafka}
        shared = _measure(stacks, options.rounds, options.batches)
        say("relay and broker on a core of their own")
        _settle(stacks, services=cores[:1], carriers=cores[-1:])
        apart = _measure(stacks, options.rounds, options.batches)
    figures = {
        "kafka_to_log_ratio": apart["ratio"],
        "shared_ratio": shared["ratio"],
        "shared": shared,
        "apart": apart,
        "refused": apart["refused"] + shared["refused"],
    }
    return conclude(figures, TARGETS, check=options.check)


def _with(options: argparse.Namespace, *, kafka: bool) -> argparse.Namespace:
    return argparse.Namespace(**{**vars(options), "kafka": kafka})


def _settle(stacks: dict[str, Stack], services: list[int], carriers: list[int]) -> None:
    """Puts every process of the stacks, and this one, on its cores. What they start later follows them."""
    _run_on(psutil.Process(), services)
    for running in stacks.values():
        status = running.status()
        for process in status["processes"]:
            named = psutil.Process(process["pid"])
            cores = carriers if process["name"].startswith(CARRIERS) else services
            for each in (named, *named.children(recursive=True)):
                _run_on(each, cores)


def _run_on(process: psutil.Process, cores: list[int]) -> None:
    for thread in process.threads():
        os.sched_setaffinity(thread.id, cores)


def _measure(stacks: dict[str, Stack], rounds: int, batches: int) -> dict[str, Any]:
    vectors = np.random.default_rng(6).standard_normal((BATCH, DIMENSION)).astype(np.float32)
    rates: dict[str, list[float]] = {name: [] for name in stacks}
    refused = 0
    for number in range(rounds + 1):
        # Each comes first as often as the other.
        for name in sorted(stacks, reverse=bool(number % 2)):
            path = vectors_path(stacks[name])
            load = _acknowledged(stacks[name], path, vectors, batches)
            refused += sum(load.refusals.values())
            rate = BATCH * len(load.seconds) / load.elapsed_seconds
            say(f"{name}: {rate:,.0f} events a second" + ("" if number else ", not counted"))
            if number:
                rates[name].append(rate)
            _rest(stacks[name], path.split("/")[4])
    ratios = [with_kafka / without for with_kafka, without in zip(rates["kafka"], rates["log"], strict=True)]
    return {
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "kafka_events_per_second": round(statistics.median(rates["kafka"])),
        "log_events_per_second": round(statistics.median(rates["log"])),
        "refused": refused,
    }


def _acknowledged(running: Stack, path: str, vectors: Float32Array, batches: int) -> Load:
    bodies = [
        batch_request(running.command_url, path, f"v{number}", vectors, as_numbers=False) for number in range(batches)
    ]
    return asyncio.run(Load().run(running.command_url, bodies, BATCH_CONNECTIONS))


def _rest(running: Stack, collection: str) -> None:
    """Until its read model has caught up and is indexed, so that the other one has the machine for itself."""
    deadline = time.monotonic() + CATCH_UP_SECONDS
    while running.backlog_events() != 0:
        if time.monotonic() > deadline:
            raise SystemExit("the read model does not catch up")
        time.sleep(0.5)
    wait_until_indexed(running, collection)


if __name__ == "__main__":
    sys.exit(main())
