"""Brings the tables of collections to what they are to be, beside the projection: for now, makes the indexes that need
rows to begin with.

Any number of projectors may do this. Whoever holds a collection's advisory lock works on it; the lock is the session's
that does the work, so it lasts as long as the work does, whatever becomes of the process that asked for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg
import structlog

from projector.errors import GenerationGoneError, LayoutChangedError
from projector.generations import COLUMNS, Generation, generation_of
from projector.indexing import index_in_place
from projector.settings import ProjectorSettings
from shared.postgres import CONNECTION_LOST, Connection, Pool, PooledAddressError, connect, is_pooled

# A server's work ends with its client, and a host that vanished is noticed.
_BOUND_SESSION = """
SET client_connection_check_interval = '5s'; SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5;
SET tcp_keepalives_count = 3
"""

_LOCK_CLASS = 7_120_031

_TRY_LOCK = "SELECT pg_try_advisory_lock($1, hashtext($2::text))"

_UNINDEXED = f"""
SELECT g.collection_id, {COLUMNS} FROM generations g
WHERE g.state = 'active' AND NOT g.indexed AND g.index ->> 'kind' = 'ivfflat'
  AND ($1::uuid IS NULL OR g.collection_id = $1)
"""  # noqa: S608

_COUNT_UP_TO = "SELECT count(*) FROM (SELECT FROM {embeddings} LIMIT $1) AS counted"

_RETRY_SECONDS = 60.0

_log = structlog.get_logger("upkeep")


class Upkeep:
    def __init__(self, settings: ProjectorSettings) -> None:
        self._settings = settings
        self._not_before: dict[UUID, float] = {}

    async def run(self, read: Pool) -> None:
        """Until it is cancelled. What fails is tried again after a while."""
        while True:
            await asyncio.sleep(self._settings.upkeep_interval_seconds)
            try:
                async with read.acquire() as connection:
                    due = await self._due(connection)
                for generation in due:
                    await self._work_on(generation.collection_id)
            except (*CONNECTION_LOST, asyncpg.PostgresError, LayoutChangedError) as error:
                _log.warning("collections stay as they are for now", error=repr(error))
            except Exception:
                _log.exception("collections stay as they are for now")

    async def _due(self, connection: Connection, collection_id: UUID | None = None) -> list[Generation]:
        """Those that have enough rows for the index that they lack."""
        now = asyncio.get_running_loop().time()
        unindexed = [
            generation_of(row["collection_id"], row) for row in await connection.fetch(_UNINDEXED, collection_id)
        ]
        wanted = self._settings.ivfflat_min_rows
        return [
            generation
            for generation in unindexed
            if self._not_before.get(generation.collection_id, 0.0) <= now
            and await connection.fetchval(_COUNT_UP_TO.format(embeddings=generation.embeddings), wanted) >= wanted
        ]

    async def _work_on(self, collection_id: UUID) -> None:
        try:
            async with self._claimed(collection_id) as connection:
                if connection is None:
                    return
                # Another process may have done it since it was found due.
                for generation in await self._due(connection, collection_id):
                    await index_in_place(connection, generation, self._settings)
        except (GenerationGoneError, asyncpg.UndefinedTableError):
            _log.info("the collection was deleted meanwhile", collection_id=str(collection_id))
        except (asyncpg.PostgresError, TimeoutError, PooledAddressError) as error:
            _log.error("a collection cannot be indexed; searches stay exact", collection_id=str(collection_id),
                       error=repr(error))  # fmt: skip
            self._not_before[collection_id] = asyncio.get_running_loop().time() + _RETRY_SECONDS

    @asynccontextmanager
    async def _claimed(self, collection_id: UUID) -> AsyncIterator[Connection | None]:
        """A session that has the collection to itself; None if another has it."""
        connection = await connect(self._settings.read_direct_address(), self._settings, vectors=True)
        try:
            if await is_pooled(connection):
                raise PooledAddressError("AINDUSDB_READ_DIRECT_DSN")
            await connection.execute(_BOUND_SESSION)
            yield connection if await connection.fetchval(_TRY_LOCK, _LOCK_CLASS, str(collection_id)) else None
        finally:
            connection.terminate()
