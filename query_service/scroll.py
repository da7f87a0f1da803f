"""Stored vectors page by page, in an order that no write disturbs.

A page begins behind the key of the last vector of the page before, not at an offset: what comes or goes between two
pages shifts nothing. A vector's id and the time of its creation never change, so none moves past the cursor.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from query_service.binding import Binder, binder
from query_service.catalogue import LiveCollection
from query_service.parts import DEFAULT_MAX_ANSWER_BYTES, Include
from query_service.records import RECORD_COLUMNS, StoredVector, parts_sql, stored_vector
from shared.postgres import Connection
from shared.read_model.conditions import EVERYTHING, Filter
from shared.read_model.filter_sql import filter_sql
from shared.read_model.snapshot import Reading, snapshot_of
from shared.tokens import MalformedCursorError

OrderBy = Literal["id", "created_at"]
Direction = Literal["asc", "desc"]

_PAGE = """
WITH checkpoints AS ({checkpoints})
SELECT c.low, c.high, c.log_id, {until} AS until, v.*
FROM checkpoints c LEFT JOIN LATERAL (
    {page_from}SELECT {record_columns}{columns}
    FROM {records} r{embedding_join} WHERE {behind} AND {unexpired} AND ({condition})
    ORDER BY {order} LIMIT {rows}{page_to}
) v ON true
ORDER BY {page_order}
"""

# Where a page may be larger than an answer, it ends before the first vector that would make it so; the first is always
# brought. OFFSET 0 keeps a part from being made once to be measured and once to be answered.
_BOUNDED_FROM = """SELECT * FROM (SELECT *, count(*) OVER () AS found,
           sum({row_bytes}) OVER (ORDER BY {order} ROWS UNBOUNDED PRECEDING) AS bytes,
           row_number() OVER (ORDER BY {order}) AS number FROM (
    """
_BOUNDED_TO = """ OFFSET 0) parts) bounded WHERE bytes <= {max_bytes} OR number = 1"""


@dataclass(frozen=True, slots=True)
class Place:
    """Behind this vector the next page begins. `until`: what was created later does not belong to the list; a vector
    that was deleted and created anew would come a second time."""

    id: str
    created_at: datetime
    until: datetime | None


@dataclass(frozen=True, slots=True)
class VectorPage:
    """In the order that was asked for; ids by code point. `next`: others may follow there."""

    vectors: Sequence[StoredVector]
    next: Place | None


@dataclass(frozen=True, slots=True)
class ScrollVectors:
    """`after` is where the page before ended, in the collection whose id, in hex, is `of_collection`. A page that would
    take more than `max_bytes` is shorter than `limit`."""

    after: Place | None
    of_collection: str | None
    limit: int
    include: Include
    filter: Filter | None = None
    order_by: OrderBy = "id"
    direction: Direction = "asc"
    max_bytes: int = DEFAULT_MAX_ANSWER_BYTES

    async def read(self, connection: Connection, collection: LiveCollection) -> Reading[VectorPage]:
        """
        Raises:
            MalformedCursorError: the earlier page came from another collection, perhaps one of the same name.
        """
        if self.of_collection not in (None, collection.collection_id.hex):
            raise MalformedCursorError("the cursor belongs to another list")
        dimension = collection.embedding_spec.dimension
        bounded = self.include.may_exceed(self.max_bytes, self.limit + 1, dimension)
        sql, values = self._statement(collection, bounded=bounded)
        rows = await connection.fetch(sql, *values)
        found = rows[0]["found"] if bounded and rows[0]["id"] is not None else len(rows)
        vectors = [stored_vector(row, self.include) for row in rows[: self.limit] if row["id"] is not None]
        more = found > max(len(vectors), 1)
        place = Place(vectors[-1].id, vectors[-1].created_at, rows[0]["until"]) if more else None
        return Reading(snapshot_of(rows[0]), VectorPage(vectors, place))

    def _statement(self, collection: LiveCollection, *, bounded: bool) -> tuple[str, list[Any]]:
        values: list[Any] = []
        bind = binder(values)
        order = self._order("")
        page = {"page_from": "", "page_to": ""}
        if bounded:
            row_bytes = self.include.row_bytes(collection.embedding_spec.dimension)
            page = {
                "page_from": _BOUNDED_FROM.format(row_bytes=row_bytes, order=order),
                "page_to": _BOUNDED_TO.format(max_bytes=bind(self.max_bytes, "bigint")),
            }
        parts = {
            **page,
            **parts_sql(collection, self.include, bind),
            "record_columns": RECORD_COLUMNS,
            "until": self._until(collection, bind),
            "behind": self._behind(bind),
            "order": self._order("r."),
            "page_order": self._order("v."),
            "rows": bind(self.limit + 1, "bigint"),
        }
        wanted = self.filter or EVERYTHING
        condition = filter_sql(wanted, "r", collection.metadata_indexes, first=len(values) + 1)
        return _PAGE.format(**parts, condition=condition.condition), [*values, *condition.values]

    @property
    def _keys(self) -> tuple[str, ...]:
        return ("id",) if self.order_by == "id" else ("created_at", "id")

    def _order(self, table: str) -> str:
        return ", ".join(f"{table}{key} {self.direction}" for key in self._keys)

    def _until(self, collection: LiveCollection, bind: Binder) -> str:
        """The list ends with what was there when it began; backwards, and in order of id, that is so by itself."""
        if self.order_by == "id" or self.direction == "desc":
            return "NULL::timestamptz"
        if self.after is not None:
            return bind(self.after.until, "timestamptz")
        return f"(SELECT max(created_at) FROM {collection.records})"  # noqa: S608

    def _behind(self, bind: Binder) -> str:
        if self.after is None:
            return "true"
        comparison = ">" if self.direction == "asc" else "<"
        if self.order_by == "id":
            return f"r.id {comparison} {bind(self.after.id, 'text')}"
        keys = f"({bind(self.after.created_at, 'timestamptz')}, {bind(self.after.id, 'text')})"
        behind = f"(r.created_at, r.id) {comparison} {keys}"
        if self.after.until is None:
            return behind
        return f"{behind} AND r.created_at <= {bind(self.after.until, 'timestamptz')}"

    def digest(self) -> str:
        """What the pages of one list have in common, as a cursor carries it."""
        what = repr((self.filter, self.order_by, self.direction))
        return hashlib.blake2b(what.encode(), digest_size=8).hexdigest()
