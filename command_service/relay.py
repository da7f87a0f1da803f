"""`python -m command_service.relay`: carries committed events to Kafka. Without Kafka it has nothing to carry:
projectors read the event log itself, and this process only says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
import uvloop
from fastapi import FastAPI
from prometheus_client import Gauge

from command_service.settings import RelaySettings
from shared.event_log import read_head
from shared.http.health import create_health_application
from shared.http.server import serve
from shared.postgres import Pool, create_pool
from shared.settings import settings_from_environment
from shared.telemetry import configure_logging, process_registry


def create_app(settings: RelaySettings) -> FastAPI:
    """
    Raises:
        SystemExit: Kafka is configured, which this version does not publish to.
    """
    if settings.kafka_bootstrap:
        raise SystemExit(
            "AINDUSDB_KAFKA_BOOTSTRAP is set, but this version does not publish to Kafka yet; unset it: "
            "the projector then reads the event log itself"
        )
    registry = process_registry()
    head = Gauge("aindusdb_relay_log_head", "Position of the last event in the log.", registry=registry)
    holder: dict[str, Pool] = {}

    @asynccontextmanager
    async def lifespan(_application: FastAPI) -> AsyncIterator[None]:
        holder["events"] = await create_pool(settings.events_dsn.get_secret_value(), settings, min_size=0, max_size=1)
        structlog.get_logger("relay").info("idle: no Kafka is configured")
        try:
            yield
        finally:
            holder["events"].terminate()

    async def event_database() -> str | None:
        async with holder["events"].acquire() as connection:
            head.set((await read_head(connection)).position)
        return None

    return create_health_application("AindusDB Core: relay", {"event_database": event_database}, registry, lifespan)


def main() -> None:
    settings = settings_from_environment(RelaySettings)
    configure_logging("relay", log_format=settings.log_format, level=settings.log_level)
    uvloop.run(serve(create_app(settings), settings))


if __name__ == "__main__":
    main()
