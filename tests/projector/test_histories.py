"""Random histories, cut into random batches, with connections that die between any two statements."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from projector import consumer
from tests.projector.histories import History, Step, long_history
from tests.projector.histories import steps as steps_of_a_history
from tests.projector.log_writer import LogWriter
from tests.projector.mortal import Death, Mortality
from tests.projector.projecting import Projection
from tests.projector.read_model import empty


@pytest.fixture
def mortality(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[Death]], Mortality]:
    def install(deaths: list[Death]) -> Mortality:
        installed = Mortality(deaths)
        monkeypatch.setattr(consumer, "connect", installed.connect)
        return installed

    monkeypatch.setattr(consumer, "_FIRST_RETRY_SECONDS", 0.001)
    monkeypatch.setattr(consumer, "_LAST_RETRY_SECONDS", 0.001)
    return install


_DAYS = timedelta(days=9)
"""Between two events: a history spans several months."""

_deaths = st.lists(st.tuples(st.integers(1, 60), st.booleans()), max_size=6)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps_of_a_history, batch=st.integers(1, 9), deaths=_deaths, month_partitions=st.booleans())
async def test_the_read_model_is_the_fold_of_the_log_whatever_dies_in_between(
    projection: Projection,
    log: LogWriter,
    mortality: Callable[[list[Death]], Mortality],
    steps: list[Step],
    batch: int,
    deaths: list[Death],
    month_partitions: bool,
) -> None:
    log.pace, log.month_partitions = _DAYS, month_partitions
    await History(log, f"-{uuid4().hex[:8]}").play(steps)
    expected = await projection.expected()
    mortality(deaths)
    await projection.catch_up(batch_max_events=batch)
    assert await projection.stored() == expected
    mortality(deaths)
    await projection.catch_up(batch_max_events=batch, redelivering=True)
    assert await projection.stored() == expected
    assert await projection.parked() == {}


@pytest.mark.parametrize(
    ("batch", "until_statement", "month_partitions"),
    [(1, 120, False), (7, 120, True), (1000, 60, False)],
)
async def test_a_long_history_is_rebuilt_from_zero_whatever_dies_in_between(
    projection: Projection,
    log: LogWriter,
    mortality: Callable[[list[Death]], Mortality],
    batch: int,
    until_statement: int,
    month_partitions: bool,
) -> None:
    log.pace, log.month_partitions = _DAYS, month_partitions
    await History(log, "").play(long_history(200))
    expected = await projection.expected()
    for dies_before in (True, False):
        await empty(projection.read)
        died = mortality([(statement, dies_before) for statement in range(1, until_statement)])
        await projection.catch_up(batch_max_events=batch, redelivering=True)
        assert until_statement - len(died.pending) > 20  # connections did die
        assert await projection.stored() == expected
        assert await projection.parked() == {}
