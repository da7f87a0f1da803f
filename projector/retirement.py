"""Drops the tables of deleted collections once nobody uses them.

A DROP waits for running queries and makes all later ones wait behind it, so it gives up at once and comes back.
"""

from __future__ import annotations

import asyncio

import asyncpg
import structlog

from projector.settings import ProjectorSettings
from shared.postgres import CONNECTION_LOST, Connection, Pool

_DUE = """
SELECT table_name FROM retired_tables WHERE retired_at <= clock_timestamp() - make_interval(secs => $1)
ORDER BY retired_at, table_name
"""

_GIVE_UP_SOON = "SET LOCAL lock_timeout = '50ms'"

_FORGET = "DELETE FROM retired_tables WHERE table_name = $1"

_log = structlog.get_logger("retirement")


async def drop_retired_tables(connection: Connection, grace_seconds: float) -> list[str]:
    """The tables that are gone now. Those still in use stay for the next time."""
    dropped: list[str] = []
    for row in await connection.fetch(_DUE, grace_seconds):
        table: str = row["table_name"]
        try:
            async with connection.transaction():
                await connection.execute(_GIVE_UP_SOON)
                await connection.execute(f"DROP TABLE IF EXISTS {table}")
                await connection.execute(_FORGET, table)
        except asyncpg.LockNotAvailableError:
            continue
        dropped.append(table)
    return dropped


async def retire_forever(settings: ProjectorSettings, read: Pool) -> None:
    while True:
        await asyncio.sleep(settings.retirement_interval_seconds)
        try:
            async with read.acquire() as connection:
                dropped = await drop_retired_tables(connection, settings.retirement_grace_seconds)
            if dropped:
                _log.info("dropped retired tables", tables=dropped)
        except (*CONNECTION_LOST, asyncpg.PostgresError) as error:
            _log.warning("retired tables stay for now", error=repr(error))
