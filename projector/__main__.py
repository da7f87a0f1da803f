"""`python -m projector`: the projector's composition root."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import uvloop
from fastapi import FastAPI

from projector.announcer import ChangeAnnouncer
from projector.bulk_loads import BulkLoads
from projector.consumer import Consumer
from projector.kafka_source import open_kafka_source
from projector.metrics import ProjectorMetrics, observe_forever
from projector.retirement import retire_forever
from projector.settings import ProjectorSettings
from projector.source import EventSource, open_log_source
from projector.upkeep import Upkeep
from shared.http.health import create_health_application
from shared.http.server import serve
from shared.postgres import Pool, create_pool
from shared.settings import settings_from_environment
from shared.telemetry import configure_logging, process_registry


def open_source(settings: ProjectorSettings) -> AbstractAsyncContextManager[EventSource]:
    """Kafka where it is configured, else the event log itself."""
    return open_kafka_source(settings) if settings.kafka_bootstrap else open_log_source(settings)


def create_app(settings: ProjectorSettings) -> FastAPI:
    registry = process_registry()
    metrics = ProjectorMetrics(registry)
    announcer = ChangeAnnouncer(settings.redis_url.get_secret_value() if settings.redis_url else None)
    consumer = Consumer(settings, lambda: open_source(settings), announcer, metrics)
    pools: dict[str, Pool] = {}

    @asynccontextmanager
    async def lifespan(_application: FastAPI) -> AsyncIterator[None]:
        # Without connections at first: a database that is away shows at /ready and does not end the process.
        pools["events"] = await create_pool(settings.events_dsn.get_secret_value(), settings, max_size=2)
        pools["read"] = await create_pool(settings.read_dsn.get_secret_value(), settings, max_size=4)
        await announcer.start()
        consuming = asyncio.create_task(consumer.run(), name="consumer")
        beside = [
            asyncio.create_task(
                observe_forever(metrics, pools["events"], pools["read"], settings.metrics_interval_seconds)
            ),
            asyncio.create_task(retire_forever(settings, pools["read"])),
            asyncio.create_task(Upkeep(settings).run(pools["read"])),
            asyncio.create_task(BulkLoads(settings).run(pools["read"])),
        ]
        try:
            yield
        finally:
            consumer.stop()
            await asyncio.wait([consuming], timeout=settings.drain_timeout_seconds)
            for task in (consuming, *beside):
                task.cancel()
            await asyncio.gather(consuming, *beside, return_exceptions=True)
            await announcer.stop()
            for pool in pools.values():
                pool.terminate()

    async def answers(database: str) -> str | None:
        async with pools[database].acquire() as connection:
            await connection.execute("SELECT 1")
        return None

    async def projection() -> str | None:
        return consumer.fault

    checks = {
        "event_database": lambda: answers("events"),
        "read_database": lambda: answers("read"),
        "projection": projection,
    }
    return create_health_application("AindusDB Core: projector", checks, registry, lifespan)


def main() -> None:
    settings = settings_from_environment(ProjectorSettings)
    configure_logging("projector", log_format=settings.log_format, level=settings.log_level)
    uvloop.run(serve(create_app(settings), settings))


if __name__ == "__main__":
    main()
