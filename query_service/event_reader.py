"""The event log as reads see it: on a replica of the event database, from one connection pool.

Positions are gapless and in commit order on every server, so a snapshot of a replica is a prefix of the log.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from uuid import UUID

import asyncpg

from events_schema.base import RecordedEvent
from events_schema.specs import EmbeddingSpecs
from events_schema.streams import skip_stream
from events_schema.upcasters import UnreadableEventError
from query_service.errors import EventLogUnavailableError, ProjectionParkedError
from shared.event_log import EVENT_COLUMNS, read_collection_stream, read_position_at, recorded_event
from shared.freshness import Demand
from shared.past_specs import specs_after
from shared.postgres import CONNECTION_LOST, Pool
from shared.read_model.snapshot import Reading, Snapshot

_END = """
    SELECT coalesce((SELECT max(position) FROM events), 0) AS head, (SELECT log_id FROM log_identity) AS log_id
"""

# A page ends before the first event that would make it larger than it may be; the first one is always brought.
_HISTORY = f"""
WITH log_end AS ({_END})
SELECT l.head, l.log_id, e.* FROM log_end l LEFT JOIN LATERAL (
    SELECT * FROM (
        SELECT *, count(*) OVER () AS found, row_number() OVER (ORDER BY version) AS number,
               sum(pg_column_size(event_data)) OVER (ORDER BY version ROWS UNBOUNDED PRECEDING) AS bytes
        FROM (
            SELECT {EVENT_COLUMNS} FROM events
            WHERE aggregate_id = $1 AND tenant = $2 AND version > $3 ORDER BY version LIMIT $4
        ) page
    ) bounded WHERE bytes <= $5 OR number = 1
) e ON true
ORDER BY e.version
"""  # noqa: S608

# What projections pass over has made nothing of a vector.
_PASSED_OVER = "SELECT (event_data ->> 'skipped_event_id')::uuid FROM events WHERE aggregate_type = 'skip'"

_BACKWARDS = f"""
WITH log_end AS ({_END})
SELECT l.head, l.log_id, e.* FROM log_end l LEFT JOIN LATERAL (
    SELECT {EVENT_COLUMNS} FROM events
    WHERE aggregate_id = $1 AND tenant = $2 AND version <= $3 AND event_id NOT IN ({_PASSED_OVER})
    ORDER BY version DESC LIMIT $4
) e ON true
ORDER BY e.version DESC
"""  # noqa: S608

_SKIPS = f"SELECT {EVENT_COLUMNS} FROM events WHERE aggregate_id = ANY($1::uuid[]) AND tenant = $2"  # noqa: S608

_IS_OF_TENANT = """
SELECT EXISTS (
    SELECT FROM (SELECT tenant FROM events WHERE collection_id = $1 ORDER BY position LIMIT 1) first WHERE tenant = $2
)
"""

# Where the window ends is where the next one begins, whatever matched within; unless not all that match were brought.
_WINDOW = f"""
WITH log_end AS ({_END}),
matching AS (
    SELECT {EVENT_COLUMNS}, sum(pg_column_size(event_data)) OVER (ORDER BY position ROWS UNBOUNDED PRECEDING) AS bytes
    FROM events
    WHERE position > $1 AND position <= $1 + $2 AND tenant = $3
      AND ($4::uuid IS NULL OR collection_id = $4) AND ($5::text[] IS NULL OR event_type = ANY($5))
)
SELECT l.head, l.log_id, (SELECT count(*) FROM matching) AS matching, m.* FROM log_end l LEFT JOIN matching m
    ON m.bytes <= $6 OR m.position = (SELECT min(position) FROM matching)
