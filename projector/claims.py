"""Who works on a collection's tables: whoever holds its lock.

The lock is the session's that does the work, so it lasts as long as the work does, whatever becomes of the process that
asked for it, and no longer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg

from projector.settings import ProjectorSettings
from shared.postgres import PooledAddressError, connect, is_pooled

# A server's work ends with its client, also when the client's host has vanished.
_OPEN = """
SELECT set_config('client_connection_check_interval', '5s', false), set_config('tcp_keepalives_idle', '10', false),
       set_config('tcp_keepalives_interval', '5', false), set_config('tcp_keepalives_count', '3', false)
"""

_TRY_LOCK = "SELECT pg_try_advisory_lock(7120031, hashtext($1))"


@asynccontextmanager
async def claimed(
    collection_id: UUID, settings: ProjectorSettings
) -> AsyncIterator[asyncpg.Connection[asyncpg.Record] | None]:
    """A session to the read database that has the collection to itself until the end; None if another has it.

    Raises:
        PooledAddressError: what answers is a pooler, which gives no session of one's own.
        One of `CONNECTION_LOST`
    """
    connection = await connect(settings.read_direct_address(), settings, vectors=True)
    try:
        if await is_pooled(connection):
            raise PooledAddressError("AINDUSDB_READ_DIRECT_DSN")
        await connection.execute(_OPEN)
        yield connection if await connection.fetchval(_TRY_LOCK, str(collection_id)) else None
    finally:
        connection.terminate()
