"""Kafka away: writes go on, the backlog shows, whoever is asked says why, and everything catches up by itself."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import AsyncExitStack

import pytest

from tests.projector.projecting import until, watermark
from tests.servers import DatabaseFactory, prepared_kafka, running
from tests.transport.snapshots import watched
from tests.transport.transporting import Load, metric, says, transport

pytestmark = pytest.mark.usefixtures("kafka_installed")

BACKLOG = "aindusdb_relay_backlog_events"
LAG = "aindusdb_projector_lag_events"


async def test_a_broker_that_is_away_at_the_start_is_waited_for(database_factory: DatabaseFactory) -> None:
    async with (
        prepared_kafka() as server,
        transport(database_factory, server.bootstrap) as way,
        way.served("command_service.relay") as relay,
        way.served("projector") as projector,
    ):
        await until(says(relay, 503, f"Kafka at {server.bootstrap} takes no events"), "the relay does not say why")
        await until(says(projector, 503, f"Kafka at {server.bootstrap} is away"), "the projector does not say why")
        load = Load(way.log)
        await load.some(30)

        async def shows_all() -> bool:
            return await metric(relay, BACKLOG) == await metric(projector, LAG) == await way.projection.head()

        await until(shows_all, "the backlog does not show")
        async with watched(way), running(server.spec(), server.folder.parent):
            async with load.running():
                await until(says(relay, 200), "the relay does not go on")
                await until(says(projector, 200), "the projector does not go on")
                await until(way.caught_up_with(await way.projection.head()), "nothing is projected")
            await way.settle()


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("how", "seconds"),
    [
        pytest.param("frozen", 15, marks=pytest.mark.long),
        pytest.param("frozen", 150, marks=pytest.mark.long),
        pytest.param("stopped", 150, marks=pytest.mark.long),
    ],
)
async def test_a_broker_that_goes_under_load_is_waited_for(
    database_factory: DatabaseFactory, how: str, seconds: float
) -> None:
    """A frozen one keeps its connections open and answers nothing."""
    async with (
        prepared_kafka() as server,
        AsyncExitStack() as broker,
        transport(database_factory, server.bootstrap) as way,
        way.served("command_service.relay") as relay,
        way.served("projector") as projector,
        watched(way),
        Load(way.log).running(),
    ):
        process = await broker.enter_async_context(running(server.spec(), server.folder.parent))
        await until(says(projector, 200), "nothing is projected")
        await until(way.caught_up_with(await way.projection.head()), "nothing is published")
        record = process.record().process
        assert record is not None
        gone_at, head = time.monotonic(), await way.projection.head()
        if how == "frozen":
            os.kill(record.pid, signal.SIGSTOP)
        else:
            await broker.aclose()
        await until(says(relay, 503, f"Kafka at {server.bootstrap} takes no events"), "the relay does not say why")
        await until(says(projector, 503, f"Kafka at {server.bootstrap} is away"), "the projector does not say why")
        await asyncio.sleep(max(0.0, gone_at + seconds - time.monotonic()))
        assert await metric(relay, BACKLOG) > 100
        assert await watermark(way.projection.read) <= head + 100
        if how == "frozen":
            os.kill(record.pid, signal.SIGCONT)
        else:
            await broker.enter_async_context(running(server.spec(), server.folder.parent))
        await until(way.caught_up_with(await way.projection.head()), "what waited is not projected")
        await until(says(relay, 200), "the relay does not go on")
        await until(says(projector, 200), "the projector does not go on")
