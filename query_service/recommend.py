"""Vectors like some examples and unlike others, in one snapshot with the examples that are stored there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from pgvector import HalfVector, Vector

from events_schema.embedding import Float32Array
from query_service.binding import binder
from query_service.catalogue import LiveCollection
from query_service.errors import (
    DimensionMismatchError,
    ExamplesNotFoundError,
    NotFiniteError,
    RefusedPartError,
    UnusableExamplesError,
    ZeroVectorError,
)
from query_service.search import Hits, SearchVectors, check_embedding, dated_filter, explain_statement
from shared.embedding_input import embedding_fault
from shared.postgres import Connection
from shared.read_model.conditions import EVERYTHING
from shared.read_model.expiry import earliest
from shared.read_model.filter_sql import filter_sql
from shared.read_model.snapshot import CHECKPOINTS, Reading, one_snapshot, snapshot_of
from shared.read_model.tables import DISTANCE_OPERATORS

Strategy = Literal["average_vector", "best_score"]

_EXAMPLES = """
SELECT r.id, e.embedding, {expiry} AS expires_at
FROM {records} r JOIN {embeddings} e ON {e_is_r} WHERE r.id = ANY($1::text[]) AND {unexpired}
"""

# OFFSET 0 keeps the two distances of a vector from being taken again to sort and to filter.
_BEST_SCORE = """
WITH checkpoints AS ({checkpoints})
SELECT c.low, c.high, c.log_id, h.*
FROM checkpoints c LEFT JOIN LATERAL (
    {hits_from}SELECT nearest.id, nearest.distance, r.version{columns}
    FROM (
        SELECT {key_e}, d.distance
        FROM {embeddings} e JOIN {records} f ON {f_is_e}
        CROSS JOIN LATERAL (SELECT {to_positive} AS distance, {to_negative} AS unlike OFFSET 0) d
        WHERE e.id <> ALL({excluded}) AND {unexpired} AND ({condition}) AND ({e_is_dated})
          AND (d.unlike IS NULL OR d.distance < d.unlike)
        ORDER BY d.distance, e.id LIMIT {k}
    ) nearest
    JOIN {records} r ON {r_is_nearest}{embedding_join}{hits_to}
) h ON true
ORDER BY h.distance, h.id
"""


@dataclass(frozen=True, slots=True)
class RecommendVectors:
    """Examples are embeddings, float32, shape (dimension,), or ids of stored vectors, which are left out of the hits;
    at least one is positive. `search` says how it is searched; its origin is of no account.

    `average_vector` looks for the neighbours of one point: twice the average of the positive examples less that of the
    negative ones, each taken at length 1 under cosine; without negative ones, the average. `best_score` ranks by the
    nearest positive example, and leaves out what is as near to a negative one; it compares with every vector.
    """

    positive: Sequence[Float32Array | str]
    negative: Sequence[Float32Array | str]
    strategy: Strategy
    search: SearchVectors

    async def read(self, connection: Connection, collection: LiveCollection) -> Reading[Hits]:
        """
        Raises:
            ExamplesNotFoundError: stored vectors among the examples that are not there.
            RefusedPartError: an embedding is none of the collection's kind.
            UnusableExamplesError: the point between the examples has no distances.
            AnswerTooLargeError, NotFiniteError, ModelMismatchError
        """
        self._check(collection)
        ids = tuple(dict.fromkeys(one for one in (*self.positive, *self.negative) if isinstance(one, str)))
        async with one_snapshot(connection):
            rows = await connection.fetch(_examples(collection), ids) if ids else ()
            stored = {row["id"]: _numbers(row["embedding"]) for row in rows}
            positive = self._found("positive", self.positive, stored)
            negative = self._found("negative", self.negative, stored)
            if missing := [*positive[1], *negative[1]]:
                raise ExamplesNotFoundError(missing)
            search = replace(self.search, excluded=ids)
            valid_until = earliest(*(row["expires_at"] for row in rows))
            if self.strategy == "best_score":
                found = await self._by_best_score(connection, collection, search, positive[0], negative[0])
                return replace(found, valid_until=earliest(valid_until, found.valid_until))
            origin = _between(positive[0], negative[0], unit=collection.metric == "cosine")
            fault = embedding_fault(origin, collection.metric, collection.type)
            if fault is not None:
                raise UnusableExamplesError(fault.problem, f"of the point between the examples: {fault.rule}")
            reading = await replace(search, origin=origin).read(connection, collection)
        assert reading.found is not None
        return Reading(reading.snapshot, reading.found, earliest(valid_until, reading.valid_until))

    def _check(self, collection: LiveCollection) -> None:
        self.search.check_spec(collection)
        for name, examples in (("positive", self.positive), ("negative", self.negative)):
            for index, example in enumerate(examples):
                if isinstance(example, str):
                    continue
                try:
                    check_embedding(collection, example)
                except (DimensionMismatchError, NotFiniteError, ZeroVectorError) as error:
                    raise RefusedPartError(f"/{name}/{index}", error) from error

    @staticmethod
    def _found(
        name: str, examples: Sequence[Float32Array | str], stored: Mapping[str, Float32Array]
    ) -> tuple[list[Float32Array], list[tuple[str, str]]]:
        """The embeddings of the examples, and address and id of those that are not there."""
        found = [stored.get(one) if isinstance(one, str) else one for one in examples]
        missing = [
            (f"/{name}/{index}/id", str(example))
            for index, (example, embedding) in enumerate(zip(examples, found, strict=True))
            if embedding is None
        ]
        return [one for one in found if one is not None], missing

    async def _by_best_score(
        self,
        connection: Connection,
        collection: LiveCollection,
        search: SearchVectors,
        positive: Sequence[Float32Array],
        negative: Sequence[Float32Array],
    ) -> Reading[Hits]:
        search = replace(search, origin=positive[0])
        search.check(collection)
        statement = _best_score(collection, search, positive, negative)
        sql, values = statement
        rows = await connection.fetch(sql, *values)
        hits = search.hits_in(rows, collection)
        search.metrics.searches.labels("exact").inc()
        explanation = await explain_statement(connection, collection, statement, "exact") if search.explain else None
        valid_until = earliest(*(row["expires_at"] for row in rows))
        return Reading(snapshot_of(rows[0]), Hits(hits, complete=True, explanation=explanation), valid_until)

    def identity(self) -> bytes:
        parts = [b"recommend:", self.strategy.encode(), replace(self.search, origin="").identity()]
        for examples in (self.positive, self.negative):
            parts.append(len(examples).to_bytes(2))
            parts += [b"i" + one.encode() if isinstance(one, str) else b"e" + one.tobytes() for one in examples]
        return b"".join(len(part).to_bytes(4) + part for part in parts)

    def dump(self, found: Hits) -> bytes:
        return self.search.dump(found)

    def load(self, payload: bytes) -> Hits:
        found = self.search.load(payload)
        assert found is not None
        return found


def _examples(collection: LiveCollection) -> str:
    return _EXAMPLES.format(
        expiry=collection.expiry.instant("r"),
        records=collection.records,
        embeddings=collection.embeddings,
        e_is_r=collection.key.same("e", "r"),
        unexpired=collection.expiry.unexpired("r"),
    )


def _numbers(embedding: Vector | HalfVector) -> Float32Array:
    numbers: Float32Array = embedding.to_numpy().astype(np.float32)
    return numbers


def _between(positive: Sequence[Float32Array], negative: Sequence[Float32Array], *, unit: bool) -> Float32Array:
    point = _average(positive, unit=unit)
    if negative:
        point = 2 * point - _average(negative, unit=unit)
    with np.errstate(over="ignore"):
        between: Float32Array = point.astype(np.float32)
    return between


def _average(examples: Sequence[Float32Array], *, unit: bool) -> Any:
    rows = np.stack(examples).astype(np.float64)
    if unit:
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.mean(axis=0)


def _best_score(
    collection: LiveCollection,
    search: SearchVectors,
    positive: Sequence[Float32Array],
    negative: Sequence[Float32Array],
) -> tuple[str, list[Any]]:
    values: list[Any] = []
    bind = binder(values)
    key = collection.key
    operator = DISTANCE_OPERATORS[collection.metric]

    def least(examples: Sequence[Float32Array]) -> str:
        distances = [f"e.embedding {operator} {bind(one, collection.type)}" for one in examples]
        return f"least({', '.join(distances)})" if distances else "NULL::float8"

    parts = {
        "checkpoints": CHECKPOINTS,
        "to_positive": least(positive),
        "to_negative": least(negative),
        "columns": search.columns(collection, bind),
        "unexpired": collection.expiry.unexpired("f"),
        **search.bounds(collection, bind),
        "excluded": bind(list(search.excluded), "text[]"),
        "k": bind(search.k, "bigint"),
        "embeddings": collection.embeddings,
        "records": collection.records,
        "embedding_join": f" JOIN {collection.embeddings} v ON {key.same('v', 'nearest')}"
        if search.include.embedding
        else "",
        "key_e": key.of("e"),
        "f_is_e": key.same("f", "e"),
        "r_is_nearest": key.same("r", "nearest"),
    }
    wanted = search.filter or EVERYTHING
    condition = filter_sql(wanted, "f", collection.metadata_indexes, first=len(values) + 1)
    values += condition.values
    dated = filter_sql(dated_filter(collection, wanted), "e", first=len(values) + 1)
    values += dated.values
    return _BEST_SCORE.format(**parts, condition=condition.condition, e_is_dated=dated.condition), values
