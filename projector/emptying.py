"""The read model emptied, so that the projector builds it anew from the first event of the log on.

A collection's tables are named as those were that are dropped here, so the projector must not make any before the last
one is gone. It refuses the checkpoint that stands here meanwhile, also when the emptying was interrupted.
"""

from __future__ import annotations

from uuid import UUID

import asyncpg

from projector.checkpoints import LOCK_LAYOUT
from shared.postgres import Connection
from shared.read_model.tables import PROJECTION

_DROP_TRIES = 10

_FORGET = """
DELETE FROM collection_state; DELETE FROM collection_changes; DELETE FROM generations; DELETE FROM aliases;
DELETE FROM collections; DELETE FROM parked_events; DELETE FROM projection_checkpoints; DELETE FROM retired_tables
"""

# Readers that carry a token wait, as they do where nothing is projected yet.
_HOLD = """
INSERT INTO projection_checkpoints (projection, partition, position, log_id, partition_count) VALUES ($1, 0, 0, $2, 0)
"""

_TABLES = """
SELECT relname FROM pg_class
WHERE relkind IN ('r', 'p') AND NOT relispartition AND relnamespace = 'public'::regnamespace
  AND relname ~ '^(records|embeddings)_[0-9a-f]{32}_g[0-9]+$'
ORDER BY relname
"""

_GIVE_UP_SOON = "SET LOCAL lock_timeout = '2s'"

_RELEASE = "DELETE FROM projection_checkpoints WHERE projection = $1 AND partition_count = 0"


async def empty_read_model(connection: Connection, log_id: UUID) -> int:
    """Drops every collection's tables, and says how many there were. `log_id` is that of the log to come.

    Raises:
        asyncpg.LockNotAvailableError: queries hold on to a table; what is left to do is done by the next call.
    """
    async with connection.transaction():
        await connection.execute(LOCK_LAYOUT)
        await connection.execute(_FORGET)
        await connection.execute(_HOLD, PROJECTION, log_id)
    tables = [row["relname"] for row in await connection.fetch(_TABLES)]
    for table in tables:
        await _drop(connection, table)
    await connection.execute(_RELEASE, PROJECTION)
    return len(tables)


async def _drop(connection: Connection, table: str) -> None:
    for tries_left in reversed(range(_DROP_TRIES)):
        try:
            async with connection.transaction():
                await connection.execute(_GIVE_UP_SOON)
                await connection.execute(f"DROP TABLE IF EXISTS {table}")
        except asyncpg.LockNotAvailableError:
            if not tries_left:
                raise
        else:
            return
