"""Keeps writes from running ever further ahead of the projection, whose tokens would be of no use to anybody.

How far the projection is, is read from the databases beside the requests. Whoever writes asks nothing.
"""

from __future__ import annotations

import asyncio

import asyncpg
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from command_service.pace import Pace, Slowing, Standing
from shared.event_log import read_head, read_log_id
from shared.postgres import CONNECTION_LOST, Pool
from shared.read_model.snapshot import read_snapshot

_TIMEOUT_SECONDS = 10.0

_LONGEST_PAUSE_SECONDS = 5.0
_SHARE_OF_PACE = 0.5
"""What imports take of the projection's pace while writers are slowed, so that it comes down from its backlog."""

_log = structlog.get_logger("backpressure")


class ProjectionLagError(Exception):
    """The projection would need `behind_seconds` for the `backlog` events that wait for it, which is too long. Nothing
    was written."""

    def __init__(self, backlog: int, behind_seconds: float, retry_after_seconds: int) -> None:
        super().__init__(
            f"{backlog:,} events wait to be projected, which takes about {behind_seconds:.0f} s; writes are taken "
            f"again in {retry_after_seconds} s"
        )
        self.backlog = backlog
        self.behind_seconds = behind_seconds
        self.retry_after_seconds = retry_after_seconds


class Backpressure:
    """`max_seconds`: beyond it writers wait, if at least `min_events` wait; 0: never. While it is not known how far
    the projection is, because a database is away or the read model belongs to another log, nobody is."""

    def __init__(
        self, max_seconds: float, min_events: int, poll_interval_seconds: float, registry: CollectorRegistry
    ) -> None:
        self._max_seconds = max_seconds
        self._poll_interval_seconds = poll_interval_seconds
        self._pace = Pace()
        self._slowing = Slowing(max_seconds, min_events)
        self._backlog = 0
        self._behind_seconds = 0.0
        self._turn = asyncio.Lock()
        self._events_behind = Gauge(
            "aindusdb_projection_backlog_events", "Events in the log that wait to be projected.", registry=registry
        )
        self._seconds_behind = Gauge(
            "aindusdb_projection_backlog_seconds",
            "How long the projection needs for them at the pace that it has, or had when it last moved.",
            registry=registry,
        )
        self._slowed = Gauge(
            "aindusdb_writes_slowed", "1 while writes are refused because the projection lags.", registry=registry
        )
        self._refused = Counter(
            "aindusdb_writes_refused_for_lag_total", "Writes refused because the projection lags.", registry=registry
        )

    async def run(self, events: Pool, read: Pool | None) -> None:
        """Until it is cancelled."""
        if not self._max_seconds or read is None:
            return
        while True:
            try:
                async with asyncio.timeout(_TIMEOUT_SECONDS):
                    reading = await _standing(events, read)
            except (*CONNECTION_LOST, asyncpg.PostgresError) as error:
                _log.debug("how far the projection is, is not known for now", error=repr(error))
                reading = None
            self._judge(reading)
            await asyncio.sleep(self._poll_interval_seconds)

    def check(self) -> None:
        """
        Raises:
            ProjectionLagError: whoever wants to write is to come again later.
        """
        if self._slowing.is_on:
            self._refused.inc()
            raise ProjectionLagError(self._backlog, self._behind_seconds, self._slowing.wait_seconds)

    async def keep_pace(self, events: int) -> None:
        """For who writes much, one part after the other: waits before a part of so many events, so that the projection
        comes down from its backlog all the same. One after the other."""
        async with self._turn:
            pace = self._pace.events_per_second
            if self._slowing.is_on and pace is not None:
                await asyncio.sleep(min(events / (_SHARE_OF_PACE * pace), _LONGEST_PAUSE_SECONDS))

    def _judge(self, reading: Standing | None) -> None:
        if reading is not None:
            self._pace.add(reading)
            self._backlog = reading.backlog
        behind = None if reading is None else self._pace.seconds_for(reading.backlog)
        self._behind_seconds = behind or 0.0
        was_on = self._slowing.is_on
        self._slowing.judge(self._backlog, behind)
        if self._slowing.is_on != was_on:
            _log.warning(
                "writes are refused: the projection lags" if self._slowing.is_on else "writes are taken again",
                backlog_events=self._backlog, backlog_seconds=round(self._behind_seconds),
            )  # fmt: skip
        self._events_behind.set(self._backlog)
        self._seconds_behind.set(self._behind_seconds)
        self._slowed.set(self._slowing.is_on)


async def _standing(events: Pool, read: Pool) -> Standing | None:
    """None: nothing was ever projected, or what was is of another log. The read model first, so that the backlog is
    never less than nothing."""
    async with read.acquire() as connection:
        snapshot = await read_snapshot(connection)
    async with events.acquire() as connection:
        if snapshot.log_id != await read_log_id(connection):
            return None
        head = await read_head(connection)
    return Standing(asyncio.get_running_loop().time(), head.position, snapshot.low)
