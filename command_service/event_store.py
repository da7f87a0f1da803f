"""Append and load: every statement that touches the event log's tables on the write side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from command_service.domain.collections import CollectionState
from command_service.domain.collections import evolve as evolve_collection
from events_schema.base import AggregateType
from events_schema.registry import decode_event
from shared.event_log import read_stream
from shared.postgres import Connection, StandbyAnswersError

TAIL_EVENTS = 16
"""How many of a vector's last events are loaded at first; nearly every vector is whole within them."""

_LOG_END = """
SELECT coalesce(h.position, 0) AS position, greatest(clock_timestamp(), h.timestamp) AS timestamp, i.log_id,
    pg_is_in_recovery() AS of_standby,
    ARRAY(SELECT coalesce((SELECT max(e.version) FROM events e WHERE e.aggregate_id = s.id), 0)
          FROM unnest($1::uuid[]) WITH ORDINALITY AS s(id, n) ORDER BY n) AS versions
FROM log_identity i LEFT JOIN (SELECT position, timestamp FROM events ORDER BY position DESC LIMIT 1) h ON true
"""

_TAILS = """
SELECT e.aggregate_id, e.version, e.position, e.event_type, e.schema_version, e.event_data, e.timestamp
FROM unnest($1::uuid[]) AS a(id) CROSS JOIN LATERAL (
    SELECT * FROM events WHERE aggregate_id = a.id ORDER BY version DESC LIMIT $2
) e ORDER BY e.aggregate_id, e.version
"""

_COLUMNS = (
    "position", "event_id", "tenant", "collection_id", "aggregate_id", "aggregate_type", "version", "event_type",
    "schema_version", "event_data", "metadata", "timestamp",
)  # fmt: skip

_ANY_APPENDED = """
SELECT EXISTS (SELECT FROM events WHERE event_id = ANY($1::uuid[])) AS appended, pg_is_in_recovery() AS of_standby
"""

_FIND_KEYS = """
SELECT tenant, key, request_hash, response FROM idempotency_keys
WHERE (tenant, key) IN (SELECT * FROM unnest($1::text[], $2::text[])) AND created_at > clock_timestamp() - $3::interval
"""

_FORGET_KEYS_AT = """
DELETE FROM idempotency_keys WHERE (tenant, key) IN (SELECT * FROM unnest($1::text[], $2::text[]))
  AND created_at <= clock_timestamp() - $3::interval
"""

_ALIASES = """
SELECT l.collection_id, l.event_data ->> 'name' AS name FROM (
    SELECT DISTINCT aggregate_id FROM events WHERE aggregate_type = 'alias' AND collection_id = ANY($1::uuid[])
) s
CROSS JOIN LATERAL (
    SELECT event_type, collection_id, event_data FROM events WHERE aggregate_id = s.aggregate_id
    ORDER BY version DESC LIMIT 1
) l
WHERE l.event_type = 'AliasSet' AND l.collection_id = ANY($1::uuid[])
"""

_STORE_KEYS = """
INSERT INTO idempotency_keys (tenant, key, request_hash, response)
SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::jsonb[])
"""

_FORGET_OLD_KEYS = """
DELETE FROM idempotency_keys WHERE (tenant, key) IN (
    SELECT tenant, key FROM idempotency_keys WHERE created_at <= clock_timestamp() - $1::interval LIMIT 10000)
"""


@dataclass(frozen=True, slots=True)
class LogEnd:
    """What the append lock's holder knows of the log: nobody else can move it. `timestamp` is now, but never
    before the last event's. `versions` are those of the streams asked for, 0 where there is none."""

    position: int
    timestamp: datetime
    log_id: UUID
    versions: list[int]


@dataclass(slots=True)
class NewEvent:
    """An event about to be appended; `event_data` and `metadata` are JSON texts."""

    position: int
    event_id: UUID
    tenant: str
    collection_id: UUID
    aggregate_id: UUID
    aggregate_type: AggregateType
    version: int
    event_type: str
    schema_version: int
    event_data: str
    metadata: str
    timestamp: datetime


