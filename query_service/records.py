"""Reads of stored vectors: one by its id, and how many."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from query_service.binding import Binder, binder
from query_service.catalogue import LiveCollection
from query_service.parts import Include, stored_text
from shared.postgres import Connection
from shared.read_model.conditions import EVERYTHING, Filter
from shared.read_model.filter_sql import filter_sql
from shared.read_model.snapshot import CHECKPOINTS, Reading, snapshot_of

RECORD_COLUMNS = "r.id, r.version, r.created_at, r.updated_at, r.position, r.expires_at"

_GET = """
WITH checkpoints AS ({checkpoints})
SELECT c.low, c.high, c.log_id, v.*
FROM checkpoints c LEFT JOIN (
    SELECT {record_columns}{columns}
    FROM {records} r{embedding_join} WHERE r.id = $1 AND {unexpired}
) v ON true
"""

# What has expired is counted apart, by its own index: without a filter the primary key alone counts the rest.
_COUNT = """
WITH checkpoints AS ({checkpoints})
SELECT c.low, c.high, c.log_id,
       (SELECT count(*) FROM {records} r WHERE {condition})
         - (SELECT count(*) FROM {records} r WHERE r.expires_at <= {clock} AND ({condition})) AS count,
       (SELECT min(r.expires_at) FROM {records} r WHERE r.expires_at > {clock}) AS valid_until
FROM checkpoints c
"""

# With a retention every vector expires, the next one perhaps at once.
_COUNT_RETAINED = """
WITH checkpoints AS ({checkpoints})
SELECT c.low, c.high, c.log_id, (SELECT count(*) FROM {records} r WHERE {unexpired} AND ({condition})) AS count,
       now() AS valid_until
FROM checkpoints c
"""


@dataclass(frozen=True, slots=True)
class StoredVector:
    """`metadata` is JSON text, `embedding` base64 of little-endian float32. What was not asked for is None.
    `expires_at` is the vector's own instant; its collection may have a retention besides."""

    id: str
    content: str | None
    metadata: str | None
    version: int
    created_at: datetime
    updated_at: datetime
    position: int
    expires_at: datetime | None
    embedding: str | None


@dataclass(frozen=True, slots=True)
class GetVector:
    id: str
    include: Include

    async def read(self, connection: Connection, collection: LiveCollection) -> Reading[StoredVector | None]:
        values: list[Any] = [self.id]
        sql = _GET.format(record_columns=RECORD_COLUMNS, **parts_sql(collection, self.include, binder(values)))
        row = await connection.fetchrow(sql, *values)
        assert row is not None
        return Reading(snapshot_of(row), None if row["id"] is None else stored_vector(row, self.include))


@dataclass(frozen=True, slots=True)
class CountVectors:
    filter: Filter | None

    async def read(self, connection: Connection, collection: LiveCollection) -> Reading[int]:
        filtered = filter_sql(self.filter or EVERYTHING, "r", collection.metadata_indexes)
        statement = _COUNT if collection.expiry.retention_seconds is None else _COUNT_RETAINED
        sql = statement.format(
            checkpoints=CHECKPOINTS,
            records=collection.records,
            condition=filtered.condition,
            clock=collection.expiry.clock,
            unexpired=collection.expiry.unexpired("r"),
        )
        row = await connection.fetchrow(sql, *filtered.values)
        assert row is not None
        return Reading(snapshot_of(row), row["count"], row["valid_until"])

    def identity(self) -> bytes:
        return repr(self).encode()

    def dump(self, found: int) -> bytes:
        return str(found).encode()

    def load(self, payload: bytes) -> int:
        return int(payload)


def parts_sql(collection: LiveCollection, include: Include, bind: Binder) -> dict[str, str]:
    """What statements over the records `r` have in common."""
    join = f" LEFT JOIN {collection.embeddings} v ON {collection.key.same('v', 'r')}" if include.embedding else ""
    return {
        "checkpoints": CHECKPOINTS,
        "columns": include.columns(bind),
        "records": collection.records,
        "embedding_join": join,
        "unexpired": collection.expiry.unexpired("r"),
    }


def stored_vector(row: asyncpg.Record, include: Include) -> StoredVector:
    return StoredVector(
        id=row["id"],
        content=row["content"],
        metadata=include.narrowed(row["metadata"]),
        version=row["version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        position=row["position"],
        expires_at=row["expires_at"],
        embedding=stored_text(row["embedding"]),
    )
