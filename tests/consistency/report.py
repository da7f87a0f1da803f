"""A run in numbers."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from tests.consistency.checker import KINDS, Violation
from tests.consistency.hindsight import Hindsight
from tests.consistency.history import History, Read, Write
from tests.consistency.recorder import Recorder


def report_of(
    recorder: Recorder, violations: Sequence[Violation], faults: Mapping[str, int], seconds: float, seed: int
) -> dict[str, Any]:
    """`operations` were sent to a server that was there. `refused` were answered 503 or 504; `declined` are writes that
    would change what was not there, or create what was; `unanswered` reads and `unknown` writes were broken off."""
    history = recorder.history()
    found = Counter(violation.kind for violation in violations)
    return {
        "operations": recorder.sent,
        "writes": len(history.writes),
        "reads": len(history.reads),
        "cached": sum(read.cached for read in history.reads),
        "behind": _behind(history.writes, history.reads),
        "longest_lag_seconds": round(_longest_lag_seconds(history), 1),
        **{name: recorder.counts[name] for name in ("refused", "declined", "unanswered", "unknown")},
        "faults": dict(sorted(faults.items())),
        "violations": {kind: found[kind] for kind in KINDS},
        "seconds": round(seconds, 1),
        "seed": seed,
    }


def _longest_lag_seconds(history: History) -> float:
    """For how long at most an answer lacked what others had been shown."""
    hindsight = Hindsight(history)
    return max([0.0, *(hindsight.lag_seconds(read) for read in history.reads if read.freshness)])


def _behind(writes: Sequence[Write], reads: Sequence[Read]) -> int:
    """How many answers lacked something that had been acknowledged before they were asked for: the lag was real."""
    ended = sorted((write.completed, write.covers) for write in writes)
    times = [completed for completed, _ in ended]
    highest = list(accumulate((covers for _, covers in ended), max, initial=0))
    return sum(
        read.freshness is not None and read.freshness.position < highest[bisect_left(times, read.invoked)]
        for read in reads
    )