@dataclass(frozen=True, slots=True)
class StoredKey:
    """An idempotency key with the hash of its request and the JSON of its outcome."""

    tenant: str
    key: str
    request_hash: bytes
    response: str


async def read_log_end(connection: Connection, streams: Sequence[UUID]) -> LogEnd:
    """
    Raises:
        StandbyAnswersError: what it ends with may not be the end.
    """
    row = await connection.fetchrow(_LOG_END, streams)
    assert row is not None
    if row["of_standby"]:
        raise StandbyAnswersError
    return LogEnd(row["position"], row["timestamp"], row["log_id"], row["versions"])


async def read_tails(connection: Connection, streams: Sequence[UUID]) -> list[asyncpg.Record]:
    """The last `TAIL_EVENTS` events of each stream, by stream and version."""
    return await connection.fetch(_TAILS, streams, TAIL_EVENTS)


async def load_collection(connection: Connection, stream: UUID) -> CollectionState:
    """The state of a collection's stream, folded from its first event."""
    state = CollectionState()
    while True:
        events = await read_stream(connection, stream, after_version=state.version)
        for event in events:
            state = evolve_collection(
                state,
                decode_event(event.event_type, event.schema_version, event.event_data),
                version=event.version,
                position=event.position,
                timestamp=event.timestamp,
            )
        if not events:
            return state


async def read_aliases(connection: Connection, collection_ids: Sequence[UUID]) -> dict[UUID, set[str]]:
    """The aliases that stand for these collections, by collection_id."""
    found: dict[UUID, set[str]] = {}
    for row in await connection.fetch(_ALIASES, collection_ids):
        found.setdefault(row["collection_id"], set()).add(row["name"])
    return found


async def append(connection: Connection, events: Sequence[NewEvent]) -> None:
    """Writes the events; the caller holds the append lock and commits."""
    await connection.copy_records_to_table(
        "events",
        columns=_COLUMNS,
        records=[
            (
                event.position, event.event_id, event.tenant, event.collection_id, event.aggregate_id,
                event.aggregate_type, event.version, event.event_type, event.schema_version, event.event_data,
                event.metadata, event.timestamp,
            )
            for event in events
        ],
    )  # fmt: skip


async def any_appended(connection: Connection, event_ids: Sequence[UUID]) -> bool:
    """Whether a transaction that held these events was committed.

    Raises:
        StandbyAnswersError: it may have been, and is not there yet.
    """
    row = await connection.fetchrow(_ANY_APPENDED, event_ids)
    assert row is not None
    if row["of_standby"]:
        raise StandbyAnswersError
    found: bool = row["appended"]
    return found


async def find_keys(
    connection: Connection, keys: Sequence[tuple[str, str]], retention: timedelta
) -> dict[tuple[str, str], StoredKey]:
    """The keys (tenant, key) that are stored and not older than `retention`."""
    rows = await connection.fetch(_FIND_KEYS, *map(list, zip(*keys, strict=True)), retention)
    return {(row["tenant"], row["key"]): StoredKey(**row) for row in rows}


async def store_keys(connection: Connection, keys: Sequence[StoredKey], retention: timedelta) -> None:
    """Stores keys that `find_keys` did not find, in place of expired ones."""
    tenants, names = [key.tenant for key in keys], [key.key for key in keys]
    await connection.execute(_FORGET_KEYS_AT, tenants, names, retention)
    await connection.execute(
        _STORE_KEYS, tenants, names, [key.request_hash for key in keys], [key.response for key in keys]
    )


async def forget_old_keys(connection: Connection, retention: timedelta) -> int:
    """Removes up to 10,000 keys past their retention; says how many."""
    status = await connection.execute(_FORGET_OLD_KEYS, retention)
    return int(status.rsplit(" ", 1)[-1])
