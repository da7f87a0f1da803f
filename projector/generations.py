"""Generations: the pairs of tables that a collection has, what each of them is, and what is done with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

import asyncpg

from events_schema.collections import IndexSpec, Metric, VectorType
from events_schema.embedding import EmbeddingSpec
from shared.postgres import Connection
from shared.read_model.tables import embeddings_table, records_table

GenerationState = Literal["building", "ready", "active", "kept", "stale"]
"""`building`: the log is folded into it, or its index is made. `ready`: it lacks only what happened meanwhile.
`active`: searches read it. `kept`: it was active, and is written on, so that it can be active again. `stale`: it is
not written any more, and `reason` says why."""

COLUMNS = "g.generation, g.embedding_spec, g.metric, g.type, g.index, g.month_partitions, g.state, g.indexed"

_INSERT = """
INSERT INTO generations (collection_id, generation, embedding_spec, metric, type, index, month_partitions, state,
                         indexed)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""

_DELETE_ALL = "DELETE FROM generations WHERE collection_id = $1 RETURNING generation"

_RETIRE = "INSERT INTO retired_tables (table_name) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING"


@dataclass(frozen=True, slots=True)
class Shape:
    """What a generation's tables hold, and how they are searched."""

    spec: EmbeddingSpec
    metric: Metric
    type: VectorType
    index: IndexSpec
    month_partitions: bool = False


@dataclass(frozen=True, slots=True)
class Generation:
    """`indexed`: the index that its shape names is there; without it, searches are exact."""

    collection_id: UUID
    number: int
    shape: Shape
    state: GenerationState
    indexed: bool

    @property
    def records(self) -> str:
        return records_table(self.collection_id, self.number)

    @property
    def embeddings(self) -> str:
        return embeddings_table(self.collection_id, self.number)


def generation_of(collection_id: UUID, row: asyncpg.Record) -> Generation:
    """From a row with `COLUMNS`."""
    return Generation(
        collection_id,
        row["generation"],
        Shape(
            EmbeddingSpec.model_validate_json(row["embedding_spec"]),
            row["metric"],
            row["type"],
            IndexSpec.model_validate_json(row["index"]),
            row["month_partitions"],
        ),
        row["state"],
        row["indexed"],
    )


async def insert_generation(connection: Connection, generation: Generation) -> None:
    shape = generation.shape
    await connection.execute(
        _INSERT,
        generation.collection_id,
        generation.number,
        shape.spec.model_dump_json(),
        shape.metric,
        shape.type,
        shape.index.model_dump_json(),
        shape.month_partitions,
        generation.state,
        generation.indexed,
    )


async def delete_generations(connection: Connection, collection_id: UUID) -> None:
    """All of a collection; their tables are dropped once nobody uses them."""
    rows = await connection.fetch(_DELETE_ALL, collection_id)
    await retire_tables(connection, collection_id, [row["generation"] for row in rows])


async def retire_tables(connection: Connection, collection_id: UUID, numbers: Iterable[int]) -> None:
    tables = [table(collection_id, number) for number in numbers for table in (records_table, embeddings_table)]
    await connection.execute(_RETIRE, tables)
