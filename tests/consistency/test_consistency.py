"""Runs of the consistency test: a short one on the event log, and a long one through Kafka."""

from __future__ import annotations

import time

import pytest

from tests.consistency.run import Options, run

_SHOWN = 5


async def _assert_consistent(operations: int, *, kafka: bool, fault_pause_seconds: tuple[float, float]) -> None:
    options = Options(operations, 24, kafka, seed=int(time.time()), fault_pause_seconds=fault_pause_seconds)
    outcome = await run(options)
    assert list(outcome.violations[:_SHOWN]) == [], outcome.report
    # Without these it would have shown nothing.
    assert outcome.report["cached"] > 0
    assert outcome.report["behind"] > 0
    assert sum(outcome.report["faults"].values()) > 0


@pytest.mark.timeout(240)
async def test_no_client_is_told_what_breaks_a_promise_while_servers_lag_and_die() -> None:
    await _assert_consistent(3_000, kafka=False, fault_pause_seconds=(0.1, 0.5))


@pytest.mark.long
@pytest.mark.timeout(1_800)
@pytest.mark.usefixtures("kafka_installed")
async def test_a_hundred_thousand_operations_through_kafka_break_no_promise() -> None:
    await _assert_consistent(100_000, kafka=True, fault_pause_seconds=(1.0, 4.0))
