"""When a request is sent again, and after which pause."""

from __future__ import annotations

import random
from dataclasses import dataclass

from aindusdb.client.errors import ClientError, ProblemError, UnreachableError

TRANSIENT_STATUSES = frozenset({502, 503, 504})
FINAL_PROBLEMS = frozenset({"not-fresh-enough"})
"""503 too, but the service has waited already, for as long as the caller wanted."""
TRANSIENT_PROBLEMS = frozenset({"idempotency-in-progress"})
SLOWED_PROBLEMS = frozenset({"projection-lag"})
"""The service wants a slower pace, and nothing was written."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Failures of one request are waited out for `patience_seconds` altogether; 0 means never. A write that the service
    slows down because the projection lags waits for up to `slowed_patience_seconds`, as often as it is asked to."""

    patience_seconds: float = 3.0
    slowed_patience_seconds: float = 600.0
    first_pause_seconds: float = 0.1
    longest_pause_seconds: float = 5.0

    def pause_seconds(self, failures: int, retry_after_seconds: float | None) -> float:
        """Doubles with every failure, up to a limit, and is spread so that clients do not return in step. What the
        service asked for is the least."""
        doubled = min(self.first_pause_seconds * 2.0 ** min(failures - 1, 20), self.longest_pause_seconds)
        spread = doubled * random.uniform(0.5, 1.0)  # noqa: S311
        return max(spread, retry_after_seconds or 0.0)


def is_slowed(failure: ClientError) -> bool:
    """Whether the service refused only for its pace."""
    return isinstance(failure, ProblemError) and failure.name in SLOWED_PROBLEMS


def may_pass(failure: ClientError) -> bool:
    """Whether the same request may succeed a little later."""
    if isinstance(failure, ProblemError):
        return is_transient(failure.status, failure.name)
    return isinstance(failure, UnreachableError)


def is_transient(status: int, problem: str) -> bool:
    return problem in TRANSIENT_PROBLEMS | SLOWED_PROBLEMS or (
        status in TRANSIENT_STATUSES and problem not in FINAL_PROBLEMS
    )
