"""`CommandBus.execute(command)`: queue, group commit, answer.

One writer task drains the queue into one transaction at a time. A refusal answers its own caller and nobody
else's; an unexpected database error makes the commands of the transaction be tried one by one; a connection
that dies during COMMIT leaves an open question, which is settled under the append lock before anyone is answered.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta

import asyncpg
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from command_service import event_store
from command_service.append_lock import LOCK_TIMEOUT_SECONDS, begin_locked
from command_service.command_queue import CommandQueue, OverloadedError, Pending
from command_service.domain.commands import Command
from command_service.domain.refusals import RefusalError
from command_service.notifier import AppendNotifier
from command_service.outcomes import Outcome
from command_service.settings import CommandSettings
from command_service.standbys import StandbyAwayError, confirm
from command_service.stream_states import StreamStates
from command_service.transaction import Decided, decide_all, event_ids
from shared.postgres import CONNECTION_LOST, connect

_RECONNECT_DELAYS = (0.0, 0.05, 0.1, 0.2, 0.5)
_HOUSEKEEPING_SECONDS = 3600.0

_NOT_APPENDED = "the command could not be appended; nothing was written, and the service's log has the reason"

_CANNOT_WRITE = (asyncpg.InsufficientResourcesError, asyncpg.ReadOnlySQLTransactionError)
"""A full disk or memory, a standby in the primary's place: no command is at fault, and each alone would fail too."""

_log = structlog.get_logger("command_bus")


class EventDatabaseUnavailableError(Exception):
    """The event database cannot be reached, or takes no writes. Nothing was written."""


class AppendFailedError(Exception):
    """The event database refused an append for a reason that no rule foresees. Nothing was written."""


PASSES = (
    *CONNECTION_LOST,
    asyncpg.PostgresError,
    RefusalError,
    OverloadedError,
    EventDatabaseUnavailableError,
    AppendFailedError,
)
"""What whoever appends in the background may meet, and tries again after."""


