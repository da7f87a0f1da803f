"""Nearest neighbours of an embedding or of a stored vector: by the index, or exactly.

pgvector's settings travel inside the statement, so a search is one round trip and needs no session of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import asyncpg
import orjson

from events_schema.collections import Metric
from events_schema.embedding import EmbeddingSpec, Float32Array
from query_service import filtered_search
from query_service.binding import Binder, binder
from query_service.catalogue import LiveCollection
from query_service.errors import DimensionMismatchError, NotFiniteError, ZeroVectorError
from query_service.index_scans import filtered_scan_settings, scan_settings
from query_service.metrics import QueryMetrics
from query_service.parts import DEFAULT_MAX_ANSWER_BYTES, Include, check_answer_bytes, stored_text
from shared.embedding.errors import ModelMismatchError
from shared.embedding_input import EmbeddingFault, embedding_fault
from shared.postgres import Connection
from shared.read_model.conditions import EVERYTHING, Filter
from shared.read_model.expiry import earliest
from shared.read_model.filter_sql import filter_sql
from shared.read_model.indexed_filters import dated_part, indexed_part
from shared.read_model.snapshot import CHECKPOINTS, Reading, snapshot_of
from shared.read_model.tables import DISTANCE_OPERATORS

MAX_K = 1_000

# The gate in `nearest` refers to `settings`, so PostgreSQL cannot begin the index scan, which reads the settings
# when it begins, before they are made. The subselect's limit is what keeps the join with `records` to k rows.
_SEARCH_INDEX = """
WITH checkpoints AS ({checkpoints}),
settings AS MATERIALIZED (SELECT {settings})
SELECT c.low, c.high, c.log_id, {is_there} AS is_there, {origin_expires_at} AS origin_expires_at, 'index' AS scan, h.*
FROM checkpoints c LEFT JOIN LATERAL (
    {hits_from}SELECT nearest.id, nearest.distance, r.version{columns}
    FROM settings CROSS JOIN LATERAL (
        SELECT {key_e}, e.embedding {operator} {embedding} AS distance
        FROM {embeddings} e
        WHERE settings.first IS NOT NULL{excluded}
        ORDER BY e.embedding {operator} {embedding} LIMIT {k}
    ) nearest
    JOIN {records} r ON {r_is_nearest}{embedding_join}{hits_to}
) h ON true
ORDER BY h.distance, h.id
"""

# The addition makes the order another expression than the index's: it cannot serve this one, not even in part.
_SEARCH_EXACTLY = """
WITH checkpoints AS ({checkpoints})
SELECT c.low, c.high, c.log_id, {is_there} AS is_there, {origin_expires_at} AS origin_expires_at, 'exact' AS scan, h.*
FROM checkpoints c LEFT JOIN LATERAL (
    {hits_from}SELECT nearest.id, nearest.distance, r.version{columns}
    FROM (
        SELECT {key_e}, (e.embedding {operator} {embedding}) + 0 AS distance
        FROM {embeddings} e
        WHERE true{excluded}
        ORDER BY distance, e.id LIMIT {k}
    ) nearest
    JOIN {records} r ON {r_is_nearest}{embedding_join}{hits_to}
) h ON true
ORDER BY h.distance, h.id
"""


# Where the hits may be larger than an answer, none of their parts are read once it is known that they are: without the
# parts they are few bytes. OFFSET 0 keeps a part from being made once to be measured and once to be answered.
_BOUNDED_FROM = """SELECT id, distance, version, expires_at, expired, bytes,
           CASE WHEN bytes <= {max_bytes} THEN content END AS content,
           CASE WHEN bytes <= {max_bytes} THEN metadata END AS metadata,
           CASE WHEN bytes <= {max_bytes} THEN embedding END AS embedding
    FROM (SELECT *, sum({row_bytes}) OVER () AS bytes FROM (
    """
_BOUNDED_TO = """ OFFSET 0) parts) bounded"""


@dataclass(frozen=True, slots=True)
class Hit:
    """`distance` as pgvector gives it, lower is nearer; `score`: higher is nearer. `metadata` is JSON text, `embedding`
    base64 of little-endian float32. What was not asked for is None."""

    id: str
    score: float
    distance: float
    version: int
    content: str | None
    metadata: str | None
    embedding: str | None


_HIT_FIELDS = tuple(field.name for field in fields(Hit))


@dataclass(frozen=True, slots=True)
class Hits:
    """In order of distance, then id. `complete`: either k vectors were found or there are no more that match.
    `explanation`: how they were found, if that was asked for."""

    hits: Sequence[Hit]
    complete: bool
    explanation: dict[str, Any] | None = None


_EXPLAIN = "EXPLAIN (ANALYZE, VERBOSE, BUFFERS, SETTINGS, FORMAT JSON) "


@dataclass(frozen=True, slots=True)
class SearchVectors:
    """`origin` is an embedding, float32, shape (dimension,), or the id of a stored vector, which is left out of the
    hits, as are those with the ids `excluded`. `min_score` leaves out hits below it. `explain` runs the statement once
    more to see how it is done. `spec` is what the origin was embedded under, where that is known."""

    origin: Float32Array | str
    k: int
    filter: Filter | None
    ef_search: int
    exact: bool
    min_score: float | None
    include: Include
    metrics: QueryMetrics
    explain: bool = False
    spec: EmbeddingSpec | None = None
    max_bytes: int = DEFAULT_MAX_ANSWER_BYTES
    excluded: tuple[str, ...] = ()

    async def read(self, connection: Connection, collection: LiveCollection) -> Reading[Hits | None]:
        """None: the stored vector is not there.

        Raises:
            DimensionMismatchError, NotFiniteError, ZeroVectorError: the embedding is none of the collection's kind.
            ModelMismatchError: the collection's model was changed since the origin was embedded.
            AnswerTooLargeError: the hits take more than `max_bytes`.
        """
        self.check(collection)
        statement = self.statement(collection, self.settings(collection))
        rows = await _run(connection, statement)
        kind: str = rows[0]["scan"]
        if kind == "index" and rows[0]["is_there"] and _found(rows) < self.k and not _has_expired(rows):
            # A graph may have parts that a scan cannot reach.
            statement = self.statement(collection, None)
            rows = await _run(connection, statement)
            kind = "finished_exactly"
        if rows[0]["is_there"] and _has_expired(rows):
            # What no event has deleted yet stands in the places of others.
            settings = self.settings(collection, only_unexpired=True)
            statement = self.statement(collection, settings, only_unexpired=True)
            rows = await _run(connection, statement)
            kind = rows[0]["scan"]
        if not rows[0]["is_there"]:
            return Reading(snapshot_of(rows[0]), None)
        hits = self.hits_in(rows, collection)
        self.metrics.searches.labels(kind).inc()
        explanation = await explain_statement(connection, collection, statement, kind) if self.explain else None
        valid_until = earliest(rows[0]["origin_expires_at"], *(row["expires_at"] for row in rows))
        return Reading(snapshot_of(rows[0]), Hits(hits, complete=True, explanation=explanation), valid_until)

    def check(self, collection: LiveCollection) -> None:
        """
        Raises:
            DimensionMismatchError, NotFiniteError, ZeroVectorError, ModelMismatchError
        """
        self.check_spec(collection)
        if not isinstance(self.origin, str):
            check_embedding(collection, self.origin)

    def check_spec(self, collection: LiveCollection) -> None:
        """
        Raises:
            ModelMismatchError
        """
        if self.spec not in (None, collection.embedding_spec):
            raise ModelMismatchError(collection.embedding_spec, "and the query was embedded before they became that")

    @property
    def _filter(self) -> Filter | None:
        """None: there is nothing to check."""
        return None if self.filter == EVERYTHING else self.filter

    def settings(self, collection: LiveCollection, *, only_unexpired: bool = False) -> Mapping[str, str] | None:
        """For `statement`. None: the index is not used."""
        if self.exact:
            return None
        if self._filter is not None or only_unexpired:
            return filtered_scan_settings(collection)
        return scan_settings(collection, self.k, self.ef_search)

    def identity(self) -> bytes:
        what = (
            self.k, self.filter, self.ef_search, self.exact, self.min_score, self.include, self.spec, self.excluded
        )  # fmt: skip
        origin = b"id:" + self.origin.encode() if isinstance(self.origin, str) else b"at:" + self.origin.tobytes()
        return b"search:" + repr(what).encode() + origin

    def dump(self, found: Hits | None) -> bytes:
        if found is None:
            return orjson.dumps(None)
        return orjson.dumps([found.complete, [hit_values(hit) for hit in found.hits]])

    def load(self, payload: bytes) -> Hits | None:
        return kept_hits(orjson.loads(payload))

    def statement(
        self, collection: LiveCollection, settings: Mapping[str, str] | None, *, only_unexpired: bool = False
    ) -> tuple[str, list[Any]]:
        """The SQL and its parameters' values: through the index, scanned by these settings, or exactly. What has
        expired is among the hits, and marked; `only_unexpired`: the search is for what has not, as for what matches a
        filter."""
        values: list[Any] = []
        bind = binder(values)
        key = collection.key
        if isinstance(self.origin, str):
            vector_id = bind(self.origin, "text")
            origin_record = f"FROM {collection.records} o WHERE o.id = {vector_id}"
            # A vector that has no embedding is there for whoever lists it, and nowhere to search from.
            has_embedding = f"EXISTS (SELECT FROM {collection.embeddings} WHERE id = {vector_id})"
            is_there = f"EXISTS (SELECT {origin_record} AND {collection.expiry.unexpired('o')} AND {has_embedding})"
            origin_expires_at = f"(SELECT {collection.expiry.instant('o')} {origin_record})"
            excluded = f" AND e.id <> {vector_id}"
            embedding = f"(SELECT embedding FROM {collection.embeddings} WHERE id = {vector_id})"  # noqa: S608
        else:
            is_there, origin_expires_at, excluded = "true", "NULL::timestamptz", ""
            embedding = bind(self.origin, collection.type)
        if self.excluded:
            excluded += f" AND e.id <> ALL({bind(list(self.excluded), 'text[]')})"
        parts = {
            "checkpoints": CHECKPOINTS,
            "is_there": is_there,
            "origin_expires_at": origin_expires_at,
            "excluded": excluded,
            "columns": self.columns(collection, bind),
            **self.bounds(collection, bind),
            "operator": DISTANCE_OPERATORS[collection.metric],
            "embedding": embedding,
            "k": bind(self.k, "bigint"),
            "embeddings": collection.embeddings,
            "records": collection.records,
            "embedding_join": f" JOIN {collection.embeddings} v ON {key.same('v', 'nearest')}"
            if self.include.embedding
            else "",
            "key_e": key.of("e"),
            "r_is_nearest": key.same("r", "nearest"),
        }
        if self._filter is not None or only_unexpired:
            wanted = self.filter or EVERYTHING
            condition = filter_sql(wanted, "f", first=len(values) + 1)
            values += condition.values
            indexes = collection.metadata_indexes
            looked_up = filter_sql(wanted, "f", indexes, first=len(values) + 1)
            values += looked_up.values
            lives = f"{collection.expiry.unexpired('f')} AND " if only_unexpired else ""
            by_index = filter_sql(indexed_part(wanted, indexes), "f", first=len(values) + 1)
            values += by_index.values
            dated = {}
            within = dated_filter(collection, wanted)
            for table in ("e", "f"):
                of_table = filter_sql(within, table, first=len(values) + 1)
                dated[table] = of_table.condition
                values += of_table.values
            sql = filtered_search.STATEMENT.format(
                **parts,
                condition=f"{lives}({condition.condition})",
                looked_up=f"{lives}({looked_up.condition})",
                by_index=by_index.condition,
                e_is_dated=dated["e"],
                f_is_dated=dated["f"],
                key_m=key.of("m"),
                key_f=key.of("f"),
                key_n=key.of("n"),
                key_h=key.of("h"),
                f_is_n=key.same("f", "n"),
                e_is_m=key.same("e", "m"),
                f_is_e=key.same("f", "e"),
                wanted=bind(max(self.ef_search, 2 * self.k), "bigint"),
                exactly="true" if settings is None else "false",
                settings=_made(settings or {"hnsw.ef_search": "'40'"}),
            )
            return sql, values
        if settings is None:
            return _SEARCH_EXACTLY.format(**parts), values
        bound = {name: bind(value, "text") for name, value in settings.items()}
        return _SEARCH_INDEX.format(settings=_made(bound), **parts), values

    def _is_bounded(self, collection: LiveCollection) -> bool:
        return self.include.may_exceed(self.max_bytes, self.k, collection.embedding_spec.dimension)

    def columns(self, collection: LiveCollection, bind: Binder) -> str:
        """SQL for what a hit brings of the record `r` and the embedding of `v`."""
        instant = collection.expiry.instant("r")
        return (
            f"{self.include.columns(bind)}, {instant} AS expires_at, {instant} <= {collection.expiry.clock} AS expired"
        )

    def bounds(self, collection: LiveCollection, bind: Binder) -> dict[str, str]:
        """SQL around the hits that keeps what is larger than `max_bytes` from being read."""
        if not self._is_bounded(collection):
            return {"hits_from": "", "hits_to": ""}
        row_bytes = self.include.row_bytes(collection.embedding_spec.dimension)
        hits_from = _BOUNDED_FROM.format(row_bytes=row_bytes, max_bytes=bind(self.max_bytes, "bigint"))
        return {"hits_from": hits_from, "hits_to": _BOUNDED_TO}

    def hits_in(self, rows: Sequence[asyncpg.Record], collection: LiveCollection) -> list[Hit]:
        """
        Raises:
            AnswerTooLargeError, NotFiniteError
        """
        hits = [self._hit(row, collection.metric) for row in rows if row["id"] is not None]
        if hits and self._is_bounded(collection):
            check_answer_bytes(rows[0]["bytes"], self.max_bytes)
        return [hit for hit in hits if self.min_score is None or hit.score >= self.min_score]

    def _hit(self, row: asyncpg.Record, metric: Metric) -> Hit:
        distance: float = row["distance"]
        if not math.isfinite(distance):
            raise NotFiniteError("a distance to this embedding is not finite in 32-bit floating point")
        return Hit(
            id=row["id"],
            score=score(metric, distance),
            distance=distance,
            version=row["version"],
            content=row["content"],
            metadata=self.include.narrowed(row["metadata"]),
            embedding=stored_text(row["embedding"]),
        )


async def explain_statement(
    connection: Connection, collection: LiveCollection, statement: tuple[str, list[Any]], kind: str
) -> dict[str, Any]:
    """Runs the SQL once more, with its parameters' values. `kind`: how it was searched."""
    sql, values = statement
    [plan] = orjson.loads(await connection.fetchval(_EXPLAIN + sql, *values))
    return {
        "scan": kind,
        "generation": collection.generation,
        "indexes": sorted({node["Index Name"] for node in _executed(plan["Plan"]) if "Index Name" in node}),
        "planning_ms": plan["Planning Time"],
        "execution_ms": plan["Execution Time"],
        "plan": plan["Plan"],
    }


