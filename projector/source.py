"""Where the projector's events come from: as one partition from the event log itself, or as several through Kafka."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Protocol

from events_schema.base import RecordedEvent
from projector.event_log import EventLog, opened_event_log
from projector.runs import Layout, Run, run_of_log
from projector.settings import ProjectorSettings
from shared.appends import woken_by_appends
from shared.postgres import Connection

LOG_FEED = 0
"""The feed that stands for the event log itself."""


class EventSource(Protocol):
    """Hands out runs that follow the checkpoints as far as it knows them; `moved` tells it where they are."""

    layout: Layout
    log: EventLog

    async def read(self, connection: Connection, limit: int) -> Sequence[Run]:
        """The next runs, of about `limit` events together, at most one for each partition; waits a while for them, and
        then there may be none. `connection` leads to the read database, outside a transaction."""

    def moved(self, positions: Mapping[int, int]) -> None:
        """Where the checkpoints of these partitions are. What was handed out beyond them is handed out again."""

    def hold(self, partitions: Collection[int], seconds: float) -> None:
        """Hands out nothing of these for a while."""

    def wake(self) -> None:
        """Ends a wait."""


class LogSource:
    """The event log itself. Appends wake it, and it polls besides."""

    def __init__(self, log: EventLog, layout: Layout, woken: asyncio.Event, poll_interval_seconds: float) -> None:
        self.log = log
        self.layout = layout
        self._woken = woken
        self._poll_interval_seconds = poll_interval_seconds
        self._position = 0
        self._held_until = 0.0
        self._ahead: tuple[int, asyncio.Task[list[RecordedEvent]]] | None = None

    async def read(self, connection: Connection, limit: int) -> Sequence[Run]:
        del connection
        held_seconds = self._held_until - time.monotonic()
        if held_seconds > 0:
            await self._wait(min(held_seconds, self._poll_interval_seconds))
            return []
        after = self._position
        events = await self._next(after, limit)
        if not events:
            await self._wait(self._poll_interval_seconds)
            return []
        run = run_of_log(after, events)
        self._position = run.to
        # The next batch is read while this one is written.
        self._ahead = (run.to, asyncio.create_task(self.log.read(run.to, limit)))
        return [run]

    def moved(self, positions: Mapping[int, int]) -> None:
        self._position = positions.get(0, self._position)

    def hold(self, partitions: Collection[int], seconds: float) -> None:
        if partitions:
            self._held_until = time.monotonic() + seconds

    def wake(self) -> None:
        self._woken.set()

    async def close(self) -> None:
        if self._ahead is not None:
            self._ahead[1].cancel()
            await asyncio.gather(self._ahead[1], return_exceptions=True)

    async def _next(self, after: int, limit: int) -> list[RecordedEvent]:
        if self._ahead is not None:
            begins_after, reading = self._ahead
            self._ahead = None
            events = await reading
            if begins_after == after:
                return events
        return await self.log.read(after, limit)

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        self._woken.clear()


@asynccontextmanager
async def open_log_source(settings: ProjectorSettings) -> AsyncIterator[EventSource]:
    """
    Raises:
        One of `CONNECTION_LOST`: the event database cannot be reached.
    """
    async with opened_event_log(settings) as log, woken_by_appends(settings.events_listen_address(), settings) as woken:
        layout = Layout(await log.log_id(), LOG_FEED, 1)
        source = LogSource(log, layout, woken, settings.poll_interval_seconds)
        try:
            yield source
        finally:
            await source.close()
