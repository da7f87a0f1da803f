"""The ordered reader of the event log.

Positions have no gaps and are in commit order, so a reader that has seen position n asks for n + 1 and
needs nothing else: no visibility window, no second look. Anything but n + 1 is corruption, and it stops.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg
import orjson

from events_schema.base import RecordedEvent
from shared.postgres import SERVER_STARTED, Connection, ServerChangedError

APPEND_CHANNEL = "aindusdb_events"
"""NOTIFY channel on which the command service says, after a commit, that the head has moved."""

EVENT_COLUMNS = """position, event_id, tenant, collection_id, aggregate_id, aggregate_type, version, event_type,
    schema_version, event_data, metadata, timestamp"""

# The byte limit counts stored sizes: event_data is never compressed, so reading no row needs its TOAST.
_READ = f"""
SELECT {EVENT_COLUMNS}, metadata ->> 'traceparent' AS traceparent, {SERVER_STARTED} AS server_started FROM (
    SELECT *, sum(pg_column_size(event_data)) OVER (ORDER BY position ROWS UNBOUNDED PRECEDING) AS total_bytes
    FROM events WHERE position > $1 AND position <= $1 + $2
) AS batch
WHERE total_bytes <= $3 OR position = $1 + 1
ORDER BY position
"""  # noqa: S608

_READ_COLLECTION = f"""
SELECT {EVENT_COLUMNS} FROM (
    SELECT *, sum(pg_column_size(event_data)) OVER (ORDER BY position ROWS UNBOUNDED PRECEDING) AS total_bytes,
           row_number() OVER (ORDER BY position) AS number
    FROM (
        SELECT * FROM events WHERE collection_id = $1 AND position > $2 AND position <= $3 ORDER BY position LIMIT $4
    ) AS next
) AS batch
WHERE total_bytes <= $5 OR number = 1
ORDER BY position
"""  # noqa: S608

_COUNT_COLLECTION = """
SELECT count(*) FROM (
    SELECT FROM events WHERE collection_id = $1 AND position > $2 AND position <= $3 LIMIT $4
) AS counted
"""

_NEWEST = """
SELECT n.number, e.position,
       greatest(extract(epoch FROM statement_timestamp() - e.timestamp), 0)::float8 AS age_seconds
FROM unnest($2::int[]) AS n(number), LATERAL (
    SELECT position, timestamp FROM events WHERE collection_id = $1 ORDER BY position DESC OFFSET n.number - 1 LIMIT 1
) AS e
"""

STREAM_PAGE = 1_000

_READ_STREAM = f"SELECT {EVENT_COLUMNS} FROM events WHERE aggregate_id = $1 AND version > $2 ORDER BY version LIMIT $3"  # noqa: S608

_READ_STREAM_BACKWARDS = f"""
SELECT {EVENT_COLUMNS} FROM events WHERE aggregate_id = $1 AND tenant = $2 AND version <= $3
ORDER BY version DESC LIMIT $4
"""  # noqa: S608

_READ_STREAMS = f"""
SELECT {EVENT_COLUMNS} FROM events WHERE aggregate_id = ANY($1::uuid[]) AND position > $2 ORDER BY position LIMIT $3
"""  # noqa: S608

_READ_AT = f"SELECT {EVENT_COLUMNS} FROM events WHERE position = ANY($1::bigint[]) ORDER BY position"  # noqa: S608

_AGGREGATES_NEAR = """
SELECT DISTINCT next.aggregate_id FROM unnest($2::bigint[]) AS at(position), LATERAL (
    SELECT aggregate_id FROM events
    WHERE collection_id = $1 AND position >= at.position AND aggregate_type = 'vector' ORDER BY position LIMIT 1
) AS next
"""

_EXTENT = """
SELECT count(*) AS events, coalesce(sum(pg_column_size(event_data)), 0)::bigint AS bytes,
       count(*) FILTER (WHERE event_type = 'VectorCreated')
           - count(*) FILTER (WHERE event_type = 'VectorDeleted') AS vectors
