"""The circuit breaker against a model of it."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.embedding.breaker import CircuitBreaker, CircuitOpenError

FAILURES = 3
OPEN_SECONDS = 10.0


class BrokenError(Exception):
    pass


class OtherError(Exception):
    pass


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(failures=FAILURES, open_seconds=OPEN_SECONDS, clock=clock)


def attempted(of: CircuitBreaker, outcome: type[Exception] | None) -> bool:
    """Whether the attempt was let through."""
    tried = False
    with suppress(BrokenError, OtherError, CircuitOpenError), of.attempt(BrokenError):
        tried = True
        if outcome is not None:
            raise outcome
    return tried


@given(st.lists(st.tuples(st.sampled_from([None, BrokenError, OtherError]), st.floats(0, 6)), max_size=60))
def test_attempts_are_let_through_as_the_failures_before_them_say(
    steps: list[tuple[type[Exception] | None, float]],
) -> None:
    clock = Clock()
    tested = breaker(clock)
    in_a_row, open_until = 0, 0.0
    for outcome, pause in steps:
        clock.now += pause
        expected = in_a_row < FAILURES or clock.now >= open_until
        assert attempted(tested, outcome) == expected
        if expected and outcome is BrokenError:
            in_a_row += 1
            open_until = clock.now + OPEN_SECONDS
        elif expected and outcome is None:
            in_a_row = 0


def test_of_those_who_come_when_its_time_is_over_one_tries() -> None:
    clock = Clock()
    tested = breaker(clock)
    for _ in range(FAILURES):
        attempted(tested, BrokenError)
    clock.now += OPEN_SECONDS
    with tested.attempt(BrokenError):
        assert not attempted(tested, None)
    assert tested.is_closed
    assert attempted(tested, None)


def test_a_trial_that_is_broken_off_leaves_its_place_to_the_next() -> None:
    clock = Clock()
    tested = breaker(clock)
    for _ in range(FAILURES):
        attempted(tested, BrokenError)
    clock.now += OPEN_SECONDS
    with pytest.raises(KeyboardInterrupt), tested.attempt(BrokenError):
        raise KeyboardInterrupt
    assert not tested.is_closed
    assert attempted(tested, None)
    assert tested.is_closed
