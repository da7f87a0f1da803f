"""Pools of asyncpg connections as every process uses them."""

from __future__ import annotations

from typing import TypeAlias

import asyncpg
from pgvector.asyncpg import register_vector

from shared.settings import ProcessSettings

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

CONNECTION_LOST = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    TimeoutError,
)
"""What the driver raises when the server is away, going or not yet back. The statement may be tried again on
another connection; whether a COMMIT that ended so took effect is unknown."""


class SessionlessConnection(asyncpg.Connection):
    """Not reset when it goes back to the pool: RESET ALL costs a round trip, and nothing here sets session state."""

    def get_reset_query(self) -> str:
        return ""


async def create_pool(
    dsn: str,
    settings: ProcessSettings,
    *,
    min_size: int | None = None,
    max_size: int | None = None,
    server_settings: dict[str, str] | None = None,
    vectors: bool = False,
) -> Pool:
    """A pool whose connections carry the application's name and, with `vectors`, pgvector's numpy codecs.

    Raises:
        One of `CONNECTION_LOST`: the server cannot be reached.
    """
    maximum = max_size or settings.pool_max_size
    return await asyncpg.create_pool(
        dsn,
        min_size=min(min_size if min_size is not None else settings.pool_min_size, maximum),
        max_size=maximum,
        command_timeout=settings.command_timeout_seconds,
        timeout=10,
        statement_cache_size=settings.statement_cache_size,
        connection_class=SessionlessConnection,
        init=register_vector if vectors else None,
        server_settings={"application_name": "aindusdb_core", **(server_settings or {})},
    )


async def connect(
    dsn: str, settings: ProcessSettings, *, server_settings: dict[str, str] | None = None, vectors: bool = False
) -> asyncpg.Connection[asyncpg.Record]:
    """One connection outside any pool."""
    connection = await asyncpg.connect(
        dsn,
        timeout=10,
        command_timeout=settings.command_timeout_seconds,
        statement_cache_size=settings.statement_cache_size,
        server_settings={"application_name": "aindusdb_core", **(server_settings or {})},
    )
    if vectors:
        await register_vector(connection)
    return connection
