"""Whether batches are acknowledged as fast with Kafka as without: both stacks side by side, measured by turns."""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time

import numpy as np

from benchmarks.figures import Target, arguments, conclude, say
from benchmarks.lean_http import Load
from benchmarks.stack import Stack, stack
from benchmarks.write_path import BATCH, BATCH_CONNECTIONS, DIMENSION, batch_request, vectors_path
from events_schema.embedding import Float32Array

CATCH_UP_SECONDS = 300.0
TARGETS = (Target("kafka_to_log_ratio", 0.95), Target("refused", 0, at_most=True))


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=40, help="in a round")
    options = parser.parse_args()
    with stack(_with(options, kafka=False)) as by_log, stack(_with(options, kafka=True)) as by_kafka:
        figures = _measure({"log": by_log, "kafka": by_kafka}, options.rounds, options.batches)
    return conclude(figures, TARGETS, check=options.check)


def _with(options: argparse.Namespace, *, kafka: bool) -> argparse.Namespace:
    return argparse.Namespace(**{**vars(options), "kafka": kafka})


def _measure(stacks: dict[str, Stack], rounds: int, batches: int) -> dict[str, object]:
    vectors = np.random.default_rng(6).standard_normal((BATCH, DIMENSION)).astype(np.float32)
    rates: dict[str, list[float]] = {name: [] for name in stacks}
    refused = 0
    for number in range(rounds + 1):
        # Each comes first as often as the other.
        for name in sorted(stacks, reverse=bool(number % 2)):
            load = _acknowledged(stacks[name], vectors, batches)
            refused += sum(load.refusals.values())
            rate = BATCH * len(load.seconds) / load.elapsed_seconds
            say(f"{name}: {rate:,.0f} events a second" + ("" if number else ", not counted"))
            if number:
                rates[name].append(rate)
            _rest(stacks[name])
    ratios = [with_kafka / without for with_kafka, without in zip(rates["kafka"], rates["log"], strict=True)]
    return {
        "kafka_to_log_ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "kafka_events_per_second": round(statistics.median(rates["kafka"])),
        "log_events_per_second": round(statistics.median(rates["log"])),
        "refused": refused,
    }


def _acknowledged(running: Stack, vectors: Float32Array, batches: int) -> Load:
    path = vectors_path(running)
    bodies = [
        batch_request(running.command_url, path, f"v{number}", vectors, as_numbers=False) for number in range(batches)
    ]
    return asyncio.run(Load().run(running.command_url, bodies, BATCH_CONNECTIONS))


def _rest(running: Stack) -> None:
    """Until its read model has caught up, so that the other one has the machine for itself."""
    deadline = time.monotonic() + CATCH_UP_SECONDS
    while running.backlog_events() != 0:
        if time.monotonic() > deadline:
            raise SystemExit("the read model does not catch up")
        time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main())