ORDER BY m.position
"""  # noqa: S608

# What a collection holds changes only with the events of its vectors; by which embeddings it is searched, only with
# those of its own that concern specs.
_CHANGES_IT = """(aggregate_type = 'vector' OR event_type = 'CollectionReembedded'
                       OR event_type = 'CollectionUpdated' AND event_data ? 'embedding_spec')"""

_STRETCH = f"""
WITH log_end AS ({_END})
SELECT l.head, l.log_id, $2::bigint AS position, clock_timestamp() < $3::timestamptz AS is_to_come,
       coalesce($3, (SELECT timestamp FROM events WHERE position = $2), clock_timestamp()) AS time,
       (SELECT position FROM events WHERE collection_id = $1 ORDER BY position LIMIT 1) AS created,
       (SELECT position FROM events WHERE collection_id = $1 AND {_CHANGES_IT} AND position <= $2
        ORDER BY position DESC LIMIT 1) AS last_change,
       (SELECT position FROM events WHERE collection_id = $1 AND {_CHANGES_IT} AND position > $2
        ORDER BY position LIMIT 1) AS next_change
FROM log_end l
"""  # noqa: S608

_VERSION_AT = f"""
WITH log_end AS ({_END})
SELECT l.head, l.log_id, e.version, e.version AS position FROM log_end l LEFT JOIN LATERAL (
    SELECT version FROM events
    WHERE aggregate_id = $1 AND tenant = $2 AND position <= $3 AND event_id NOT IN ({_PASSED_OVER})
    ORDER BY version DESC LIMIT 1
) e ON true
"""  # noqa: S608

WINDOW_POSITIONS = 2_000
WINDOW_BYTES = 4 * 1024 * 1024
_PAUSE_SECONDS = 0.02

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class LogWindow:
    """The matching events behind a position, in order; everything up to `through` has been looked at."""

    events: Sequence[RecordedEvent]
    through: int
    head: int
    log_id: UUID


@dataclass(frozen=True, slots=True)
class Stretch:
    """The positions from `first` to `last` at which a collection held the same as at `position`. `time` is what was
    asked for, or that of the event there. `created` is the position of the collection's first event, None if there is
    none; `is_to_come`: the log has not got there."""

    position: int
    time: datetime
    first: int
    last: int
    created: int | None
    head: int
    is_to_come: bool


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """In order of version. `more`: others follow the last one."""

    events: Sequence[RecordedEvent]
    more: bool


class EventReader:
    """`pool` is None where no event database is configured."""

    def __init__(self, pool: Pool | None) -> None:
        self._pool = pool

    async def head(self) -> tuple[int, UUID]:
        """The last position, 0 in an empty log, and which log it is."""
        row = await self._run(lambda connection: connection.fetchrow(_END))
        assert row is not None
        return row["head"], row["log_id"]

    async def history(
        self, stream: UUID, tenant: str, *, after_version: int, limit: int, max_bytes: int, demand: Demand
    ) -> Reading[HistoryPage]:
        """The events of one stream in order of version; fewer than `limit` if they would take more than `max_bytes`.

        Raises:
            NotFreshEnoughError, ForeignTokenError, EventLogUnavailableError
        """
        snapshot, rows = await self._covering(demand, _HISTORY, stream, tenant, after_version, limit + 1, max_bytes)
        events = [recorded_event(row) for row in rows[:limit]]
        return Reading(snapshot, HistoryPage(events, more=bool(rows) and rows[0]["found"] > len(events)))

    async def backwards(
        self, stream: UUID, tenant: str, *, from_version: int, limit: int, demand: Demand
    ) -> Reading[Sequence[RecordedEvent]]:
        """The events of one stream up to a version, the last first, without those that projections pass over."""
        snapshot, rows = await self._covering(demand, _BACKWARDS, stream, tenant, from_version, limit)
        return Reading(snapshot, [recorded_event(row) for row in rows])

    async def version_at(self, stream: UUID, tenant: str, position: int, demand: Demand) -> int | None:
        """The version that a stream had come to at a position; None if it had not begun."""
        _, rows = await self._covering(demand, _VERSION_AT, stream, tenant, position)
        return rows[0]["version"] if rows else None

    async def stretch(self, collection_id: UUID, moment: int | datetime, demand: Demand) -> Stretch:
        """Where a moment lies: a position, or a time with a time zone.

        Raises:
            NotFreshEnoughError, ForeignTokenError, EventLogUnavailableError
        """
        if isinstance(moment, int):
            position, time = moment, None
        else:
            time = moment
            position = await self._run(lambda connection: read_position_at(connection, moment))
        _, [row] = await self._covering(demand, _STRETCH, collection_id, position, time)
        head: int = row["head"]
        return Stretch(
            position,
            row["time"],
            first=row["last_change"] or row["created"] or 0,
            last=row["next_change"] - 1 if row["next_change"] else head,
            created=row["created"],
            head=head,
            is_to_come=position > head or bool(row["is_to_come"]),
        )

    async def specs_at(self, collection_id: UUID, position: int) -> EmbeddingSpecs | None:
        """Those that a collection had when the log had come to a position; None: it was not there yet.

        Raises:
            ProjectionParkedError: one of its events cannot be read by this version of the software.
            EventLogUnavailableError
        """
        specs: EmbeddingSpecs | None = None
        for event in await self._run(lambda connection: read_collection_stream(connection, collection_id)):
            if event.position > position:
                break
            try:
                specs = specs_after(specs, event)
            except UnreadableEventError as error:
                raise ProjectionParkedError([event.position]) from error
        return specs

    async def skips(self, events: Sequence[RecordedEvent], tenant: str) -> Mapping[UUID, RecordedEvent]:
        """The decisions to pass over some of these events, by the id of the event."""
        event_of = {skip_stream(event.event_id): event.event_id for event in events}
        rows = await self._run(lambda connection: connection.fetch(_SKIPS, list(event_of), tenant))
        return {event_of[row["aggregate_id"]]: recorded_event(row) for row in rows}

    async def knows_collection(self, collection_id: UUID, tenant: str) -> bool:
        """Whether the tenant has, or had, a collection with this id."""
        known: bool = await self._run(lambda connection: connection.fetchval(_IS_OF_TENANT, collection_id, tenant))
        return known

    async def window(
        self, after: int, tenant: str, collection_id: UUID | None, event_types: Sequence[str] | None
    ) -> LogWindow:
        """What matches among the WINDOW_POSITIONS positions behind `after`, as far as WINDOW_BYTES reach."""
        rows = await self._run(
            lambda connection: connection.fetch(
                _WINDOW, after, WINDOW_POSITIONS, tenant, collection_id, event_types, WINDOW_BYTES
            )
        )
        head, log_id, matching = rows[0]["head"], rows[0]["log_id"], rows[0]["matching"]
        events = [recorded_event(row) for row in rows if row["position"] is not None]
        whole = len(events) == matching
        through = max(min(head, after + WINDOW_POSITIONS), after) if whole else events[-1].position
        return LogWindow(events, through, head, log_id)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.terminate()

    async def _covering(self, demand: Demand, sql: str, *values: object) -> tuple[Snapshot, Sequence[asyncpg.Record]]:
        while True:
            rows = await self._run(lambda connection: connection.fetch(sql, *values))
            snapshot = Snapshot(rows[0]["head"], rows[0]["head"], rows[0]["log_id"])
            if demand.covered_by(snapshot):
                return snapshot, [row for row in rows if row["position"] is not None]
            if time.monotonic() >= demand.deadline:
                raise demand.not_met(snapshot)
            await asyncio.sleep(min(_PAUSE_SECONDS, max(demand.deadline - time.monotonic(), 0)))

    async def _run(self, statement: Callable[[asyncpg.pool.PoolConnectionProxy], Awaitable[ResultT]]) -> ResultT:
        if self._pool is None:
            raise EventLogUnavailableError("no event database is configured; set AINDUSDB_EVENTS_DSN")
        try:
            async with self._pool.acquire() as connection:
                return await statement(connection)
        except (*CONNECTION_LOST, asyncpg.InvalidCatalogNameError, asyncpg.UndefinedTableError) as error:
            if isinstance(error, TimeoutError):
                raise
            raise EventLogUnavailableError(str(error) or type(error).__name__) from error