FROM events WHERE collection_id = $1 AND position <= $2
"""

_COUNT_UP_TO = "SELECT count(*) FROM events WHERE position BETWEEN 1 AND $1"

_FIRST_GAP = """
SELECT coalesce(min(expected) FILTER (WHERE position <> expected), count(*) + 1) FROM (
    SELECT position, row_number() OVER (ORDER BY position) AS expected FROM events WHERE position BETWEEN 1 AND $1
) AS numbered
"""

_SKIPS = f"""
SELECT {EVENT_COLUMNS} FROM events WHERE aggregate_type = 'skip' AND position > $1 ORDER BY position
"""  # noqa: S608

_TIMESTAMP_AT = "SELECT timestamp FROM events WHERE position = $1"

# Times never go back along the log, so the position is found by halving what is left.
_POSITION_AT = """
WITH RECURSIVE halves(low, high) AS (
    SELECT 0::bigint, coalesce((SELECT max(position) FROM events), 0)
    UNION ALL
    SELECT CASE WHEN e.timestamp <= $1 THEN e.position ELSE h.low END,
           CASE WHEN e.timestamp <= $1 THEN h.high ELSE e.position - 1 END
    FROM halves h JOIN events e ON e.position = (h.low + h.high + 1) / 2 WHERE h.low < h.high
)
SELECT low FROM halves WHERE low = high
"""

_CLOCK = "SELECT clock_timestamp()"

_FIRST_OF_COLLECTION = f"""
SELECT {EVENT_COLUMNS} FROM events WHERE collection_id = $1 AND aggregate_type = 'collection' ORDER BY position LIMIT 1
"""  # noqa: S608

# Collections are few and their events many, so the index is asked for one collection after the other.
_CREATIONS = f"""
WITH RECURSIVE known(collection_id) AS (
    (SELECT collection_id FROM events ORDER BY collection_id LIMIT 1)
    UNION ALL
    SELECT next.collection_id FROM known, LATERAL (
        SELECT collection_id FROM events e WHERE e.collection_id > known.collection_id ORDER BY collection_id LIMIT 1
    ) AS next
)
SELECT created.* FROM known, LATERAL (
    SELECT {EVENT_COLUMNS} FROM events
    WHERE collection_id = known.collection_id AND aggregate_type = 'collection' ORDER BY position LIMIT 1
) AS created
ORDER BY position
"""  # noqa: S608

_DELETED = """
SELECT DISTINCT collection_id FROM events WHERE aggregate_id = ANY($1::uuid[]) AND event_type = 'CollectionDeleted'
"""

_ALIAS_EVENTS = f"SELECT {EVENT_COLUMNS} FROM events WHERE aggregate_type = 'alias' ORDER BY position"  # noqa: S608

_END = f"SELECT coalesce(max(position), 0) AS head, {SERVER_STARTED} AS server_started FROM events"  # noqa: S608

_EVENT_ID_AT = "SELECT event_id FROM events WHERE position = $1"

_EVENT_IDS_AT = "SELECT position, event_id FROM events WHERE position = ANY($1::bigint[])"

_HEAD = "SELECT position, timestamp FROM events ORDER BY position DESC LIMIT 1"

_LOG_ID = "SELECT log_id FROM log_identity"


class LogCorruptionError(Exception):
    """The event log has a gap. Stop, keep the database as it is, and compare it with a backup."""


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the log; position 0 and no time when it is empty."""

    position: int
    timestamp: datetime | None


@dataclass(frozen=True, slots=True)
class Appended:
    """An event's position, and how long ago it was appended."""

    position: int
    age_seconds: float


@dataclass(frozen=True, slots=True)
class Extent:
    """How much the log has of something: `bytes` of event data as stored, and so many vectors that are not deleted."""

    events: int
    bytes: int
    vectors: int


@dataclass(frozen=True, slots=True)
class Gaps:
    """How many positions the log lacks, and the first of them."""

    missing: int
    first: int | None


def recorded_event(row: asyncpg.Record) -> RecordedEvent:
    """An event from a row that holds the log's columns."""
    return RecordedEvent(
        position=row["position"],
        event_id=row["event_id"],
        tenant=row["tenant"],
        collection_id=row["collection_id"],
        aggregate_id=row["aggregate_id"],
        aggregate_type=row["aggregate_type"],
        version=row["version"],
        event_type=row["event_type"],
        schema_version=row["schema_version"],
        event_data=orjson.loads(row["event_data"]),
        metadata=orjson.loads(row["metadata"]),
        timestamp=row["timestamp"],
    )


def _recorded(rows: Iterable[asyncpg.Record]) -> list[RecordedEvent]:
    return [recorded_event(row) for row in rows]


