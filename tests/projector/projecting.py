"""Runs the projector inside the test, over a source that may deliver again what was delivered before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import asyncpg
from prometheus_client import CollectorRegistry

from projector.announcer import ChangeAnnouncer
from projector.bulk_loads import BulkLoads
from projector.consumer import Consumer
from projector.event_log import EventLog
from projector.metrics import ProjectorMetrics
from projector.runs import Layout, Run, run_of_log
from projector.settings import ProjectorSettings
from projector.source import EventSource, open_log_source
from projector.upkeep import Upkeep
from shared.postgres import Connection, create_pool
from tests.projector.read_model import ReadModel, empty, fold, read_log, stored
from tests.servers import Databases

PATIENCE_SECONDS = 60.0

OpenSource = Callable[[], AbstractAsyncContextManager[EventSource]]


def projector_settings(databases: Databases, **changed: Any) -> ProjectorSettings:
    given: dict[str, Any] = {
        "events_dsn": databases.projector_events_dsn,
        "read_dsn": databases.read_dsn,
        "poll_interval_seconds": 0.05,
        "parking_attempts": 2,
        "parking_window_seconds": 0.1,
        "recheck_interval_seconds": 0.1,
        "upkeep_interval_seconds": 0.05,
    }
    return ProjectorSettings(**(given | changed))


class RedeliveringSource:
    """Before every batch comes an older one, from the beginning of the log."""

    def __init__(self, source: EventSource) -> None:
        self.layout: Layout = source.layout
        self.log: EventLog = source.log
        self._source = source
        self._position = 0
        self._asked: set[int] = set()

    async def read(self, connection: Connection, limit: int) -> Sequence[Run]:
        if self._position not in self._asked:
            self._asked.add(self._position)
            events = await self.log.read(0, limit)
            if events:
                return [run_of_log(0, events)]
        return await self._source.read(connection, limit)

    def moved(self, positions: Mapping[int, int]) -> None:
        self._position = positions[0]
        self._source.moved(positions)

    def hold(self, partitions: Collection[int], seconds: float) -> None:
        self._source.hold(partitions, seconds)

    def wake(self) -> None:
        self._source.wake()


@asynccontextmanager
async def open_redelivering(settings: ProjectorSettings) -> AsyncIterator[EventSource]:
    async with open_log_source(settings) as source:
        yield RedeliveringSource(source)


@asynccontextmanager
async def running_consumer(
    settings: ProjectorSettings, open_source: OpenSource | None = None
) -> AsyncIterator[Consumer]:
    consumer = Consumer(
        settings,
        open_source or (lambda: open_log_source(settings)),
        ChangeAnnouncer(None),
        ProjectorMetrics(CollectorRegistry()),
    )
    running = asyncio.create_task(consumer.run())
    try:
        yield consumer
    finally:
        consumer.stop()
        await asyncio.wait_for(running, PATIENCE_SECONDS)


def running_upkeep(settings: ProjectorSettings) -> AbstractAsyncContextManager[None]:
    return _running(Upkeep(settings), settings)


def running_bulk_loads(settings: ProjectorSettings) -> AbstractAsyncContextManager[None]:
    return _running(BulkLoads(settings), settings)


@asynccontextmanager
async def _running(work: Upkeep | BulkLoads, settings: ProjectorSettings) -> AsyncIterator[None]:
    pool = await create_pool(settings.read_dsn.get_secret_value(), settings, max_size=2)
    running = asyncio.create_task(work.run(pool))
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        pool.terminate()


async def until(condition: Callable[[], Any], what: str) -> None:
    """Waits for a condition, plain or awaitable."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                answer = condition()
                if await answer if asyncio.iscoroutine(answer) else answer:
                    return
                await asyncio.sleep(0.01)
    except TimeoutError as error:
        raise AssertionError(what) from error


async def watermark(connection: asyncpg.Connection) -> int:
    return await connection.fetchval("SELECT coalesce(min(position), 0) FROM projection_checkpoints") or 0


class Projection:
    """A pair of databases with connections that look at both."""

    def __init__(self, databases: Databases, log: asyncpg.Connection, read: asyncpg.Connection) -> None:
        self.databases = databases
        self.log = log
        self.read = read

    async def head(self) -> int:
        return await self.log.fetchval("SELECT coalesce(max(position), 0) FROM events") or 0

    async def caught_up(self) -> bool:
        return await watermark(self.read) >= await self.head()

    async def catch_up(self, *, redelivering: bool = False, **settings: Any) -> None:
        """Runs a projector until everything in the log is behind its checkpoint."""
        configured = projector_settings(self.databases, **settings)
        source = (lambda: open_redelivering(configured)) if redelivering else None
        async with running_consumer(configured, source):
            await until(self.caught_up, "the projector did not catch up")

    async def stored(self) -> ReadModel:
        return await stored(self.read)

    async def expected(self, without: set[int] | None = None) -> ReadModel:
        """The fold of the log, leaving out the given positions."""
        return fold([event for event in await read_log(self.log) if event.position not in (without or set())])

    async def parked(self) -> dict[int, str]:
        rows = await self.read.fetch("SELECT position, reason FROM parked_events ORDER BY position")
        return {row["position"]: row["reason"] for row in rows}

    async def assert_projected(self, without: set[int] | None = None, **settings: Any) -> None:
        """Catches up, has everything delivered again, builds it anew from zero; each time it is the fold of the log."""
        expected = await self.expected(without)
        await self.catch_up(**settings)
        assert await self.stored() == expected
        await self.catch_up(redelivering=True, **settings)
        assert await self.stored() == expected
        await empty(self.read)
        await self.catch_up(redelivering=True, **settings)
        assert await self.stored() == expected
        assert set(await self.parked()) == (without or set())
