"""`python -m command_service.relay`: carries committed events to Kafka. Without Kafka it has nothing to carry:
projectors read the event log itself, and this process only says so."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
import uvloop
from fastapi import FastAPI
from prometheus_client import Gauge

from command_service.relay_lease import read_relay_status
from command_service.relaying import Relay, RelayMetrics
from command_service.settings import RelaySettings
from shared.event_log import read_head
from shared.http.health import create_health_application
from shared.http.server import serve
from shared.postgres import CONNECTION_LOST, Pool, create_pool
from shared.settings import settings_from_environment
from shared.telemetry import configure_logging, process_registry

_log = structlog.get_logger("relay")


def create_app(settings: RelaySettings) -> FastAPI:
    registry = process_registry()
    head = Gauge("aindusdb_relay_log_head", "Position of the last event in the log.", registry=registry)
    backlog = Gauge("aindusdb_relay_backlog_events", "Events not yet published, whoever publishes.", registry=registry)
    relay = Relay(settings, f"{socket.gethostname()}:{os.getpid()}", RelayMetrics(registry))
    holder: dict[str, Pool] = {}

    async def observe() -> None:
        async with holder["events"].acquire() as connection:
            head.set((await read_head(connection)).position)
            status = await read_relay_status(connection)
        if status is not None and settings.kafka_bootstrap:
            backlog.set(status.backlog)

    async def observe_forever() -> None:
        while True:
            try:
                await observe()
            except CONNECTION_LOST as error:
                _log.debug("the backlog is not known for now", error=repr(error))
            await asyncio.sleep(settings.metrics_interval_seconds)

    @asynccontextmanager
    async def lifespan(_application: FastAPI) -> AsyncIterator[None]:
        holder["events"] = await create_pool(settings.events_dsn.get_secret_value(), settings, max_size=1)
        tasks = [asyncio.create_task(observe_forever(), name="observing")]
        if settings.kafka_bootstrap:
            tasks.append(asyncio.create_task(relay.run(), name="relay"))
        else:
            _log.info("idle: no Kafka is configured")
        try:
            yield
        finally:
            relay.stop()
            await asyncio.wait(tasks[1:] or tasks, timeout=settings.drain_timeout_seconds if tasks[1:] else 0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            holder["events"].terminate()

    async def event_database() -> str | None:
        await observe()
        return None

    async def publication() -> str | None:
        return relay.fault if settings.kafka_bootstrap else None

    checks = {"event_database": event_database, "publication": publication}
    return create_health_application("AindusDB Core: relay", checks, registry, lifespan)


def main() -> None:
    settings = settings_from_environment(RelaySettings)
    configure_logging("relay", log_format=settings.log_format, level=settings.log_level)
    uvloop.run(serve(create_app(settings), settings))


if __name__ == "__main__":
    main()
