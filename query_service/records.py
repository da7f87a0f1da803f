"""Reads of stored vectors: one by its id, all in order of id, and how many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from query_service.catalogue import LiveCollection
from query_service.filter_sql import filter_sql
from query_service.search import Include
from query_service.snapshot import CHECKPOINTS, Reading, snapshot_of
from shared.postgres import Connection
from shared.read_model.conditions import EVERYTHING, Filter
from shared.tokens import MalformedCursorError

_COLUMNS = "r.id, r.content, r.metadata, r.version, r.created_at, r.updated_at, r.position"

_GET = """
WITH checkpoints AS ({checkpoints})
SELECT c.low, c.high, c.log_id, v.*
FROM checkpoints c LEFT JOIN (
    SELECT {columns} FROM {records} r{embedding_join} WHERE r.id = $1
) v ON true
"""

# Keyed by id and not by offset: rows that come or go between two pages shift nothing.
_LIST = """
WITH checkpoints AS ({checkpoints})
SELECT c.low, c.high, c.log_id, v.*
FROM checkpoints c LEFT JOIN LATERAL (
    SELECT {columns} FROM {records} r{embedding_join} WHERE r.id > $1 ORDER BY r.id LIMIT $2
) v ON true
ORDER BY v.id
"""

_COUNT = """
WITH checkpoints AS ({checkpoints})
SELECT c.low, c.high, c.log_id, (SELECT count(*) FROM {records} r WHERE {condition}) AS count
FROM checkpoints c
"""


@dataclass(frozen=True, slots=True)
class StoredVector:
    """`metadata` is JSON text. What was not asked for is None."""

    id: str
    content: str | None
    metadata: str | None
    version: int
    created_at: datetime
    updated_at: datetime
    position: int
    embedding: Sequence[float] | None


@dataclass(frozen=True, slots=True)
class VectorPage:
    """In order of id, by code point. `more`: others follow the last one."""

    vectors: Sequence[StoredVector]
    more: bool


@dataclass(frozen=True, slots=True)
class GetVector:
    id: str
    include: Include

    async def read(self, connection: Connection, collection: LiveCollection) -> Reading[StoredVector | None]:
        row = await connection.fetchrow(_select(_GET, collection, self.include), self.id)
        assert row is not None
        return Reading(snapshot_of(row), None if row["id"] is None else _stored(row))


@dataclass(frozen=True, slots=True)
class ListVectors:
    """The vectors whose ids follow `after`, which need not exist. `of_collection` is the id, in hex, of the collection
    that an earlier page came from."""

    after: str
    of_collection: str | None
    limit: int
    include: Include

    async def read(self, connection: Connection, collection: LiveCollection) -> Reading[VectorPage]:
        """
        Raises:
            MalformedCursorError: the earlier page came from another collection, perhaps one of the same name.
        """
        if self.of_collection not in (None, collection.collection_id.hex):
            raise MalformedCursorError("the cursor belongs to another list")
        sql = _select(_LIST, collection, self.include)
        rows = await connection.fetch(sql, self.after, self.limit + 1)
        vectors = [_stored(row) for row in rows[: self.limit] if row["id"] is not None]
        return Reading(snapshot_of(rows[0]), VectorPage(vectors, more=len(rows) > self.limit))


@dataclass(frozen=True, slots=True)
class CountVectors:
    filter: Filter | None

    async def read(self, connection: Connection, collection: LiveCollection) -> Reading[int]:
        filtered = filter_sql(self.filter or EVERYTHING, "r")
        sql = _COUNT.format(checkpoints=CHECKPOINTS, records=collection.records, condition=filtered.condition)
        row = await connection.fetchrow(sql, *filtered.values)
        assert row is not None
        return Reading(snapshot_of(row), row["count"])

    def identity(self) -> bytes:
        return repr(self).encode()

    def dump(self, found: int) -> bytes:
        return str(found).encode()

    def load(self, payload: bytes) -> int:
        return int(payload)


def _select(template: str, collection: LiveCollection, include: Include) -> str:
    join = f" LEFT JOIN {collection.embeddings} e ON e.id = r.id" if include.embedding else ""
    return template.format(
        checkpoints=CHECKPOINTS,
        columns=f"{_COLUMNS}, e.embedding" if include.embedding else f"{_COLUMNS}, NULL AS embedding",
        records=collection.records,
        embedding_join=join,
    )


def _stored(row: asyncpg.Record) -> StoredVector:
    return StoredVector(
        id=row["id"],
        content=row["content"],
        metadata=row["metadata"],
        version=row["version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        position=row["position"],
        embedding=row["embedding"].to_list() if row["embedding"] is not None else None,
    )
