"""Deletes, by events, the vectors that have expired. Nobody sees them any more; this gives their room back, and says in
their history what became of them.

The read model says which ones those are; the append looks again, under its lock: it deletes what still has the version
that was found and still is expired. So several processes may do this at once, for one collection one at a time. It
keeps the pace of the projection, and leaves at least half of the time to other writes.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge
from uuid_utils.compat import uuid7

from command_service.command_bus import PASSES, CommandBus
from command_service.domain.commands import CommandContext, DeleteExpired, WriteVectors
from command_service.domain.refusals import RefusalError
from command_service.outcomes import VectorsOutcome
from events_schema.base import EventMetadata
from shared.postgres import Connection, Pool
from shared.read_model.snapshot import read_snapshot
from shared.read_model.tables import records_table

ACTOR = "expiry"
PAGE_VECTORS = 1_000
MAX_COUNTED = 10_000

_PROJECTION_SECONDS = 10.0
"""So long a page waits until it is projected."""
_PAUSE_SECONDS = 0.05
_TIMES_AS_LONG = 20
"""A collection that took long to look through is left alone for this many times as long: no index answers which vectors
a retention concerns."""

# The driver takes it for minus infinity.
_BEFORE_ALL = datetime.min.replace(tzinfo=UTC)

_COLLECTIONS = """
SELECT c.collection_id, c.tenant, c.name, c.retention_seconds, s.generation
FROM collections c JOIN collection_state s USING (collection_id)
WHERE c.deleted_at IS NULL AND (c.may_expire OR c.retention_seconds IS NOT NULL) ORDER BY c.collection_id
"""

_TRY_LOCK = "SELECT pg_try_advisory_xact_lock(7120033, hashtext($1))"

_COUNT_BY_INSTANT = """
SELECT count(*) FROM (SELECT FROM {records} WHERE expires_at <= statement_timestamp() LIMIT $1) counted
"""

_COUNT_BY_RETENTION = """
SELECT count(*) FROM (
    SELECT FROM {records} WHERE updated_at <= statement_timestamp() - make_interval(secs => $2) LIMIT $1
) counted
"""

_BY_INSTANT = """
SELECT id, version, expires_at FROM {records}
WHERE expires_at <= statement_timestamp() AND (expires_at, id) > ($1, $2) ORDER BY expires_at, id LIMIT $3
"""

_BY_RETENTION = """
SELECT id, version FROM {records} WHERE updated_at <= statement_timestamp() - make_interval(secs => $1) LIMIT $2
"""

_log = structlog.get_logger("expiry")


@dataclass(frozen=True, slots=True)
class _Collection:
    collection_id: UUID
    tenant: str
    name: str
    retention_seconds: int | None
    generation: int

    def sql(self, template: str) -> str:
        return template.format(records=records_table(self.collection_id, self.generation))


@dataclass(slots=True)
class _Place:
    """Behind this instant and id the next page begins."""

    expires_at: datetime
    id: str


class Expiring:
    def __init__(self, bus: CommandBus, interval_seconds: float, registry: CollectorRegistry) -> None:
        self._bus = bus
        self._interval_seconds = interval_seconds
        self._rests_until: dict[UUID, float] = {}
        self._deleted = Counter(
            "aindusdb_expired_vectors_deleted_total", "Vectors that were deleted after they had expired.",
            registry=registry,
        )  # fmt: skip
        self._left = 0
        backlog = Gauge(
            "aindusdb_expired_vectors",
            f"Vectors that have expired and are not deleted yet, of each collection counted up to {MAX_COUNTED:,}.",
            registry=registry,
        )
        backlog.set_function(lambda: self._left)

    async def run(self, read: Pool | None) -> None:
        """Until it is cancelled; not at all without the read database. What fails is tried again after the interval."""
        while read is not None:
            await asyncio.sleep(self._interval_seconds)
            try:
                await self.sweep(read)
            except PASSES as error:
                _log.warning("what has expired is not deleted for now", error=repr(error))
            except Exception:
                _log.exception("what has expired is not deleted for now")

    async def sweep(self, read: Pool) -> None:
        """Deletes all that has expired by now."""
        async with read.acquire() as connection:
            collections = [_Collection(**row) for row in await connection.fetch(_COLLECTIONS)]
        counts = {one: await self._count(read, one) for one in collections}
        self._left = sum(counts.values())
        for one in (one for one, count in counts.items() if count):
            try:
                await self._delete_expired(read, one)
            except (RefusalError, asyncpg.UndefinedTableError) as error:
                _log.info("the collection was changed meanwhile", collection=one.name, error=str(error))

    async def _count(self, read: Pool, of: _Collection) -> int:
        """0, too, of a collection that is left alone for now."""
        began = time.monotonic()
        if began < self._rests_until.get(of.collection_id, began):
            return 0
        try:
            async with read.acquire() as connection:
                count: int = await connection.fetchval(of.sql(_COUNT_BY_INSTANT), MAX_COUNTED)
                if of.retention_seconds is not None:
                    sql = of.sql(_COUNT_BY_RETENTION)
                    count += await connection.fetchval(sql, MAX_COUNTED, of.retention_seconds)
        except asyncpg.UndefinedTableError:
            return 0  # its tables were replaced
        now = time.monotonic()
        self._rests_until[of.collection_id] = now + _TIMES_AS_LONG * (now - began)
        return count

    async def _delete_expired(self, read: Pool, of: _Collection) -> None:
        place = _Place(_BEFORE_ALL, "")
        went_on = True
        while went_on:
            async with read.acquire() as connection, connection.transaction(isolation="read_committed"):
                if not await connection.fetchval(_TRY_LOCK, str(of.collection_id)):
                    return
                began = time.monotonic()
                went_on = await self._delete_page(connection, of, place)
                seconds = time.monotonic() - began
            await asyncio.sleep(seconds)

    async def _delete_page(self, connection: Connection, of: _Collection, place: _Place) -> bool:
        """Moves the place. False: there is nothing more to be done."""
        rows = await connection.fetch(of.sql(_BY_INSTANT), place.expires_at, place.id, PAGE_VECTORS)
        versions = {row["id"]: row["version"] for row in rows}
        if rows:
            place.expires_at, place.id = rows[-1]["expires_at"], rows[-1]["id"]
        if of.retention_seconds is not None and len(rows) < PAGE_VECTORS:
            more = await connection.fetch(of.sql(_BY_RETENTION), of.retention_seconds, PAGE_VECTORS - len(rows))
            versions |= {row["id"]: row["version"] for row in more}
        if not versions:
            return False
        outcome = await self._bus.execute(_deletion(of, versions))
        assert isinstance(outcome, VectorsOutcome)
        deleted = sum(operation.result == "deleted" for operation in outcome.operations)
        self._deleted.inc(deleted)
        self._left = max(0, self._left - deleted)
        await projected(connection, outcome.last_position)
        # What a page of only such vectors as cannot be deleted has found, the next one would find again.
        return deleted > 0 or len(rows) == PAGE_VECTORS


def _deletion(of: _Collection, versions: dict[str, int]) -> WriteVectors:
    metadata = EventMetadata(actor=ACTOR, request_id=str(uuid7()))
    return WriteVectors(
        context=CommandContext(of.tenant, metadata),
        collection=of.name,
        collection_id=of.collection_id,
        operations=tuple(DeleteExpired(vector_id, version) for vector_id, version in versions.items()),
        size_bytes=256 * len(versions),
    )


async def projected(connection: Connection, position: int) -> None:
    """Waits until it is, though not for ever."""
    until = time.monotonic() + _PROJECTION_SECONDS
    while time.monotonic() < until:
        if (await read_snapshot(connection)).low >= position:
            return
        await asyncio.sleep(_PAUSE_SECONDS)
