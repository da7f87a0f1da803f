"""Where the projector's events come from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Protocol
from uuid import UUID

import asyncpg
import structlog

from events_schema.base import RecordedEvent
from projector.settings import ProjectorSettings
from shared.event_log import (
    APPEND_CHANNEL,
    Head,
    read_collection_stream,
    read_event_id,
    read_events,
    read_head,
    read_log_id,
)
from shared.postgres import CONNECTION_LOST, connect

_RELISTEN_SECONDS = 1.0

_log = structlog.get_logger("source")


class EventSource(Protocol):
    """Ordered events of one partition, and what else a consumer must know of their log."""

    partition: int
    partition_count: int

    async def read(self, after: int, limit: int) -> list[RecordedEvent]:
        """The partition's next events after a position, in order; empty when there are none yet."""

    async def wait(self, seconds: float) -> None:
        """Returns when there may be something new, at the latest after this time."""

    def wake(self) -> None:
        """Ends a wait."""

    async def log_id(self) -> UUID: ...

    async def head(self) -> Head: ...

    async def event_id_at(self, position: int) -> UUID | None: ...

    async def collection_stream(self, collection_id: UUID) -> list[RecordedEvent]: ...


class EventLogSource:
    """The event log itself, as one partition. Appends wake it, and it polls besides: a NOTIFY may get lost."""

    partition = 0
    partition_count = 1

    def __init__(
        self, connection: asyncpg.Connection[asyncpg.Record], woken: asyncio.Event, settings: ProjectorSettings
    ) -> None:
        self._connection = connection
        self._woken = woken
        self._settings = settings
        # The next batch is read while the current one, which may need a collection's stream, is written.
        self._turn = asyncio.Lock()

    async def read(self, after: int, limit: int) -> list[RecordedEvent]:
        async with self._turn:
            return await read_events(self._connection, after, limit=limit, max_bytes=self._settings.batch_max_bytes)

    async def wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        self._woken.clear()

    def wake(self) -> None:
        self._woken.set()

    async def log_id(self) -> UUID:
        async with self._turn:
            return await read_log_id(self._connection)

    async def head(self) -> Head:
        async with self._turn:
            return await read_head(self._connection)

    async def event_id_at(self, position: int) -> UUID | None:
        async with self._turn:
            return await read_event_id(self._connection, position)

    async def collection_stream(self, collection_id: UUID) -> list[RecordedEvent]:
        async with self._turn:
            return await read_collection_stream(self._connection, collection_id)


@asynccontextmanager
async def open_event_log(settings: ProjectorSettings) -> AsyncIterator[EventSource]:
    """
    Raises:
        One of `CONNECTION_LOST`: the event database cannot be reached.
    """
    woken = asyncio.Event()
    connection = await connect(settings.events_dsn.get_secret_value(), settings)
    listening = asyncio.create_task(_listen_forever(settings, woken), name="listener")
    try:
        yield EventLogSource(connection, woken, settings)
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        connection.terminate()


async def _listen_forever(settings: ProjectorSettings, woken: asyncio.Event) -> None:
    """Over a connection of its own, so that a slow read delays no wake-up and the loss of either harms only it."""
    while True:
        connection: asyncpg.Connection[asyncpg.Record] | None = None
        try:
            connection = await connect(settings.events_dsn.get_secret_value(), settings)
            lost = asyncio.Event()
            connection.add_termination_listener(lambda _connection, lost=lost: lost.set())
            await connection.add_listener(APPEND_CHANNEL, lambda *_notification: woken.set())
            woken.set()  # what was appended before the LISTEN
            await lost.wait()
        except CONNECTION_LOST as error:
            _log.warning("appends do not wake the projector for now; it polls", error=repr(error))
        finally:
            if connection is not None:
                connection.terminate()
        await asyncio.sleep(_RELISTEN_SECONDS)