def hit_values(hit: Hit) -> list[Any]:
    """In the order in which a `Hit` takes them."""
    return [getattr(hit, name) for name in _HIT_FIELDS]


def kept_hits(kept: Any) -> Hits | None:
    """From JSON as `SearchVectors.dump` gives it."""
    return None if kept is None else Hits([Hit(*values) for values in kept[1]], complete=kept[0])


def dated_filter(collection: LiveCollection, parsed: Filter) -> Filter:
    """What of the filter tells the collection's month partitions apart; it holds for the embeddings too."""
    return dated_part(parsed) if collection.month_partitions else EVERYTHING


def _made(settings: Mapping[str, str]) -> str:
    """The settings, each by its name and a SQL expression, as columns; the first of them is called `first`."""
    made = [f"set_config('{name}', {value}, true)" for name, value in settings.items()]
    return ", ".join((f"{made[0]} AS first", *made[1:]))


def _executed(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The nodes of a plan that had anything to do, from the top."""
    if plan["Actual Loops"]:
        yield plan
    for inner in plan.get("Plans", ()):
        yield from _executed(inner)


async def _run(connection: Connection, statement: tuple[str, list[Any]]) -> list[asyncpg.Record]:
    sql, values = statement
    return await connection.fetch(sql, *values)


def _found(rows: Sequence[asyncpg.Record]) -> int:
    return sum(row["id"] is not None for row in rows)


def _has_expired(rows: Sequence[asyncpg.Record]) -> bool:
    return any(row["expired"] for row in rows)


def score(metric: Metric, distance: float) -> float:
    """Higher is nearer: cosine 1 - d, ip the inner product (pgvector's distance is its negative), l2 1 / (1 + d)."""
    match metric:
        case "cosine":
            return 1.0 - distance
        case "ip":
            return -distance
        case "l2":
            return 1.0 / (1.0 + distance)


def check_embedding(collection: LiveCollection, embedding: Float32Array) -> None:
    """
    Raises:
        DimensionMismatchError, NotFiniteError, ZeroVectorError
    """
    dimension = collection.embedding_spec.dimension
    if embedding.size != dimension:
        raise DimensionMismatchError(dimension, int(embedding.size))
    fault = embedding_fault(embedding, collection.metric, collection.type)
    match fault:
        case None:
            return
        case EmbeddingFault("zero-vector"):
            raise ZeroVectorError(fault.rule)
        case _:
            raise NotFiniteError(fault.rule)
