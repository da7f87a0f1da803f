"""Which vectors a filter matches, and in which versions: asked of the read database, which the commands' preconditions
then hold against the log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

import asyncpg

from shared.freshness import Demand
from shared.postgres import CONNECTION_LOST, Connection, Pool
from shared.read_model.conditions import Filter
from shared.read_model.expiry import Expiry
from shared.read_model.filter_sql import filter_sql
from shared.read_model.index_states import read_ready
from shared.read_model.snapshot import CHECKPOINTS, Reading, snapshot_of
from shared.read_model.tables import records_table

_PAUSE_SECONDS = 0.02
_MAX_CHANGES = 5

_COLLECTION = """
SELECT s.generation, c.retention_seconds FROM collection_state s JOIN collections c USING (collection_id)
WHERE collection_id = $1
"""

_NOTHING = f"SELECT low, high, log_id, NULL AS id, 0 AS count FROM ({CHECKPOINTS}) c"  # noqa: S608

_PAGE = """
WITH checkpoints AS ({checkpoints})
SELECT c.low, c.high, c.log_id, v.* FROM checkpoints c LEFT JOIN LATERAL (
    SELECT r.id, r.version, octet_length(r.metadata::text) AS metadata_bytes
    FROM {records} r WHERE r.id > $1 AND {unexpired} AND ({condition}) ORDER BY r.id LIMIT $2
) v ON true
ORDER BY v.id
"""

_COUNT = """
WITH checkpoints AS ({checkpoints})
SELECT c.low, c.high, c.log_id,
       (SELECT count(*) FROM (SELECT FROM {records} r WHERE {unexpired} AND ({condition}) LIMIT $1) m) AS count
FROM checkpoints c
"""

FoundT = TypeVar("FoundT")


class ReadDatabaseUnavailableError(Exception):
    """The read database is away, or none is configured."""


@dataclass(frozen=True, slots=True)
class Match:
    """`metadata_bytes`: the size of its metadata as JSON."""

    id: str
    version: int
    metadata_bytes: int


class Matching:
    """`pool` is None where no read database is configured."""

    def __init__(self, pool: Pool | None) -> None:
        self._pool = pool

    async def page(
        self, collection_id: UUID, wanted: Filter, after: str, limit: int, demand: Demand
    ) -> Sequence[Match]:
        """The first of those that match and whose ids are beyond `after`, in order of id by code point.

        Raises:
            ForeignTokenError, NotFreshEnoughError, ReadDatabaseUnavailableError
        """
        rows = await self._read(_PAGE, collection_id, wanted, (after, limit), demand)
        return [Match(row["id"], row["version"], row["metadata_bytes"]) for row in rows if row["id"] is not None]

    async def count(self, collection_id: UUID, wanted: Filter, up_to: int, demand: Demand) -> int:
        """How many match, counted no further than `up_to`.

        Raises:
            As `page`.
        """
        rows = await self._read(_COUNT, collection_id, wanted, (up_to,), demand)
        count: int = rows[0]["count"]
        return count

    async def _read(
        self, template: str, collection_id: UUID, wanted: Filter, values: tuple[Any, ...], demand: Demand
    ) -> Sequence[asyncpg.Record]:
        async def read(connection: Connection) -> Reading[Sequence[asyncpg.Record]]:
            collection = await connection.fetchrow(_COLLECTION, collection_id)
            if collection is None:
                # It is not here yet, or not any more: either way nothing of it can match.
                rows = await connection.fetch(_NOTHING)
            else:
                generation: int = collection["generation"]
                indexes = await read_ready(connection, collection_id, generation)
                condition = filter_sql(wanted, "r", indexes, first=len(values) + 1)
                sql = template.format(
                    checkpoints=CHECKPOINTS,
                    records=records_table(collection_id, generation),
                    unexpired=Expiry(collection["retention_seconds"]).unexpired("r"),
                    condition=condition.condition,
                )
                rows = await connection.fetch(sql, *values, *condition.values)
            return Reading(snapshot_of(rows[0]), rows)

        return await self._covering(read, demand)

    async def _covering(self, read: Callable[[Connection], Awaitable[Reading[FoundT]]], demand: Demand) -> FoundT:
        changes = 0
        while True:
            try:
                reading = await self._run(read)
            except (asyncpg.UndefinedTableError, asyncpg.OutdatedSchemaCacheError) as error:
                # The generation was replaced between the two statements.
                changes += 1
                if changes == _MAX_CHANGES:
                    raise ReadDatabaseUnavailableError("the collection's tables keep being replaced") from error
                continue
            if demand.covered_by(reading.snapshot):
                return reading.found
            if time.monotonic() >= demand.deadline:
                raise demand.not_met(reading.snapshot)
            await asyncio.sleep(min(_PAUSE_SECONDS, max(demand.deadline - time.monotonic(), 0)))

    async def _run(self, read: Callable[[Connection], Awaitable[Reading[FoundT]]]) -> Reading[FoundT]:
        if self._pool is None:
            raise ReadDatabaseUnavailableError("no read database is configured; set AINDUSDB_READ_DSN")
        try:
            async with self._pool.acquire() as connection:
                return await read(connection)
        except (
            *CONNECTION_LOST, asyncpg.InvalidCatalogNameError, asyncpg.InvalidAuthorizationSpecificationError
        ) as error:  # fmt: skip
            # The last two: a server in the place of a lost one, which is not set up yet.
            raise ReadDatabaseUnavailableError(
                f"the read database cannot be reached ({type(error).__name__})"
            ) from error
