"""What a benchmark says: progress on standard error, its figures as the last line, and whether targets were met."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Target:
    """`figure` is at least, or with `at_most` at most, `value`."""

    figure: str
    value: float
    at_most: bool = False

    def is_met(self, figures: Mapping[str, Any]) -> bool:
        measured = figures.get(self.figure)
        if not isinstance(measured, int | float):
            return False
        return measured <= self.value if self.at_most else measured >= self.value


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def arguments(description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--check", action="store_true", help="exit with 1 when a target is missed")
    parser.add_argument("--url-command", help="a running command service; by default a stack is started")
    parser.add_argument("--url-query", help="a running query service; goes with --url-command")
    parser.add_argument("--data-dir", help="the data folder of the running stack, for figures that only it has")
    parser.add_argument("--kafka", action="store_true", help="carry the events through Kafka")
    parser.add_argument("--replicas", type=int, default=0, help="so many read replicas answer the searches")
    return parser


def conclude(figures: Mapping[str, Any], targets: Sequence[Target], *, check: bool) -> int:
    """Prints the figures and returns the exit code."""
    missed = [target for target in targets if not target.is_met(figures)]
    for target in missed:
        limit = "at most" if target.at_most else "at least"
        say(f"missed: {target.figure} is {figures.get(target.figure)}, target {limit} {target.value:g}")
    print(json.dumps({**figures, "targets_missed": [target.figure for target in missed]}), flush=True)
    return 1 if check and missed else 0


def percentiles_ms(seconds: Sequence[float], prefix: str) -> dict[str, float]:
    """p50, p99 and the greatest, in milliseconds; nothing for an empty sample."""
    if not seconds:
        return {}
    p50, p99 = np.percentile(np.asarray(seconds) * 1000, [50, 99])
    return {
        f"{prefix}_p50_ms": round(float(p50), 2),
        f"{prefix}_p99_ms": round(float(p99), 2),
        f"{prefix}_max_ms": round(max(seconds) * 1000, 2),
    }
