"""How fast the projection is taken to be, and when writers wait for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from command_service.pace import Pace, Slowing, Standing


def _pace(*readings: tuple[float, int, int]) -> Pace:
    pace = Pace()
    for at, head, projected in readings:
        pace.add(Standing(at, head, projected))
    return pace


def test_the_pace_is_that_of_the_time_with_work() -> None:
    pace = _pace((0, 1_000, 0), (2, 2_000, 200), (4, 3_000, 400))
    assert pace.events_per_second == 100
    assert pace.seconds_for(2_600) == 26
    assert pace.seconds_for(0) == 0


def test_a_projection_that_keeps_up_says_nothing_of_how_fast_it_could_be() -> None:
    pace = _pace((0, 10, 9), (2, 30, 29), (4, 50, 50), (6, 50, 50), (8, 70, 69))
    assert pace.events_per_second is None
    assert pace.seconds_for(50_000) is None


def test_a_projection_that_stands_still_is_judged_by_the_pace_that_it_had() -> None:
    pace = _pace((0, 1_000, 0), (2, 1_000, 200), *((at, 5_000, 200) for at in range(4, 400, 2)), (400, 5_000, 300))
    assert pace.events_per_second == 100


def test_a_slow_batch_is_no_standstill() -> None:
    pace = _pace((0, 1_000, 0), (2, 1_000, 0), (4, 1_000, 0), (6, 1_000, 300))
    assert pace.events_per_second == 50


def test_what_was_long_ago_is_forgotten() -> None:
    slow = [(float(at), 10**6, 10 * at) for at in range(0, 100, 2)]
    fast = [(float(at), 10**6, 980 + 1_000 * (at - 98)) for at in range(100, 200, 2)]
    assert _pace(*slow, *fast).events_per_second == pytest.approx(1_000, rel=0.01)


def test_writers_wait_when_the_lag_lasts_and_go_on_when_it_is_some_way_down() -> None:
    slowing = Slowing(100, 10)
    on = []
    for behind in (101, 101, 99, 101, 101, 120, 99, 91, 90, 95, 101):
        slowing.judge(10, behind)
        on.append(slowing.is_on)
    assert on == [False] * 5 + [True] * 3 + [False] * 3


def test_what_is_not_known_holds_nobody_up() -> None:
    slowing = Slowing(100, 10)
    for _ in range(3):
        slowing.judge(10, 500)
    assert slowing.is_on
    slowing.judge(10, None)
    assert not slowing.is_on


def test_nobody_waits_for_a_few_events_however_slow_the_projection_seems() -> None:
    slowing = Slowing(100, 20)
    for _ in range(5):
        slowing.judge(19, 10_000)
        assert not slowing.is_on
    for _ in range(3):
        slowing.judge(20, 10_000)
    assert slowing.is_on
    slowing.judge(19, 10_000)
    assert not slowing.is_on


@given(st.lists(st.one_of(st.none(), st.floats(0, 10**9)), max_size=30), st.floats(0.01, 10**6))
def test_a_wait_is_short_enough_to_be_waited_and_long_enough_to_help(behind: list[float | None], limit: float) -> None:
    slowing = Slowing(limit, 10)
    for one in behind:
        slowing.judge(10, one)
        if slowing.is_on:
            assert one is not None
            assert one > 0.9 * limit
            assert 1 <= slowing.wait_seconds <= 60
