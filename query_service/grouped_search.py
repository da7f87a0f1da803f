"""Nearest vectors by groups: those that share a value of a metadata field, so many of each group and so many groups.

The nearest vectors by the index show which groups are the nearest ones; groups of which too few are among them are
filled from all their members. Where there are too few groups, because a large one has the whole neighbourhood, every
vector that matches is compared. All of it reads one snapshot.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import asyncpg
import orjson

from query_service.binding import Binder, binder
from query_service.catalogue import LiveCollection
from query_service.metadata_fields import MetadataFields
from query_service.parts import Include
from query_service.search import MAX_K, Hit, Hits, SearchVectors, explain_statement, hit_values
from shared.postgres import Connection
from shared.read_model import jsonpaths
from shared.read_model.conditions import EVERYTHING
from shared.read_model.expiry import earliest
from shared.read_model.fields import MetadataField
from shared.read_model.filter_sql import filter_sql
from shared.read_model.snapshot import CHECKPOINTS, Reading, one_snapshot, read_snapshot, snapshot_of
from shared.read_model.tables import DISTANCE_OPERATORS

Value = str | int | float | bool

_TIMES_AS_MANY = 4
"""So many times the hits that are asked for are looked at for groups, at least."""

_STORED = """
SELECT e.embedding, {expiry} AS expires_at
FROM {records} r JOIN {embeddings} e ON {e_is_r} WHERE r.id = $1 AND {unexpired}
"""

_FILL = """
SELECT g.number, m.id, m.distance
FROM unnest({paths}) WITH ORDINALITY g(path, number) CROSS JOIN LATERAL (
    SELECT f.id, d.distance
    FROM {records} f CROSS JOIN LATERAL (
        SELECT (e.embedding {operator} {embedding}) + 0 AS distance FROM {embeddings} e WHERE {e_is_f} OFFSET 0
    ) d
    WHERE f.metadata @@ g.path::jsonpath AND f.id <> ALL({excluded}) AND {unexpired} AND ({condition})
    ORDER BY d.distance, f.id LIMIT {per_group}
) m
ORDER BY g.number, m.distance, m.id
"""

_EXACTLY = """
WITH members AS (
    SELECT DISTINCT f.id, (e.embedding {operator} {embedding}) + 0 AS distance, v.value
    FROM {records} f JOIN {embeddings} e ON {e_is_f}
    CROSS JOIN LATERAL jsonb_path_query(f.metadata, {field}::jsonpath) v(value)
    WHERE jsonb_typeof(v.value) IN ('string', 'number', 'boolean') AND f.id <> ALL({excluded}) AND {unexpired}
      AND ({condition})
),
placed AS (
    SELECT *, row_number() OVER (PARTITION BY value ORDER BY distance, id) AS place FROM members
),
groups AS (
    SELECT value, row_number() OVER (ORDER BY distance, id, value::text COLLATE "C") AS number
    FROM placed WHERE place = 1 ORDER BY number LIMIT {groups}
)
SELECT g.number, g.value, p.id, p.distance
FROM groups g JOIN placed p USING (value)
WHERE p.place <= {per_group}
ORDER BY g.number, p.place
"""

_PARTS = """
WITH checkpoints AS ({checkpoints})
SELECT c.low, c.high, c.log_id, h.*
FROM checkpoints c LEFT JOIN LATERAL (
    {hits_from}SELECT nearest.id, nearest.distance, r.version{columns}
    FROM unnest({ids}, {distances}) nearest(id, distance)
    JOIN {records} r ON r.id = nearest.id{embedding_join}{hits_to}
) h ON true
"""


@dataclass(frozen=True, slots=True)
class Group:
    """The vectors that have `value` in the field, the nearest first."""

    value: Value
    hits: Sequence[Hit]


@dataclass(frozen=True, slots=True)
class Groups:
    """In order of their nearest hits. There are as many as were asked for, or no more that match."""

    groups: Sequence[Group]
    explanation: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class _Member:
    id: str
    distance: float


_Members = list[tuple[Value, list[_Member]]]


@dataclass(frozen=True, slots=True)
class GroupedSearch:
    """`search` says what is looked for and how; its `k` is `groups` times `per_group`. A vector whose field is an array
    belongs to the group of each element; one that has no text, number or boolean there belongs to none."""

    search: SearchVectors
    field: MetadataField
    groups: int
    per_group: int

    async def read(self, connection: Connection, collection: LiveCollection) -> Reading[Groups | None]:
        """None: the stored vector that the search is about is not there.

        Raises:
            As a search.
        """
        self.search.check(collection)
        async with one_snapshot(connection):
            placed = await self._placed(connection, collection)
            if placed is None:
                return Reading(await read_snapshot(connection), None)
            search, origin_expires_at = placed
            members, explanation = await self._members(connection, collection, search)
            rows = await self._with_parts(connection, collection, search, members)
            by_id = {hit.id: hit for hit in search.hits_in(rows, collection)}
        found = [Group(value, [by_id[one.id] for one in of if one.id in by_id]) for value, of in members]
        groups = Groups([group for group in found if group.hits], explanation)
        return Reading(snapshot_of(rows[0]), groups, earliest(origin_expires_at, *(row["expires_at"] for row in rows)))

    async def _placed(
        self, connection: Connection, collection: LiveCollection
    ) -> tuple[SearchVectors, datetime | None] | None:
        """The search from an embedding, also where it is about a stored vector, and when that expires; None: it is not
        there."""
        if not isinstance(self.search.origin, str):
            return self.search, None
        sql = _STORED.format(
            expiry=collection.expiry.instant("r"),
            records=collection.records,
            embeddings=collection.embeddings,
            e_is_r=collection.key.same("e", "r"),
            unexpired=collection.expiry.unexpired("r"),
        )
        stored = await connection.fetchrow(sql, self.search.origin)
        if stored is None:
            return None
        origin = stored["embedding"].to_numpy().astype("float32")
        return replace(self.search, origin=origin, excluded=(self.search.origin,)), stored["expires_at"]

    async def _members(
        self, connection: Connection, collection: LiveCollection, search: SearchVectors
    ) -> tuple[_Members, dict[str, Any] | None]:
        kind = "exact"
        if not search.exact:
            wanted = min(max(search.ef_search, _TIMES_AS_MANY * search.k), MAX_K)
            nearest = await self._nearest(connection, collection, search, wanted)
            members = self._by_value(nearest.hits)
            if len(members) >= self.groups or len(nearest.hits) < wanted:
                if len(nearest.hits) == wanted:
                    await self._fill(connection, collection, search, members)
                return members, nearest.explanation
            kind = "finished_exactly"
        statement = self._exactly(collection, search)
        sql, values = statement
        found: _Members = []
        for row in await connection.fetch(sql, *values):
            if row["number"] > len(found):
                found.append((orjson.loads(row["value"]), []))
            found[-1][1].append(_Member(row["id"], row["distance"]))
        search.metrics.searches.labels(kind).inc()
        explanation = await explain_statement(connection, collection, statement, kind) if search.explain else None
        return found, explanation

    async def _nearest(
        self, connection: Connection, collection: LiveCollection, search: SearchVectors, wanted: int
    ) -> Hits:
        only = Include(content=False, fields=MetadataFields(only=(self.field.path,)))
        reading = await replace(search, k=wanted, include=only, min_score=None).read(connection, collection)
        assert reading.found is not None
        return reading.found

    def _by_value(self, hits: Iterable[Hit]) -> _Members:
        members: dict[tuple[bool, Value], tuple[Value, list[_Member]]] = {}
        for hit in hits:
            assert hit.metadata is not None
            for value in values_at(orjson.loads(hit.metadata), self.field.path):
                # 1 and 1.0 are the same, true is another.
                _, of = members.setdefault((isinstance(value, bool), value), (value, []))
                if len(of) < self.per_group:
                    of.append(_Member(hit.id, hit.distance))
        return list(members.values())[: self.groups]

    async def _fill(
        self, connection: Connection, collection: LiveCollection, search: SearchVectors, members: _Members
    ) -> None:
        lacking = [(value, of) for value, of in members if len(of) < self.per_group]
        if not lacking:
            return
        values: list[Any] = []
        bind = binder(values)
        paths = [jsonpaths.is_one_of(self.field.path, [value]) for value, _ in lacking]
        parts = self._compared(collection, search, bind) | {"paths": bind(paths, "text[]")}
        condition = filter_sql(search.filter or EVERYTHING, "f", first=len(values) + 1)
        rows = await connection.fetch(_FILL.format(**parts, condition=condition.condition), *values, *condition.values)
        for number, (_, of) in enumerate(lacking, start=1):
            of[:] = [_Member(row["id"], row["distance"]) for row in rows if row["number"] == number]

    def _exactly(self, collection: LiveCollection, search: SearchVectors) -> tuple[str, list[Any]]:
        values: list[Any] = []
        bind = binder(values)
        parts = self._compared(collection, search, bind) | {
            "field": bind(jsonpaths.elements(self.field.path), "text"),
            "groups": bind(self.groups, "bigint"),
        }
        wanted = search.filter or EVERYTHING
        condition = filter_sql(wanted, "f", collection.metadata_indexes, first=len(values) + 1)
        values += condition.values
        return _EXACTLY.format(**parts, condition=condition.condition), values

    def _compared(self, collection: LiveCollection, search: SearchVectors, bind: Binder) -> dict[str, str]:
        return {
            "records": collection.records,
            "embeddings": collection.embeddings,
            "e_is_f": collection.key.same("e", "f"),
            "operator": DISTANCE_OPERATORS[collection.metric],
            "embedding": bind(search.origin, collection.type),
            "excluded": bind(list(search.excluded), "text[]"),
            "per_group": bind(self.per_group, "bigint"),
            "unexpired": collection.expiry.unexpired("f"),
        }

    async def _with_parts(
        self, connection: Connection, collection: LiveCollection, search: SearchVectors, members: _Members
    ) -> Sequence[asyncpg.Record]:
        distances = {one.id: one.distance for _, of in members for one in of}
        values: list[Any] = []
        bind = binder(values)
        include = search.include
        sql = _PARTS.format(
            checkpoints=CHECKPOINTS,
            **search.bounds(collection, bind),
            columns=search.columns(collection, bind),
            ids=bind(list(distances), "text[]"),
            distances=bind(list(distances.values()), "float8[]"),
            records=collection.records,
            embedding_join=f" JOIN {collection.embeddings} v ON v.id = nearest.id" if include.embedding else "",
        )
        return await connection.fetch(sql, *values)

    def identity(self) -> bytes:
        what = (self.field, self.groups, self.per_group)
        return b"groups:" + repr(what).encode() + self.search.identity()

    def dump(self, found: Groups | None) -> bytes:
        if found is None:
            return orjson.dumps(None)
        return orjson.dumps([[group.value, [hit_values(hit) for hit in group.hits]] for group in found.groups])

    def load(self, payload: bytes) -> Groups | None:
        kept = orjson.loads(payload)
        if kept is None:
            return None
        return Groups([Group(value, [Hit(*values) for values in hits]) for value, hits in kept])


def values_at(metadata: Any, path: Sequence[str]) -> list[Value]:
    """Texts, numbers and booleans that the path reaches, each once, in order of their JSON: as filters reach them, an
    array stands for its elements."""
    at = [metadata]
    for name in path:
        at = [one[name] for one in _unwrapped(at) if isinstance(one, dict) and name in one]
    found = {(isinstance(one, bool), one): one for one in _unwrapped(at) if isinstance(one, str | int | float | bool)}
    return sorted(found.values(), key=orjson.dumps)


def _unwrapped(values: Iterable[Any]) -> list[Any]:
    return [one for value in values for one in (value if isinstance(value, list) else [value])]
