"""Being woken by appends: LISTEN on a connection of its own, which must lead straight to the server.

Behind a pooler nothing would be heard, and the LISTEN would stay on a session that is others' too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import structlog

from shared.event_log import APPEND_CHANNEL
from shared.postgres import CONNECTION_LOST, connect, is_pooled
from shared.settings import ProcessSettings

_RELISTEN_SECONDS = 1.0

_log = structlog.get_logger("appends")


@asynccontextmanager
async def woken_by_appends(dsn: str, settings: ProcessSettings) -> AsyncIterator[asyncio.Event]:
    """An event that is set whenever the head of the log may have moved. A hint: whoever waits for it polls besides.

    `dsn` names the server itself; where a pooler answers instead, nothing is listened to. A slow read delays no
    wake-up, and the loss of this connection harms only itself; it is made anew.
    """
    woken = asyncio.Event()
    listening = asyncio.create_task(_listen_forever(dsn, settings, woken), name="listener")
    try:
        yield woken
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def _listen_forever(dsn: str, settings: ProcessSettings, woken: asyncio.Event) -> None:
    while True:
        connection: asyncpg.Connection[asyncpg.Record] | None = None
        try:
            connection = await connect(dsn, settings)
            if await is_pooled(connection):
                _log.warning(
                    "appends wake nobody, the log is polled: a pooler answers where the event database should; "
                    "name the database itself in AINDUSDB_EVENTS_LISTEN_DSN"
                )
                return
            lost = asyncio.Event()
            connection.add_termination_listener(lambda _connection, lost=lost: lost.set())
            await connection.add_listener(APPEND_CHANNEL, lambda *_notification: woken.set())
            woken.set()  # what was appended before the LISTEN
            await lost.wait()
        except CONNECTION_LOST as error:
            _log.warning("appends wake nobody for now; the log is polled", error=repr(error))
        finally:
            if connection is not None:
                connection.terminate()
        await asyncio.sleep(_RELISTEN_SECONDS)
