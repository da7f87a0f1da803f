"""Reads of stored vectors: one by its id, all in order of id, and how many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from query_service.binding import Binder, binder
from query_service.catalogue import LiveCollection
from query_service.filter_sql import filter_sql
from query_service.parts import DEFAULT_MAX_ANSWER_BYTES, Include, stored_text
from query_service.snapshot import CHECKPOINTS, Reading, snapshot_of
from shared.postgres import Connection
from shared.read_model.conditions import EVERYTHING, Filter
from shared.tokens import MalformedCursorError

_GET = """
WITH checkpoints AS ({checkpoints})
SELECT c.low, c.high, c.log_id, v.*
FROM checkpoints c LEFT JOIN (
    SELECT r.id, r.version, r.created_at, r.updated_at, r.position{columns}
    FROM {records} r{embedding_join} WHERE r.id = $1
) v ON true
"""

# Keyed by id and not by offset: rows that come or go between two pages shift nothing.
_LIST = """
WITH checkpoints AS ({checkpoints})
SELECT c.low, c.high, c.log_id, v.*
FROM checkpoints c LEFT JOIN LATERAL (
    {page_from}SELECT r.id, r.version, r.created_at, r.updated_at, r.position{columns}
    FROM {records} r{embedding_join} WHERE r.id > $1 ORDER BY r.id LIMIT $2{page_to}
) v ON true
ORDER BY v.id
"""

# Where a page may be larger than an answer, it ends before the first vector that would make it so; the first is always
# brought. OFFSET 0 keeps a part from being made once to be measured and once to be answered.
_BOUNDED_FROM = """SELECT * FROM (SELECT *, count(*) OVER () AS found,
           sum({row_bytes}) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) AS bytes,
           row_number() OVER (ORDER BY id) AS number FROM (
    """
_BOUNDED_TO = """ OFFSET 0) parts) bounded WHERE bytes <= {max_bytes} OR number = 1"""

_COUNT = """
WITH checkpoints AS ({checkpoints})
SELECT c.low, c.high, c.log_id, (SELECT count(*) FROM {records} r WHERE {condition}) AS count
FROM checkpoints c
"""


@dataclass(frozen=True, slots=True)
class StoredVector:
    """`metadata` is JSON text, `embedding` base64 of little-endian float32. What was not asked for is None."""

    id: str
    content: str | None
    metadata: str | None
    version: int
    created_at: datetime
    updated_at: datetime
    position: int
    embedding: str | None


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
        values: list[Any] = [self.id]
        sql = _GET.format(**_parts_sql(collection, self.include, binder(values)))
        row = await connection.fetchrow(sql, *values)
        assert row is not None
        return Reading(snapshot_of(row), None if row["id"] is None else _stored(row, self.include))


@dataclass(frozen=True, slots=True)
class ListVectors:
    """The vectors whose ids follow `after`, which need not exist. `of_collection` is the id, in hex, of the collection
    that an earlier page came from. A page that would take more than `max_bytes` is shorter than `limit`."""

    after: str
    of_collection: str | None
    limit: int
    include: Include
    max_bytes: int = DEFAULT_MAX_ANSWER_BYTES

    async def read(self, connection: Connection, collection: LiveCollection) -> Reading[VectorPage]:
        """
        Raises:
            MalformedCursorError: the earlier page came from another collection, perhaps one of the same name.
        """
        if self.of_collection not in (None, collection.collection_id.hex):
            raise MalformedCursorError("the cursor belongs to another list")
        values: list[Any] = [self.after, self.limit + 1]
        bind = binder(values)
        dimension = collection.embedding_spec.dimension
        bounded = self.include.may_exceed(self.max_bytes, self.limit + 1, dimension)
        page = {"page_from": "", "page_to": ""}
        if bounded:
            page = {
                "page_from": _BOUNDED_FROM.format(row_bytes=self.include.row_bytes(dimension)),
                "page_to": _BOUNDED_TO.format(max_bytes=bind(self.max_bytes, "bigint")),
            }
        rows = await connection.fetch(_LIST.format(**_parts_sql(collection, self.include, bind), **page), *values)
        found = rows[0]["found"] if bounded and rows[0]["id"] is not None else len(rows)
        vectors = [_stored(row, self.include) for row in rows[: self.limit] if row["id"] is not None]
        return Reading(snapshot_of(rows[0]), VectorPage(vectors, more=found > max(len(vectors), 1)))


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


def _parts_sql(collection: LiveCollection, include: Include, bind: Binder) -> dict[str, str]:
    join = f" LEFT JOIN {collection.embeddings} v ON {collection.key.same('v', 'r')}" if include.embedding else ""
    return {
        "checkpoints": CHECKPOINTS,
        "columns": include.columns(bind),
        "records": collection.records,
        "embedding_join": join,
    }


def _stored(row: asyncpg.Record, include: Include) -> StoredVector:
    return StoredVector(
        id=row["id"],
        content=row["content"],
        metadata=include.narrowed(row["metadata"]),
        version=row["version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        position=row["position"],
        embedding=stored_text(row["embedding"]),
    )