class CommandBus:
    def __init__(self, settings: CommandSettings, notifier: AppendNotifier, registry: CollectorRegistry) -> None:
        self._settings = settings
        self._notifier = notifier
        self.states = StreamStates()
        self._queue = CommandQueue(
            max_commands=settings.max_waiting_commands,
            max_bytes=settings.max_waiting_bytes,
            batch_events=settings.transaction_max_events,
            batch_bytes=settings.transaction_max_bytes,
        )
        self.retention = timedelta(hours=settings.idempotency_retention_hours)
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._idle = asyncio.Event()
        self._idle.set()
        self._appended = Counter("aindusdb_events_appended_total", "Events appended to the log.", registry=registry)
        self._refused = Counter("aindusdb_commands_refused_total", "Commands that broke a rule.", registry=registry)
        self._unsettled = Counter(
            "aindusdb_commits_settled_total", "Commits whose outcome had to be looked up.", registry=registry
        )
        self._seconds = Histogram(
            "aindusdb_append_duration_seconds",
            "One group commit, from taking the lock to the end of COMMIT.",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=registry,
        )
        self._position = Gauge("aindusdb_log_position", "Position of this process's last append.", registry=registry)
        waiting = Gauge("aindusdb_commands_waiting", "Commands that wait for the writer.", registry=registry)
        waiting.set_function(lambda: len(self._queue))

    async def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._write_forever(), name="writer"),
            asyncio.create_task(self._keep_house(), name="housekeeping"),
        ]

    async def stop(self) -> None:
        """Writes what waits, as far as the drain timeout allows, then closes."""
        try:
            async with asyncio.timeout(self._settings.drain_timeout_seconds):
                await self._idle.wait()
        except TimeoutError:
            _log.warning("commands still waiting at the end of draining were not written", waiting=len(self._queue))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._connection is not None:
            self._connection.terminate()

    async def execute(self, command: Command) -> Outcome:
        """The command's outcome once it is committed.

        A caller that goes away does not take its command back.

        Raises:
            RefusalError: a rule of the domain is broken; nothing was written.
            OverloadedError: too much waits already; nothing was written.
            EventDatabaseUnavailableError, AppendFailedError: nothing was written.
        """
        pending = Pending(command)
        self._queue.put(pending)
        self._idle.clear()
        return await asyncio.shield(pending.answer)

    async def _write_forever(self) -> None:
        while True:
            taken = await self._queue.take()
            started = time.monotonic()
            try:
                await self._write(taken)
            except Exception:
                _log.exception("the writer failed; its transaction's commands are refused", commands=len(taken))
                self._drop_connection()
                for one in taken:
                    _answer(one, AppendFailedError(_NOT_APPENDED))
            if taken[0].is_bulk:
                # Bulk takes half of the writer's time at most while single commands come.
                self._queue.rest_bulk(time.monotonic() - started)
            if not len(self._queue):
                self._idle.set()

    async def _write(self, pending: Sequence[Pending]) -> None:
        """Answers every one of the pending commands."""
        try:
            answers = await self._commit(pending)
        except EventDatabaseUnavailableError as error:
            _log.error("nothing can be written", exc_info=error)
            for one in pending:
                _answer(one, error)
        except Exception as error:
            if len(pending) > 1:
                _log.warning("a transaction failed; its commands are tried one by one", error=repr(error))
                for one in pending:
                    await self._write([one])
            else:
                request_id = pending[0].command.context.metadata.request_id
                _log.error("a command could not be appended", request_id=request_id, exc_info=error)
                _answer(pending[0], AppendFailedError(_NOT_APPENDED))
        else:
            for one, answer in zip(pending, answers, strict=True):
                _answer(one, answer)

    async def _commit(self, pending: Sequence[Pending]) -> Sequence[Outcome | Exception]:
        """One transaction for all of them, tried again as long as it is known not to have been committed.

        Raises:
            EventDatabaseUnavailableError: no connection within the time allowed; nothing was written.
            Whatever else keeps these commands from being appended; nothing was written.
        """
        lost: Exception | None = None
        for delay in _RECONNECT_DELAYS:
            connection = await self._connected()
            committing: Decided | None = None
            try:
                with self._seconds.time():
                    await begin_locked(connection)
                    decided = await decide_all(connection, pending, self.states, self.retention)
                    if decided.events:
                        await event_store.append(connection, decided.events)
                    if decided.keys:
                        await event_store.store_keys(connection, decided.keys, self.retention)
                    committing = decided
                    await connection.execute("COMMIT", timeout=self._settings.commit_timeout_seconds)
            except ValueError:
                # The driver could not encode a value. It calls that an InterfaceError too, but nothing is lost.
                self._drop_connection()
                raise
            except CONNECTION_LOST as error:
                lost = error
                self._drop_connection()
                _log.warning("the connection was lost", during_commit=committing is not None, error=repr(error))
                if committing is None or not await self._was_committed(committing):
                    await asyncio.sleep(delay)
                    continue
            except _CANNOT_WRITE as error:
                self._drop_connection()
                raise EventDatabaseUnavailableError(
                    f"the event database takes no writes at the moment ({type(error).__name__}); nothing was written"
                ) from error
            except BaseException:
                # Ends the transaction on the server too, whatever state it was in.
                self._drop_connection()
                raise
            assert committing is not None
            self._committed(committing)
            return committing.answers
        raise EventDatabaseUnavailableError(
            f"the connection to the event database was lost repeatedly ({lost}); nothing was written"
        )

    def _committed(self, decided: Decided) -> None:
        self.states.remember_collections(decided.collections)
        self._refused.inc(sum(isinstance(answer, RefusalError) for answer in decided.answers))
        if decided.events:
            self.states.see_appended(decided.events[-1].position)
            self._appended.inc(len(decided.events))
            self._position.set(decided.events[-1].position)
            self._notifier.appended(decided.events[-1].position)

    async def _was_committed(self, decided: Decided) -> bool:
        """What became of a COMMIT that was sent but not answered.

        The lock is the proof: it is free only when the lost transaction has ended, one way or the other. The
        callers wait as long as it takes; each request's own time limit ends its waiting, not the search.
        """
        if not decided.events:
            return False
        self._unsettled.inc()
        while True:
            try:
                connection = await self._connected()
                await begin_locked(connection)
                committed = await event_store.any_appended(connection, event_ids(decided.events[:1]))
                await connection.execute("ROLLBACK", timeout=LOCK_TIMEOUT_SECONDS)
            except (EventDatabaseUnavailableError, *CONNECTION_LOST) as error:
                self._drop_connection()
                if isinstance(error, EventDatabaseUnavailableError):
                    # Whatever became of the commit, nothing became yet of what waits behind it.
                    for one in self._queue.take_all():
                        _answer(one, error)
                _log.warning("an open commit cannot be looked up yet", error=repr(error))
                await asyncio.sleep(_RECONNECT_DELAYS[-1])
            else:
                _log.info("settled a commit whose outcome was unknown", committed=committed)
                return bool(committed)

    async def _connected(self) -> asyncpg.Connection[asyncpg.Record]:
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        reason = "the event database cannot be reached"
        try:
            async with asyncio.timeout(self._settings.reconnect_timeout_seconds):
                while True:
                    try:
                        return await self._connect()
                    except StandbyAwayError as error:
                        reason = str(error)
                    except CONNECTION_LOST as error:
                        reason = "the event database cannot be reached"
                        _log.warning(reason, error=repr(error))
                    await asyncio.sleep(_RECONNECT_DELAYS[-1])
        except TimeoutError as error:
            raise EventDatabaseUnavailableError(f"{reason}; nothing was written") from error

    async def _connect(self) -> asyncpg.Connection[asyncpg.Record]:
        """A primary that was restarted shows what its synchronous standby never confirmed. Nobody is to be told that
        it was written before the standby has it, or it could be lost with the primary.

        Raises:
            StandbyAwayError
            One of `CONNECTION_LOST`
        """
        connection = await connect(self._settings.events_dsn.get_secret_value(), self._settings)
        try:
            await confirm(connection)
        except BaseException:
            connection.terminate()
            raise
        self._connection = connection
        return connection

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _keep_house(self) -> None:
        """Forgets idempotency keys past their time, on a connection of its own."""
        while True:
            await asyncio.sleep(_HOUSEKEEPING_SECONDS)
            try:
                connection = await connect(self._settings.events_dsn.get_secret_value(), self._settings)
                try:
                    removed = 1
                    while removed:
                        removed = await event_store.forget_old_keys(connection, self.retention)
                finally:
                    await connection.close()
            except CONNECTION_LOST as error:
                _log.warning("old idempotency keys could not be removed; tried again in an hour", error=repr(error))


def _answer(pending: Pending, answer: Outcome | Exception) -> None:
    if pending.answer.done():
        return
    if isinstance(answer, Exception):
        pending.answer.set_exception(answer)
        # A caller that went away does not fetch its refusal; that is no fault.
        pending.answer.exception()
    else:
        pending.answer.set_result(answer)
