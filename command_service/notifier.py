"""Says that the head of the log has moved: NOTIFY, coalesced and outside the append, which it would slow.

A hint only. Who misses it finds the events by polling.
"""

from __future__ import annotations

import asyncio

import asyncpg
import structlog

from command_service.settings import CommandSettings
from shared.event_log import APPEND_CHANNEL
from shared.postgres import CONNECTION_LOST, connect

_MIN_INTERVAL_SECONDS = 0.003
_RETRY_SECONDS = 1.0

_log = structlog.get_logger("notifier")


class AppendNotifier:
    def __init__(self, settings: CommandSettings) -> None:
        self._settings = settings
        self._position = 0
        self._moved = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def appended(self, position: int) -> None:
        """The head is at least here. Returns at once."""
        self._position = max(self._position, position)
        self._moved.set()

    async def start(self) -> None:
        self._task = asyncio.create_task(self._notify_forever(), name="notifier")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _notify_forever(self) -> None:
        while True:
            connection: asyncpg.Connection[asyncpg.Record] | None = None
            try:
                connection = await connect(self._settings.events_dsn.get_secret_value(), self._settings)
                while True:
                    await self._moved.wait()
                    self._moved.clear()
                    await connection.execute("SELECT pg_notify($1, $2)", APPEND_CHANNEL, str(self._position))
                    await asyncio.sleep(_MIN_INTERVAL_SECONDS)
            except CONNECTION_LOST as error:
                _log.warning("appends are not announced for now", error=repr(error))
                self._moved.set()  # what was to be announced still is
                await asyncio.sleep(_RETRY_SECONDS)
            finally:
                if connection is not None:
                    connection.terminate()
