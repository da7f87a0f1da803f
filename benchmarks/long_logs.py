"""Event logs of any length with small events, filled on the server."""

from __future__ import annotations

import time

import asyncpg
import numpy as np

from benchmarks.figures import say
from events_schema.embedding import EmbeddingSpec, StoredEmbedding, encode
from events_schema.vectors import VectorCreated, VectorUpdated

COLLECTION_EVENTS = 5_000
"""Of each collection: half of them create its vectors, the others change them once."""
BATCH_EVENTS = 100
"""Collections take turns after so many."""
TENANT = "default"
_AT_ONCE = 500_000
_APPENDED_SHARE = 50
_ID = "@@@"

COLLECTION_ID = "md5('collection ' || {number})::uuid"
AGGREGATE_ID = "md5('vector ' || {collection} || ' ' || {vector})::uuid"

# The n-th event of the log is the `nth` of its collection.
_FILL = f"""
INSERT INTO events (position, event_id, tenant, collection_id, aggregate_id, aggregate_type, version, event_type,
                    schema_version, event_data, metadata, timestamp)
SELECT n, uuidv7(), '{TENANT}', {COLLECTION_ID.format(number="collection")},
       {AGGREGATE_ID.format(collection="collection", vector=f"nth % {COLLECTION_EVENTS // 2}")}, 'vector',
       nth / {COLLECTION_EVENTS // 2} + 1,
       CASE WHEN nth < {COLLECTION_EVENTS // 2} THEN 'VectorCreated' ELSE 'VectorUpdated' END, 1,
       replace(CASE WHEN nth < {COLLECTION_EVENTS // 2} THEN $4 ELSE $5 END, '{_ID}',
               'v' || nth % {COLLECTION_EVENTS // 2})::jsonb,
       '{{"actor": "benchmark", "request_id": "benchmark"}}', '2026-01-01'::timestamptz + n * interval '1 millisecond'
FROM (
    SELECT n, (n - 1) / {BATCH_EVENTS} % $3::bigint AS collection,
           (n - 1) / ({BATCH_EVENTS} * $3::bigint) * {BATCH_EVENTS} + (n - 1) % {BATCH_EVENTS} AS nth
    FROM generate_series($1::bigint, $2::bigint) n
) AS numbered
"""

# What is filled row by row would have them grow; that takes ten times as long, and is half as dense.
_CONSTRAINTS = """
SELECT conname AS name, pg_get_constraintdef(oid) AS definition FROM pg_constraint
WHERE conrelid = 'events'::regclass AND contype = 'u'
"""
_INDEXES = """
SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS definition FROM pg_index i
WHERE indrelid = 'events'::regclass AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = i.indexrelid)
"""

# Since the last checkpoint nearly every page of the indexes has been changed, so that none is written whole any more.
_APPEND_ON = f"""
INSERT INTO events (position, event_id, tenant, collection_id, aggregate_id, aggregate_type, version, event_type,
                    schema_version, event_data, metadata, timestamp)
SELECT position + $1, uuidv7(), tenant, collection_id, gen_random_uuid(), aggregate_type, 1, event_type, schema_version,
       event_data, metadata, clock_timestamp()
FROM events WHERE position <= $1 / {_APPENDED_SHARE} ORDER BY position
"""

# As a server has its indexes in memory that has run for a while.
_WARM = (
    "SELECT count(*) FROM (SELECT {columns} FROM events ORDER BY {columns} OFFSET 0) AS in_order",
    ("aggregate_id, version", "event_id", "collection_id, position", "position"),
)


def collections_of(events: int) -> int:
    return max(1, events // COLLECTION_EVENTS)


async def fill(owner: asyncpg.Connection[asyncpg.Record], events: int) -> None:
    """An empty log; its indexes are those that it was migrated to, made when the rows are there."""
    began = time.monotonic()
    spec = EmbeddingSpec(provider="client", model=None, dimension=4)
    embedding = StoredEmbedding(spec=spec, encoding="float32-le-base64", data=encode(np.ones(4, dtype=np.float32)))
    created = VectorCreated(id=_ID, embeddings=(embedding,), metadata={"kind": "benchmark"}).serialised
    updated = VectorUpdated(id=_ID, embeddings=(embedding,)).serialised
    constraints, indexes = await owner.fetch(_CONSTRAINTS), await owner.fetch(_INDEXES)
    for row in constraints:
        await owner.execute(f"ALTER TABLE events DROP CONSTRAINT {row['name']}")
    for row in indexes:
        await owner.execute(f"DROP INDEX {row['name']}")
    for first in range(1, events + 1, _AT_ONCE):
        last = min(first + _AT_ONCE - 1, events)
        await owner.execute(_FILL, first, last, collections_of(events), created, updated)
    say(f"{events:,} events after {time.monotonic() - began:.0f} s")
    for row in constraints:
        await owner.execute(f"ALTER TABLE events ADD CONSTRAINT {row['name']} {row['definition']}")
    for row in indexes:
        await owner.execute(row["definition"])
    await owner.execute("VACUUM (FREEZE, ANALYZE) events")
    say(f"{events:,} events with their indexes after {time.monotonic() - began:.0f} s")


async def bring_into_use(connection: asyncpg.Connection[asyncpg.Record], events: int) -> None:
    """After a start: the log as it is on a server that has been appended to since its last checkpoint."""
    await connection.execute("SET enable_seqscan = off; SET max_parallel_workers_per_gather = 0")
    statement, indexed = _WARM
    for columns in indexed:
        await connection.execute(statement.format(columns=columns))
    await connection.execute("RESET ALL")
    await connection.execute(_APPEND_ON, events)
