"""Applies the log to the read model: a batch, one transaction, the checkpoint in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from uuid import UUID

import asyncpg
import structlog

from events_schema.base import RecordedEvent
from projector.announcer import ChangeAnnouncer
from projector.checkpoints import (
    LOCK_TIMEOUT_SECONDS,
    check_log,
    end_frozen_holders,
    lock_checkpoints,
    move_checkpoint,
    verified_checkpoint,
)
from projector.errors import POISON, CheckpointMismatchError
from projector.metrics import ProjectorMetrics
from projector.parking import Attempts, Outcome, park, project_isolating, project_whole, read_parked_streams
from projector.projection import record_changes
from projector.settings import ProjectorSettings
from projector.source import EventSource
from shared.event_log import LogCorruptionError
from shared.postgres import CONNECTION_LOST, Connection, connect

_FIRST_RETRY_SECONDS = 0.1
_LAST_RETRY_SECONDS = 5.0

_SESSION = {"idle_in_transaction_session_timeout": "2s", "lock_timeout": f"{LOCK_TIMEOUT_SECONDS}s"}

_log = structlog.get_logger("projector")


class TriesLeftError(Exception):
    """The event at `position` could not be applied and is to be tried again before it is parked."""

    def __init__(self, position: int) -> None:
        super().__init__(f"position {position} cannot be applied yet")
        self.position = position


class Consumer:
    """Follows the log until it is stopped. `fault` says in a sentence why it does not, None while all is well."""

    def __init__(
        self,
        settings: ProjectorSettings,
        open_source: Callable[[], AbstractAsyncContextManager[EventSource]],
        announcer: ChangeAnnouncer,
        metrics: ProjectorMetrics,
    ) -> None:
        self.fault: str | None = "the checkpoint is not yet compared with the event log"
        self._settings = settings
        self._open_source = open_source
        self._announcer = announcer
        self._metrics = metrics
        self._attempts = Attempts(settings.parking_attempts)
        self._batch_limit = settings.batch_max_events
        self._retry_seconds = _FIRST_RETRY_SECONDS
        self._source: EventSource | None = None
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Ends `run` after the transaction under way."""
        self._stopping.set()
        if self._source is not None:
            self._source.wake()

    async def run(self) -> None:
        """Every connection is made anew after a failure, so that the checkpoint is compared with the log again."""
        while not self._stopping.is_set():
            try:
                async with self._open_source() as source, self._opened_read_database() as connection:
                    self._source = source
                    await self._follow(connection, source)
            except (CheckpointMismatchError, LogCorruptionError) as error:
                self._report(str(error))
                await self._pause(self._settings.recheck_interval_seconds)
            except CONNECTION_LOST as error:
                self._report(f"a database is away ({type(error).__name__}: {error}); trying again")
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
        dsn = self._settings.read_dsn.get_secret_value()
        connection = await connect(dsn, self._settings, server_settings=_SESSION, vectors=True)
        try:
            yield connection
        finally:
            connection.terminate()

    async def _follow(self, connection: Connection, source: EventSource) -> None:
        checkpoint = await verified_checkpoint(connection, source)
        position = checkpoint.position
        self._metrics.watermark.set(position)
        batch = await source.read(position, self._batch_limit)
        while not self._stopping.is_set():
            self._well()
            if not batch:
                await source.wait(self._settings.poll_interval_seconds)
                batch = await source.read(position, self._batch_limit)
                continue
            expected = batch[-1].position
            position, following = await asyncio.gather(
                self._apply(connection, batch, source, checkpoint.log_id), source.read(expected, self._batch_limit)
            )
            batch = following if position == expected else await source.read(position, self._batch_limit)

    async def _apply(
        self, connection: Connection, batch: Sequence[RecordedEvent], source: EventSource, log_id: UUID
    ) -> int:
        """The position of the checkpoint afterwards; not the batch's end if another projector has moved it, or if
        an event in between is to be tried again."""
        try:
            position = await self._transact(connection, batch, source, log_id, isolate=False)
        except POISON:
            position = await self._apply_around_poison(connection, batch, source, log_id)
        except asyncpg.LockNotAvailableError:
            await end_frozen_holders(connection)
            return batch[0].position - 1
        except TimeoutError:
            self._batch_limit = max(1, self._batch_limit // 2)
            raise
        self._batch_limit = min(self._settings.batch_max_events, self._batch_limit * 2)
        return position

    async def _apply_around_poison(
        self, connection: Connection, batch: Sequence[RecordedEvent], source: EventSource, log_id: UUID
    ) -> int:
        first = batch[0].position
        try:
            return await self._transact(connection, batch, source, log_id, isolate=True)
        except TriesLeftError as error:
            _log.warning("an event cannot be applied", position=error.position, tries=self._attempts.of(error.position))
            position = first - 1
            before = batch[: error.position - first]
            if before:
                position = await self._transact(connection, before, source, log_id, isolate=True)
        await self._pause(self._settings.parking_window_seconds / max(1, self._settings.parking_attempts - 1))
        return position

    async def _transact(
        self,
        connection: Connection,
        batch: Sequence[RecordedEvent],
        source: EventSource,
        log_id: UUID,
        *,
        isolate: bool,
    ) -> int:
        with self._metrics.batch_seconds.time():
            # Under READ COMMITTED the statements after the lock see what its last holder committed.
            async with connection.transaction(isolation="read_committed"):
                checkpoint = await lock_checkpoints(connection, source.partition)
                check_log(checkpoint, log_id)
                if checkpoint.position != batch[0].position - 1:
                    return checkpoint.position
                streams = await read_parked_streams(connection, batch)
                if isolate:
                    outcome = await project_isolating(connection, batch, streams, source)
                    retried = self._attempts.failed(outcome.poison)
                    if retried is not None:
                        raise TriesLeftError(retried)
                else:
                    outcome = await project_whole(connection, batch, streams, source)
                await park(connection, source.partition, [*outcome.poison, *outcome.followers], self._attempts)
                await record_changes(connection, source.partition, outcome.changes)
                await move_checkpoint(connection, source.partition, batch[-1])
        self._committed(batch, outcome)
        return batch[-1].position

    def _committed(self, batch: Sequence[RecordedEvent], outcome: Outcome) -> None:
        position = batch[-1].position
        self._attempts.forget(up_to=position)
        self._metrics.applied.inc(len(batch) - len(outcome.poison) - len(outcome.followers))
        self._metrics.watermark.set(position)
        self._announcer.announce(outcome.changes, position)

    def _well(self) -> None:
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