async def read_event_rows(
    connection: Connection,
    after: int,
    *,
    limit: int = 1000,
    max_bytes: int = 16 * 1024 * 1024,
    server_started: datetime | None = None,
) -> list[asyncpg.Record]:
    """The rows of the events that follow position `after`, in order, with their `traceparent`: at most `limit` of them
    and about `max_bytes` of event data, but at least one if there is one. `event_data` and `metadata` are JSON texts.

    `server_started` is that of the server on which `after` was found to be a position of this log.

    Raises:
        LogCorruptionError: a position is missing.
        ServerChangedError: it is another server now, whose log may be another one.
    """
    rows = await connection.fetch(_READ, after, limit, max_bytes)
    answer = rows[0] if rows else await connection.fetchrow(_END)
    assert answer is not None
    if server_started is not None and answer["server_started"] != server_started:
        raise ServerChangedError
    for expected, row in enumerate(rows, start=after + 1):
        if row["position"] != expected:
            raise LogCorruptionError(f"position {expected} is missing from the event log: {row['position']} follows")
    if not rows and answer["head"] > after and await connection.fetchval(_EVENT_ID_AT, after + 1) is None:
        raise LogCorruptionError(f"position {after + 1} is missing from the event log: its head is {answer['head']}")
    return rows


async def read_events(
    connection: Connection,
    after: int,
    *,
    limit: int = 1000,
    max_bytes: int = 16 * 1024 * 1024,
    server_started: datetime | None = None,
) -> list[RecordedEvent]:
    """The same as events."""
    return _recorded(
        await read_event_rows(connection, after, limit=limit, max_bytes=max_bytes, server_started=server_started)
    )


async def read_collection_events(
    connection: Connection, collection_id: UUID, after: int, to: int, *, limit: int, max_bytes: int
) -> list[RecordedEvent]:
    """The next events of a collection and its vectors in (after, to], in order: at most `limit` of them and about
    `max_bytes` of event data, but at least one if there is one."""
    return _recorded(await connection.fetch(_READ_COLLECTION, collection_id, after, to, limit, max_bytes))


async def count_collection_events(
    connection: Connection, collection_id: UUID, after: int, to: int, *, limit: int
) -> int:
    """How many events a collection and its vectors have in (after, to], counted no further than `limit`."""
    count: int = await connection.fetchval(_COUNT_COLLECTION, collection_id, after, to, limit)
    return count


async def read_newest(connection: Connection, collection_id: UUID, numbers: Sequence[int]) -> dict[int, Appended]:
    """Number -> the event of a collection and its vectors that `number` - 1 others follow; those that there are, and
    how old they were at one moment."""
    rows = await connection.fetch(_NEWEST, collection_id, numbers)
    return {row["number"]: Appended(row["position"], row["age_seconds"]) for row in rows}


async def read_stream(
    connection: Connection, aggregate_id: UUID, *, after_version: int, limit: int = STREAM_PAGE
) -> list[RecordedEvent]:
    """The next events of one aggregate, in order of version; none only if there are none."""
    return _recorded(await connection.fetch(_READ_STREAM, aggregate_id, after_version, limit))


async def read_whole_stream(
    connection: Connection, aggregate_id: UUID, *, after_version: int = 0
) -> list[RecordedEvent]:
    """All events of one aggregate beyond a version, in order of version."""
    events: list[RecordedEvent] = []
    after = after_version
    while page := await read_stream(connection, aggregate_id, after_version=after, limit=STREAM_PAGE):
        events += page
        after = page[-1].version
    return events


async def read_streams(
    connection: Connection, aggregate_ids: Sequence[UUID], *, after: int, limit: int | None = None
) -> list[RecordedEvent]:
    """The next events of these aggregates beyond position `after`, in order of position; none only if there are none.
    Without a limit all of them."""
    return _recorded(await connection.fetch(_READ_STREAMS, aggregate_ids, after, limit))


async def read_events_at(connection: Connection, positions: Sequence[int]) -> list[RecordedEvent]:
    """The events at these positions, in order; those beyond the head are not among them."""
    return _recorded(await connection.fetch(_READ_AT, positions))


