"""Through the pooler into Kafka, and out of it through the pooler."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from tests.pooler.leftovers import leftovers
from tests.pooler.pooling import FOR_POOLERS, Pooled, pooled_way
from tests.projector.projecting import until
from tests.transport.transporting import Load, Transport


async def test_relay_and_projectors_go_on_when_the_pooler_is_killed(pooled: Pooled, kafka_bootstrap: str) -> None:
    direct, through = pooled.direct, pooled.through
    async with pooled_way(pooled, kafka_bootstrap) as way, AsyncExitStack() as processes:
        for module, listen_dsn in (
            ("command_service.relay", direct.events_dsn),
            ("projector", direct.projector_events_dsn),
        ):
            process = way.process(module, AINDUSDB_EVENTS_LISTEN_DSN=listen_dsn, **FOR_POOLERS)
            await processes.enter_async_context(process)
        load = Load(way.log)
        async with load.running():
            for _ in range(2):
                seen = await way.projection.head()
                await until(lambda: reached(way, seen), "nothing is projected")  # noqa: B023
                pooled.process.kill()
                await asyncio.sleep(0.5)
        await way.settle()
        await until(way.published, "the relay did not go on")
        for dsn in (through.events_dsn, through.projector_events_dsn, through.read_dsn):
            assert await leftovers(dsn) == []


async def reached(way: Transport, position: int) -> bool:
    watermark = await way.projection.read.fetchval("SELECT min(position) FROM projection_checkpoints")
    return watermark is not None and watermark > position
