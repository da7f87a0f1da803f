"""A circuit breaker: after failures in a row nothing is tried for a while, then one trial decides."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class CircuitOpenError(Exception):
    """Nothing is tried for `retry_after_seconds` more."""

    def __init__(self, retry_after_seconds: float) -> None:
        super().__init__(f"it failed repeatedly and is left alone for {retry_after_seconds:.0f} seconds")
        self.retry_after_seconds = retry_after_seconds


class CircuitBreaker:
    """Closed: everything is tried. Open: nothing. Half-open, when its time is over: one attempt, which closes it or
    opens it again."""

    def __init__(self, *, failures: int, open_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._allowed_failures = failures
        self._open_seconds = open_seconds
        self._clock = clock
        self._failures = 0
        self._open_until = float("-inf")
        self._trial_under_way = False

    @property
    def is_closed(self) -> bool:
        return self._failures < self._allowed_failures

    @contextmanager
    def attempt(self, *failures: type[Exception]) -> Iterator[None]:
        """Around one attempt. What it raises of the types `failures` counts as one; an attempt that is cancelled, or
        ends by anything else, decides nothing.

        Raises:
            CircuitOpenError: before anything is tried.
        """
        is_trial = not self.is_closed
        if is_trial:
            left = self._open_until - self._clock()
            if left > 0 or self._trial_under_way:
                raise CircuitOpenError(max(left, 1.0))
            self._trial_under_way = True
        try:
            yield
        except failures:
            self._failures += 1
            if not self.is_closed:
                self._open_until = self._clock() + self._open_seconds
            raise
        else:
            self._failures = 0
        finally:
            if is_trial:
                self._trial_under_way = False