async def read_aggregates_near(connection: Connection, collection_id: UUID, positions: Sequence[int]) -> list[UUID]:
    """For each position the aggregate of the next event of the collection's vectors, if there is one; each once."""
    return [row["aggregate_id"] for row in await connection.fetch(_AGGREGATES_NEAR, collection_id, positions)]


async def read_extent(connection: Connection, collection_id: UUID, to: int, *, timeout_seconds: float) -> Extent:
    """How much the log has of a collection and its vectors up to position `to`; reads all of it, on the server."""
    row = await connection.fetchrow(_EXTENT, collection_id, to, timeout=timeout_seconds)
    assert row is not None
    return Extent(row["events"], row["bytes"], row["vectors"])


async def read_gaps(connection: Connection, to: int, *, timeout_seconds: float) -> Gaps:
    """What is missing of the positions 1 to `to`."""
    count: int = await connection.fetchval(_COUNT_UP_TO, to, timeout=timeout_seconds)
    if count == to:
        return Gaps(0, None)
    first: int = await connection.fetchval(_FIRST_GAP, to, timeout=timeout_seconds)
    return Gaps(to - count, first)


async def read_skips(connection: Connection, *, after: int) -> list[RecordedEvent]:
    """The decisions to pass over events that stand in the log beyond position `after`, in order."""
    return _recorded(await connection.fetch(_SKIPS, after))


async def read_timestamp_at(connection: Connection, position: int) -> datetime:
    """
    Raises:
        LogCorruptionError: the log has no such position.
    """
    timestamp: datetime | None = await connection.fetchval(_TIMESTAMP_AT, position)
    if timestamp is None:
        raise LogCorruptionError(f"position {position} is missing from the event log")
    return timestamp


async def read_position_at(connection: Connection, time: datetime) -> int:
    """Of the last event that is not later than `time`, which bears a time zone; 0 if there is none."""
    position: int = await connection.fetchval(_POSITION_AT, time)
    return position


async def read_clock(connection: Connection) -> datetime:
    now: datetime = await connection.fetchval(_CLOCK)
    return now


async def read_stream_backwards(
    connection: Connection, aggregate_id: UUID, tenant: str, *, from_version: int, limit: int
) -> list[RecordedEvent]:
    """The events of one aggregate up to a version, the last first."""
    return _recorded(await connection.fetch(_READ_STREAM_BACKWARDS, aggregate_id, tenant, from_version, limit))


async def read_collection_stream(connection: Connection, collection_id: UUID) -> list[RecordedEvent]:
    """The events of the collection with this id, from its CollectionCreated on; empty if the log has none."""
    first = await connection.fetchrow(_FIRST_OF_COLLECTION, collection_id)
    if first is None:
        return []
    created = recorded_event(first)
    following = await read_whole_stream(connection, created.aggregate_id, after_version=created.version)
    return [created, *(event for event in following if event.collection_id == collection_id)]


async def read_creations(connection: Connection, *, timeout_seconds: float) -> list[RecordedEvent]:
    """The first event of each collection that the log has, in order of position."""
    return _recorded(await connection.fetch(_CREATIONS, timeout=timeout_seconds))


async def read_deleted(connection: Connection, aggregate_ids: Sequence[UUID]) -> set[UUID]:
    """The collections that were deleted, of those that have their events in these streams."""
    return {row["collection_id"] for row in await connection.fetch(_DELETED, aggregate_ids)}


async def read_alias_events(connection: Connection, *, timeout_seconds: float) -> list[RecordedEvent]:
    """The events of all aliases, in order of position."""
    return _recorded(await connection.fetch(_ALIAS_EVENTS, timeout=timeout_seconds))


async def read_head(connection: Connection) -> Head:
    row = await connection.fetchrow(_HEAD)
    return Head(0, None) if row is None else Head(row["position"], row["timestamp"])


async def read_event_ids(connection: Connection, positions: Sequence[int]) -> dict[int, UUID]:
    """The ids of the events at these positions; those beyond the head are not in it."""
    return {row["position"]: row["event_id"] for row in await connection.fetch(_EVENT_IDS_AT, positions)}


async def read_log_id(connection: Connection) -> UUID:
    """Which log this is. It changes at every restore, so that positions of two histories are never mixed up."""
    log_id: UUID | None = await connection.fetchval(_LOG_ID)
    if log_id is None:
        raise LogCorruptionError("the event database has no log_identity row; run `aindusdb schema upgrade`")
    return log_id
