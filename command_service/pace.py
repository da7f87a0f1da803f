"""How fast the projection is, and whether writers are to wait for it: decided from readings, without any I/O."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

_WINDOW_SECONDS = 60.0
"""Of how much work the pace is the average; a pause longer than that is a standstill and says nothing of it."""

_IN_A_ROW = 3
"""So many readings in a row must be beyond the limit before writers wait."""

_GOES_ON_AT = 0.9
"""Of the limit: so far down the projection must have come before writers go on."""

_LONGEST_WAIT_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the log ended, and up to where it was projected. `at` is of the monotonic clock."""

    at: float
    head: int
    projected: int

    @property
    def backlog(self) -> int:
        return max(self.head - self.projected, 0)


class Pace:
    """Measured only while there was something to do: a projection that keeps up says nothing of how fast it could be,
    and neither does one that stands still. It is judged by the pace that it had."""

    def __init__(self) -> None:
        self._before: Standing | None = None
        self._moved_at = 0.0
        self._worked: deque[tuple[float, int]] = deque()
        """Seconds, and the events that were projected in them."""

    def add(self, reading: Standing) -> None:
        """The next one; they are in order of time."""
        before, self._before = self._before, reading
        if before is None:
            self._moved_at = reading.at
            return
        moved = reading.projected - before.projected
        if not moved and reading.backlog:
            return
        seconds, self._moved_at = reading.at - self._moved_at, reading.at
        # What was there before is not all done: it had work for the whole of this time.
        if moved > 0 and before.head > reading.projected and 0 < seconds <= _WINDOW_SECONDS:
            self._worked.append((seconds, moved))
            while sum(of for of, _ in self._worked) > _WINDOW_SECONDS and len(self._worked) > 1:
                self._worked.popleft()

    @property
    def events_per_second(self) -> float | None:
        """None: not known yet."""
        if not self._worked:
            return None
        return sum(moved for _, moved in self._worked) / sum(seconds for seconds, _ in self._worked)

    def seconds_for(self, events: int) -> float | None:
        """None: not known yet."""
        if not events:
            return 0.0
        pace = self.events_per_second
        return None if pace is None else events / pace


class Slowing:
    """Writers wait from the moment on at which the projection has long needed more than `max_seconds` for what is
    there, until it has come some way down. For fewer than `min_events` nobody does: a projection that was just started
    again has hardly moved, and what it seems to need for a few events says nothing."""

    def __init__(self, max_seconds: float, min_events: int) -> None:
        self._max_seconds = max_seconds
        self._min_events = min_events
        self._beyond = 0
        self.is_on = False
        self.wait_seconds = 0
        """How long a writer that is refused now is to wait."""

    def judge(self, backlog: int, behind_seconds: float | None) -> None:
        """None: it is not known, and nobody waits for it."""
        behind = behind_seconds or 0.0 if backlog >= self._min_events else 0.0
        self._beyond = self._beyond + 1 if behind > self._max_seconds else 0
        goes_on_at = _GOES_ON_AT * self._max_seconds
        self.is_on = behind > goes_on_at if self.is_on else self._beyond >= _IN_A_ROW
        self.wait_seconds = min(max(math.ceil(behind - goes_on_at), 1), _LONGEST_WAIT_SECONDS)
