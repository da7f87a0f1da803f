"""What the projector counts, and where it stands against the head of the log."""

from __future__ import annotations

import asyncio

import asyncpg
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from shared.postgres import CONNECTION_LOST, Pool
from shared.status import log_status

_log = structlog.get_logger("metrics")


class ProjectorMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.applied = Counter(
            "aindusdb_projector_events_applied_total", "Events whose effect was committed.", registry=registry
        )
        self.skipped = Counter(
            "aindusdb_projector_events_skipped_total",
            "Events passed over because somebody decided so.",
            registry=registry,
        )
        self.batch_seconds = Histogram(
            "aindusdb_projector_batch_seconds",
            "Time from the lock on the checkpoint to the commit of a batch.",
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
            registry=registry,
        )
        self.watermark = Gauge(
            "aindusdb_projector_watermark", "All events up to this position are in the read model.", registry=registry
        )
        self.head = Gauge("aindusdb_projector_log_head", "Position of the last event in the log.", registry=registry)
        self.lag_events = Gauge(
            "aindusdb_projector_lag_events", "Events in the log that are not in the read model.", registry=registry
        )
        self.lag_seconds = Gauge(
            "aindusdb_projector_lag_seconds", "Age of the oldest event not in the read model.", registry=registry
        )
        self.outdated = Gauge(
            "aindusdb_projector_outdated_collections",
            "Collections that are searched as an older version of the projection made them.",
            registry=registry,
        )
        self.parked = Gauge(
            "aindusdb_projector_parked_events", "Events set aside because they cannot be applied.", registry=registry
        )


async def observe_forever(metrics: ProjectorMetrics, events: Pool, read: Pool, interval_seconds: float) -> None:
    """Lag is measured against the real head, also while nothing is applied; a database that is away shows at /ready."""
    while True:
        try:
            async with events.acquire() as events_connection, read.acquire() as read_connection:
                status = await log_status(events_connection, read_connection)
            metrics.watermark.set(status.watermark)
            metrics.head.set(status.head_position)
            metrics.lag_events.set(status.lag_events)
            metrics.lag_seconds.set(status.lag_seconds)
            metrics.parked.set(status.parked_events)
            metrics.outdated.set(status.outdated_collections)
        except (*CONNECTION_LOST, asyncpg.PostgresError) as error:
            _log.debug("the lag is not known for now", error=repr(error))
        await asyncio.sleep(interval_seconds)
