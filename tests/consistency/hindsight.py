"""How far behind an answer was, looking back: since when others had been shown what it lacks."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import accumulate

from tests.consistency.history import History, Read


class Hindsight:
    def __init__(self, history: History) -> None:
        ended = sorted(
            (read.completed, read.freshness.position)
            for read in history.reads
            if read.freshness and not read.question.of_the_log
        )
        self._times = [completed for completed, _ in ended]
        self._shown = list(accumulate((position for _, position in ended), max))
        self._changes = _changes(history)

    def lag_seconds(self, read: Read) -> float:
        """For how long the first change of the collection that the answer lacks had been shown to others when, as its
        age says, it was vouched for. Below 0 if it was not shown yet; minus infinity if it lacks none."""
        assert read.freshness is not None
        changes = self._changes.get(read.question.collection, ())
        missing = bisect_right(changes, read.freshness.position)
        if missing == len(changes):
            return -math.inf
        first_shown = bisect_left(self._shown, changes[missing])
        if first_shown == len(self._shown):
            return -math.inf
        return read.completed - read.freshness.age_ms / 1000 - self._times[first_shown]


def _changes(history: History) -> Mapping[str, Sequence[int]]:
    """Collection -> the positions of the changes of its vectors, in order."""
    found: dict[str, list[int]] = defaultdict(list)
    for write in history.writes:
        found[write.collection] += [change.position for change in write.changes if change.position]
    return {collection: sorted(positions) for collection, positions in found.items()}
