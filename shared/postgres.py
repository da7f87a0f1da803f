"""asyncpg connections as every process uses them, directly or through a pooler in transaction mode.

Each transaction may run on another session of the server, so nothing is set on a session, and none is relied on to be
the one before. A pooler also keeps its clients' connections when the server behind it is another one than before.
"""

from __future__ import annotations

from datetime import datetime
from secrets import token_hex
from typing import Any, TypeAlias, cast

import asyncpg
from pgvector.asyncpg import register_vector

from shared.hosts import connect_to_host
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

_SESSION = {"application_name": "aindusdb_core"}
"""All that a connection brings along: poolers know it, and no statement's meaning depends on it."""

SERVER_STARTED = "pg_postmaster_start_time()"
"""SQL that tells one server from another, and from itself before a restart."""


class ServerChangedError(ConnectionError):
    """Another server answers than the one that was looked at before, as a broken connection would have shown."""

    def __init__(self) -> None:
        super().__init__("another server answers behind this address than before, or it was restarted")


class StandbyAnswersError(ConnectionError):
    """A standby answers where writes are to go; it may not have all yet that was committed, or was never promoted."""

    def __init__(self) -> None:
        super().__init__("a standby answers behind this address, and not the primary")


class PooledAddressError(Exception):
    """A pooler answers where work is to be done that needs a session of the server."""

    def __init__(self, variable: str) -> None:
        super().__init__(f"a pooler answers at this address; name the database itself in {variable}")


class SessionlessConnection(asyncpg.Connection):
    """Not reset when it goes back to the pool: RESET ALL costs a round trip, and nothing here sets session state."""

    def get_reset_query(self) -> str:
        return ""

    # The driver numbers what it names anew in each process. Behind a pooler whose operator forgot to switch prepared
    # statements off, a process would run what another one has prepared under the same number. So it fails instead.
    def _get_unique_id(self, prefix: str) -> str:
        return f"__aindusdb_{prefix}_{token_hex(8)}__"


async def create_pool(
    dsn: str,
    settings: ProcessSettings,
    *,
    max_size: int | None = None,
    vectors: bool = False,
) -> Pool:
    """A pool whose connections carry the application's name and, with `vectors`, pgvector's numpy codecs. It begins
    empty, so that a process starts without its databases."""
    pool: Pool = await asyncpg.create_pool(
        dsn,
        connect=cast("Any", connect_to_host),
        min_size=0,
        max_size=max_size or settings.pool_max_size,
        command_timeout=settings.command_timeout_seconds,
        timeout=10,
        statement_cache_size=settings.statement_cache_size,
        connection_class=SessionlessConnection,
        init=register_vector if vectors else None,
        server_settings=_SESSION,
    )
    return pool


async def connect(dsn: str, settings: ProcessSettings, *, vectors: bool = False) -> asyncpg.Connection[asyncpg.Record]:
    """One connection outside any pool."""
    connection: asyncpg.Connection[asyncpg.Record] = await connect_to_host(
        dsn,
        timeout=10,
        command_timeout=settings.command_timeout_seconds,
        statement_cache_size=settings.statement_cache_size,
        connection_class=SessionlessConnection,
        server_settings=_SESSION,
    )
    if vectors:
        await register_vector(connection)
    return connection


async def connect_uncached(
    dsn: str, *, timeout_seconds: float = 10, command_timeout_seconds: float | None = 60
) -> asyncpg.Connection[asyncpg.Record]:
    """For commands that ask little: without prepared statements, so that they need not be told of a pooler."""
    connection: asyncpg.Connection[asyncpg.Record] = await connect_to_host(
        dsn,
        timeout=timeout_seconds,
        command_timeout=command_timeout_seconds,
        statement_cache_size=0,
        server_settings=_SESSION,
    )
    return connection


async def is_pooled(connection: asyncpg.Connection[asyncpg.Record]) -> bool:
    """Whether a pooler stands between: it gives its clients process ids of its own making."""
    return bool(connection.get_server_pid() != await connection.fetchval("SELECT pg_backend_pid()"))


async def read_server_started(connection: Connection) -> datetime:
    started: datetime = await connection.fetchval(f"SELECT {SERVER_STARTED}")
    return started
