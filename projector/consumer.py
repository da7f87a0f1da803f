"""Applies the log to the read model: a batch, one transaction, the checkpoints in it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime

import asyncpg
import structlog
from aiokafka.errors import KafkaError

from events_schema.base import RecordedEvent
from projector.announcer import ChangeAnnouncer
from projector.checkpoints import end_frozen_holders, lock_checkpoints, move_checkpoints, read_checkpoints
from projector.errors import (
    POISON,
    AwaitsGenerationError,
    CheckpointMismatchError,
    LayoutChangedError,
    NoFeedError,
    NoSchemaError,
    UnknownProjectionVersionError,
)
from projector.layout import settled_positions
from projector.metrics import ProjectorMetrics
from projector.parking import (
    Attempts,
    Outcome,
    ParkedEvent,
    park,
    project_isolating,
    project_whole,
    read_parked_streams,
)
from projector.projection import record_changes
from projector.runs import Layout, Run
from projector.settings import ProjectorSettings
from projector.source import EventSource
from shared.event_log import LogCorruptionError
from shared.kafka.clients import is_told_to_end
from shared.kafka.ends import TopicAheadError
from shared.kafka.records import ForeignRecordError
from shared.kafka.topic import TopicMismatchError, TopicMissingError
from shared.postgres import CONNECTION_LOST, Connection, ServerChangedError, connect, read_server_started

_FIRST_RETRY_SECONDS = 0.1
_LAST_RETRY_SECONDS = 5.0
_LOOK_SECONDS = 0.5
_WAITS_SECONDS = 5.0

_FOR_SOMEBODY_TO_DECIDE = (
    CheckpointMismatchError,
    ForeignRecordError,
    LogCorruptionError,
    TopicAheadError,
    TopicMismatchError,
    UnknownProjectionVersionError,
)

_HAS_SCHEMA = "SELECT to_regclass('projection_checkpoints') IS NOT NULL"

_NOT_COMPARED = "the checkpoints are not yet compared with the event log"

_log = structlog.get_logger("projector")


class NotYetError(Exception):
    """The events at `tries_left` could not be applied and are to be tried again before they are parked, those that are
    `waiting` as often as it takes."""

    def __init__(self, tries_left: Sequence[int], waiting: Sequence[ParkedEvent]) -> None:
        self.tries_left = frozenset(tries_left)
        self.waiting = {one.event.position: one.reason for one in waiting}
        self.positions = self.tries_left | self.waiting.keys()
        super().__init__(f"positions {', '.join(map(str, sorted(self.positions)))} cannot be applied yet")


@dataclass(frozen=True, slots=True)
class _Wait:
    """The event at `position` was found waiting at `looked_at`."""

    position: int
    reason: str
    looked_at: float


class Consumer:
    """Follows the log until it is stopped. `fault` says in a sentence why it does not, None while all is well."""

    def __init__(
        self,
        settings: ProjectorSettings,
        open_source: Callable[[], AbstractAsyncContextManager[EventSource]],
        announcer: ChangeAnnouncer,
        metrics: ProjectorMetrics,
    ) -> None:
        self.fault: str | None = _NOT_COMPARED
        self._settings = settings
        self._open_source = open_source
        self._announcer = announcer
        self._metrics = metrics
        self._attempts = Attempts(settings.parking_attempts)
        self._batch_limit = settings.batch_max_events
        self._retry_seconds = _FIRST_RETRY_SECONDS
        self._source: EventSource | None = None
        self._read_server_started: datetime | None = None
        self._looked_at = 0.0
        self._seen: Mapping[int, int] = {}
        """Where the checkpoints were when there was nothing to do."""
        self._waits: _Wait | None = None
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Ends `run` after the transaction under way."""
        self._stopping.set()
        if self._source is not None:
            self._source.wake()

    async def run(self) -> None:
        """Every connection is made anew after a failure, so that the checkpoints are compared with the log again."""
        while not self._stopping.is_set():
            try:
                async with self._open_source() as source, self._opened_read_database() as connection:
                    self._source = source
                    await self._follow(connection, source)
            except _FOR_SOMEBODY_TO_DECIDE as error:
                self._report(str(error))
                await self._pause(self._settings.recheck_interval_seconds)
            except (NoFeedError, NoSchemaError, TopicMissingError) as error:
                self._report(str(error))
                await self._back_off()
            except AwaitsGenerationError as error:
                self._report(str(error))
                await self._back_off()
            except LayoutChangedError:
                _log.info("the events come in another way now; looking again")
                await self._pause(_FIRST_RETRY_SECONDS)
            except CONNECTION_LOST as error:
                self._report(f"a database is away ({type(error).__name__}: {error}); trying again")
                await self._back_off()
            except KafkaError as error:
                self._report(f"Kafka at {self._settings.kafka_bootstrap} is away ({error}); trying again")
                await self._back_off()
            except asyncio.CancelledError:
                if is_told_to_end():
                    raise
                self._report("the connection to Kafka ended itself; trying again")
                await self._back_off()
            except Exception as error:
                if not _passes(error):
                    _log.exception("the events could not be applied")
                self._report(f"the events could not be applied ({type(error).__name__}: {error}); trying again")
                await self._back_off()
            finally:
                self._source = None

    @asynccontextmanager
    async def _opened_read_database(self) -> AsyncIterator[Connection]:
        connection = await connect(self._settings.read_dsn.get_secret_value(), self._settings, vectors=True)
        try:
            self._read_server_started = await read_server_started(connection)
            if not await connection.fetchval(_HAS_SCHEMA):
                raise NoSchemaError
            self._seen = {}
            yield connection
        finally:
            connection.terminate()

    async def _follow(self, connection: Connection, source: EventSource) -> None:
        async def apply(runs: Sequence[Run], layout: Layout) -> Mapping[int, int]:
            return await self._apply(connection, runs, source, layout)

        async def settle(runs: Sequence[Run], layout: Layout) -> Mapping[int, int]:
            positions = await apply(runs, layout)
            if self._waits is not None:
                raise AwaitsGenerationError(self._waits.reason)
            return positions

        source.moved(await settled_positions(connection, source, self._batch_limit, settle))
        if self.fault == _NOT_COMPARED:
            self._well()
        while not self._stopping.is_set():
            runs = await source.read(connection, self._batch_limit)
            self._well()
            if runs:
                source.moved(await apply(runs, source.layout))
            else:
                await self._expect_same_read_model(connection, source.layout)

    async def _expect_same_read_model(self, connection: Connection, layout: Layout) -> None:
        """As long as there is nothing to write, nothing else tells that a server was promoted which may be behind, or
        that the read model was emptied.

        Raises:
            LayoutChangedError, ServerChangedError
            One of `CONNECTION_LOST`
        """
        now = time.monotonic()
        if now - self._looked_at < _LOOK_SECONDS:
            return
        self._looked_at = now
        if await read_server_started(connection) != self._read_server_started:
            raise ServerChangedError
        checkpoints = await read_checkpoints(connection)
        if not checkpoints or checkpoints[0].layout.partition_count == 0:
            raise LayoutChangedError
        positions = {one.partition: one.position for one in checkpoints if one.layout == layout}
        if any(positions.get(partition, at) < at for partition, at in self._seen.items()):
            raise LayoutChangedError  # Another projector was quicker to begin anew.
        self._seen = positions

    async def _apply(
        self, connection: Connection, runs: Sequence[Run], source: EventSource, layout: Layout
    ) -> Mapping[int, int]:
        """The positions of the runs' partitions afterwards; not a run's end if another projector has moved the
        checkpoint, or if an event in between is to be tried again."""
        while True:
            try:
                positions = await self._transact(connection, runs, source, layout, isolate=False)
            except (*POISON, AwaitsGenerationError):
                positions = await self._apply_around(connection, runs, source, layout)
            except asyncpg.LockNotAvailableError:
                await end_frozen_holders(connection)
                if self._stopping.is_set():
                    return {run.partition: run.after for run in runs}
                continue
            except TimeoutError:
                self._batch_limit = max(1, self._batch_limit // 2)
                raise
            self._batch_limit = min(self._settings.batch_max_events, self._batch_limit * 2)
            return positions

    async def _apply_around(
        self, connection: Connection, runs: Sequence[Run], source: EventSource, layout: Layout
    ) -> Mapping[int, int]:
        """Those that are at fault are parked, what cannot be applied yet ends its run."""
        positions = {run.partition: run.after for run in runs}
        before = list(runs)
        while before:
            try:
                positions |= await self._transact(connection, before, source, layout, isolate=True)
                break
            except NotYetError as error:
                self._hold(error, before, source)
                before = [part for run in before if (part := run.before(error.positions)) is not None]
        return positions

    def _hold(self, error: NotYetError, runs: Sequence[Run], source: EventSource) -> None:
        def partitions(positions: Collection[int]) -> list[int]:
            return [run.partition for run in runs if any(event.position in positions for event in run.events)]

        for position in sorted(error.tries_left):
            _log.warning("an event cannot be applied", position=position, tries=self._attempts.of(position))
        again = self._settings.parking_window_seconds / max(1, self._settings.parking_attempts - 1)
        source.hold(partitions(error.tries_left), again)
        source.hold(partitions(error.waiting), _LOOK_SECONDS)
        if error.waiting:
            position, reason = min(error.waiting.items())
            self._waits = _Wait(position, reason, time.monotonic())

    async def _transact(
        self, connection: Connection, runs: Sequence[Run], source: EventSource, layout: Layout, *, isolate: bool
    ) -> Mapping[int, int]:
        with self._metrics.batch_seconds.time():
            # Under READ COMMITTED the statements after the lock see what its last holder committed.
            async with connection.transaction(isolation="read_committed"):
                positions = await lock_checkpoints(
                    connection, [run.partition for run in runs], layout, self._read_server_started
                )
                runs = [new for run in runs if (new := run.beyond(positions[run.partition])) is not None]
                if not runs:
                    return positions
                outcome = await self._project(connection, runs, source, isolate=isolate)
                await park(connection, runs, [*outcome.poison, *outcome.followers], self._attempts)
                await record_changes(connection, runs, outcome.changes)
                await move_checkpoints(connection, runs)
        self._committed(runs, outcome, layout)
        return positions | {run.partition: run.to for run in runs}

    async def _project(
        self, connection: Connection, runs: Sequence[Run], source: EventSource, *, isolate: bool
    ) -> Outcome:
        coming = sorted((event for run in runs for event in run.events), key=lambda event: event.position)
        events = source.log.known_skips.left_out(coming)
        outcome = await self._project_some(connection, events, source, isolate=isolate) if events else Outcome()
        outcome.skipped = {event.position for event in coming} - {event.position for event in events}
        return outcome

    async def _project_some(
        self, connection: Connection, events: Sequence[RecordedEvent], source: EventSource, *, isolate: bool
    ) -> Outcome:
        streams = await read_parked_streams(connection, events)
        if not isolate:
            return await project_whole(connection, events, streams, source.log)
        outcome = await project_isolating(connection, events, streams, source.log)
        tries_left = self._attempts.failed(outcome.poison)
        if tries_left or outcome.waiting:
            raise NotYetError(tries_left, outcome.waiting)
        return outcome

    def _committed(self, runs: Sequence[Run], outcome: Outcome, layout: Layout) -> None:
        for run in runs:
            self._attempts.forget(run.events)
            if self._waits is not None and any(event.position == self._waits.position for event in run.events):
                self._waits = None
        not_applied = {parked.event.position for parked in (*outcome.poison, *outcome.followers)} | outcome.skipped
        applied = [event for run in runs for event in run.events if event.position not in not_applied]
        self._metrics.applied.inc(len(applied))
        self._metrics.skipped.inc(len(outcome.skipped))
        self._announcer.announce(layout.log_id, applied)

    def _well(self) -> None:
        """Unless an event waits that was looked at lately; its partition may be another projector's by now."""
        if self._waits is not None:
            if time.monotonic() - self._waits.looked_at < _WAITS_SECONDS:
                self._report(self._waits.reason)
                return
            self._waits = None
        if self.fault is not None:
            _log.info("following the event log")
        self.fault = None
        self._retry_seconds = _FIRST_RETRY_SECONDS

    def _report(self, fault: str) -> None:
        if fault != self.fault:
            _log.error("stopped applying", reason=fault)
        self.fault = fault

    async def _back_off(self) -> None:
        await self._pause(self._retry_seconds)
        self._retry_seconds = min(self._retry_seconds * 2, _LAST_RETRY_SECONDS)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()


def _passes(error: Exception) -> bool:
    """Whether it is part of normal operation, as another projector or a promotion may cause it."""
    return isinstance(
        error,
        asyncpg.SerializationError
        | asyncpg.DeadlockDetectedError
        | asyncpg.LockNotAvailableError
        | asyncpg.UndefinedTableError,
    )
