"""What a client of the pooler leaves on a session of the server, for the next one to find."""

from __future__ import annotations

from contextlib import AsyncExitStack

import asyncpg

from tests.pooler.pooling import POOL_SIZE

# The pooler itself keeps track of a client's application_name.
_LEFTOVERS = """
SELECT 'setting ' || name || ' = ' || setting FROM pg_settings
WHERE source = 'session' AND setting IS DISTINCT FROM reset_val AND name <> 'application_name'
UNION ALL SELECT 'statement ' || name FROM pg_prepared_statements
UNION ALL SELECT 'channel ' || channel FROM pg_listening_channels() AS channel
UNION ALL SELECT 'cursor ' || name FROM pg_cursors WHERE name <> ''
UNION ALL SELECT 'advisory lock ' || objid FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()
UNION ALL SELECT 'temporary table ' || relname FROM pg_class WHERE relnamespace = pg_my_temp_schema()
"""


async def leftovers(dsn: str) -> list[str]:
    """Looked for on every connection that the pooler has to the server, by holding all of them at once."""
    async with AsyncExitStack() as stack:
        found: dict[int, list[str]] = {}
        for _ in range(POOL_SIZE):
            connection = await asyncpg.connect(dsn, statement_cache_size=0)
            stack.push_async_callback(connection.close)
            await connection.execute("BEGIN")
            server_pid = await connection.fetchval("SELECT pg_backend_pid()")
            found[server_pid] = [row[0] for row in await connection.fetch(_LEFTOVERS)]
        assert len(found) == POOL_SIZE
        return [leftover for of_connection in found.values() for leftover in of_connection]
