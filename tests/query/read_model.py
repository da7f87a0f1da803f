"""Fills a read model as the projector would, so that the query service can be looked at alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import numpy as np
import orjson
from pgvector import HalfVector, Vector
from pgvector.asyncpg import register_vector

from events_schema.collections import IndexKind, IndexSpec, MetadataIndexType, Metric, VectorType
from events_schema.embedding import EmbeddingSpec, Float32Array
from events_schema.specs import EmbeddingSpecs, LiveSpec
from projector.generations import COLUMNS, Generation, Shape, generation_of, insert_generation
from projector.indexes import index_statement
from projector.indexing import tables_of_embeddings
from projector.metadata_indexes import create_declared_indexes, index_new_partition
from projector.partitions import make_partitions
from projector.tables import create_tables
from shared.read_model.specs import as_stored
from shared.read_model.tables import PROJECTION, embeddings_table, records_table

TENANT = "default"

_KEEP_AS_SNAPSHOT = """
UPDATE generations SET state = 'ready', snapshot_name = $2, until_position = $3, until_time = clock_timestamp(),
    expires_at = clock_timestamp() + interval '1 day', checkpoints = ARRAY[$3::bigint]
WHERE collection_id = $1
"""

_MONTHS = 4
_MONTH = timedelta(days=31)


@dataclass(frozen=True, slots=True)
class Row:
    id: str
    embedding: Sequence[float] | Float32Array
    metadata: Mapping[str, Any] = field(default_factory=dict)
    content: str | None = None
    created_at: datetime | None = None
    expires_at: datetime | None = None


class ReadModel:
    """Over a connection of the role that owns the read database."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self.connection = connection
        self.log_id = uuid4()
        self.position = 0
        self._types: dict[UUID, VectorType] = {}
        self.ids: dict[str, UUID] = {}
        """Collections by name, the last of each."""

    async def start(self) -> None:
        await register_vector(self.connection)
        await self.connection.execute(
            "INSERT INTO projection_checkpoints (projection, partition, position, log_id, partition_count)"
            " VALUES ($1, 0, 0, $2, 1)",
            PROJECTION,
            self.log_id,
        )

    async def advance(self, by: int = 1) -> int:
        """Moves the checkpoint and returns where it stands."""
        self.position += by
        await self.connection.execute("UPDATE projection_checkpoints SET position = $1", self.position)
        return self.position

    async def create(
        self,
        name: str,
        dimension: int,
        *,
        metric: Metric = "cosine",
        vector_type: VectorType = "vector",
        index: IndexKind = "hnsw",
        tenant: str = TENANT,
        provider: str = "client",
        model: str | None = None,
        month_partitions: bool = False,
        metadata_indexes: Mapping[str, MetadataIndexType] | None = None,
        retention_seconds: int | None = None,
    ) -> UUID:
        collection_id = uuid4()
        spec = EmbeddingSpec(provider=provider, model=model, dimension=dimension)
        shape = Shape(spec, metric, vector_type, IndexSpec(kind=index), month_partitions)
        generation = Generation(collection_id, 1, shape, "active", indexed=index == "hnsw", projection_version=1)
        async with self.connection.transaction():
            position = await self.advance()
            await create_tables(self.connection, generation)
            await insert_generation(self.connection, generation)
            await self.connection.execute(
                "INSERT INTO collections (collection_id, tenant, name, metric, type, index, embedding_spec, version,"
                " position, created_at, updated_at, month_partitions, metadata_indexes, retention_seconds)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7, 1, $8, $9, $9, $10, $11, $12)",
                collection_id,
                tenant,
                name,
                metric,
                vector_type,
                shape.index.model_dump_json(),
                shape.spec.model_dump_json(),
                position,
                datetime.now(UTC) - _MONTHS * _MONTH,
                month_partitions,
                orjson.dumps(
                    [{"field": name, "type": of} for name, of in sorted((metadata_indexes or {}).items())]
                ).decode(),
                retention_seconds,
            )
            await create_declared_indexes(self.connection, generation)
            await self.connection.execute(
                "INSERT INTO collection_state VALUES ($1, 1, $2, $3)", collection_id, uuid4(), position
            )
        self.ids[name] = collection_id
        self._types[collection_id] = vector_type
        return collection_id

    async def _generation(self, collection_id: UUID) -> Generation:
        row = await self.connection.fetchrow(
            f"SELECT {COLUMNS} FROM generations g WHERE g.collection_id = $1", collection_id
        )
        assert row is not None
        return generation_of(collection_id, row)

    async def index(self, collection_id: UUID, lists: int) -> None:
        """Makes the IVFFlat index that the collection has been waiting for."""
        generation = await self._generation(collection_id)
        async with self.connection.transaction():
            position = await self.advance()
            for table in await tables_of_embeddings(self.connection, generation):
                await self.connection.execute(index_statement(table, generation.shape, lists))
            await self.connection.execute(
                "UPDATE generations SET indexed = true, lists = $2 WHERE collection_id = $1", collection_id, lists
            )
            await self.connection.execute(
                "UPDATE collection_state SET revision = $2, position = $3 WHERE collection_id = $1",
                collection_id,
                uuid4(),
                position,
            )

    async def put(self, collection_id: UUID, rows: Sequence[Row]) -> int:
        """Replaces what is there under these ids. Returns the position up to which the model now stands."""
        async with self.connection.transaction():
            await self._put(collection_id, rows, 1)
            await self._record_change(collection_id)
        return self.position

    async def _put(self, collection_id: UUID, rows: Sequence[Row], generation: int) -> None:
        records, embeddings = records_table(collection_id, generation), embeddings_table(collection_id, generation)
        made = await self._generation(collection_id)
        created = _dates(rows, several_months=made.shape.month_partitions)
        async with self.connection.transaction():
            await self._make_partitions(made, created)
            await self._delete(collection_id, [row.id for row in rows], generation)
            first = self.position + 1
            await self.advance(len(rows))
            await self.connection.copy_records_to_table(
                records,
                records=[
                    (
                        row.id,
                        row.content,
                        orjson.dumps(row.metadata).decode(),
                        date,
                        date,
                        1,
                        first + index,
                        row.expires_at,
                    )
                    for index, (row, date) in enumerate(zip(rows, created, strict=True))
                ],
            )
            stored = [self._stored(collection_id, row.embedding) for row in rows]
            await self.connection.copy_records_to_table(
                embeddings,
                records=[
                    (row.id, embedding, date)[: 2 + made.shape.month_partitions]
                    for row, embedding, date in zip(rows, stored, created, strict=True)
                ],
            )

    async def _make_partitions(self, generation: Generation, created: Sequence[datetime]) -> None:
        if generation.shape.month_partitions:
            for month in await make_partitions(self.connection, generation, created):
                if generation.indexed:
                    embeddings = generation.embeddings + month.suffix
                    await self.connection.execute(index_statement(embeddings, generation.shape))
                await index_new_partition(self.connection, generation, generation.records + month.suffix)

    async def _record_change(self, collection_id: UUID) -> None:
        await self.connection.execute(
            "INSERT INTO collection_changes VALUES ($1, 0, $2)"
            " ON CONFLICT (collection_id, partition) DO UPDATE SET last_changed = excluded.last_changed",
            collection_id,
            self.position,
        )

    async def delete(self, collection_id: UUID, ids: Sequence[str]) -> int:
        async with self.connection.transaction():
            await self._delete(collection_id, ids, 1)
            await self.advance(len(ids))
            await self._record_change(collection_id)
            return self.position

    async def _delete(self, collection_id: UUID, ids: Sequence[str], generation: int) -> None:
        for table in (records_table(collection_id, generation), embeddings_table(collection_id, generation)):
            await self.connection.execute(f"DELETE FROM {table} WHERE id = ANY($1::text[])", list(ids))

    async def delete_collection(self, collection_id: UUID) -> int:
        async with self.connection.transaction():
            position = await self.advance()
            await self.connection.execute(
                "UPDATE collections SET deleted_at = now(), position = $2 WHERE collection_id = $1",
                collection_id,
                position,
            )
            await self.connection.execute("DELETE FROM collection_state WHERE collection_id = $1", collection_id)
        return position

    async def promote(self, collection_id: UUID) -> None:
        """Renames the tables to the next generation, so that those of the last one are gone."""
        async with self.connection.transaction():
            position = await self.advance()
            for table in (records_table, embeddings_table):
                await self.connection.execute(
                    f"ALTER TABLE {table(collection_id, 1)} RENAME TO {table(collection_id, 2)}"
                )
            await self.connection.execute(
                "UPDATE generations SET generation = 2 WHERE collection_id = $1", collection_id
            )
            await self.connection.execute(
                "UPDATE collection_state SET generation = 2, revision = $2, position = $3 WHERE collection_id = $1",
                collection_id,
                uuid4(),
                position,
            )

    async def announce(self, collection_id: UUID, specs: EmbeddingSpecs) -> None:
        """What the catalogue says of the specs that are live; searches go by the same tables."""
        async with self.connection.transaction():
            position = await self.advance()
            await self.connection.execute(
                "UPDATE collections SET embedding_spec = $2, specs = $3, position = $4 WHERE collection_id = $1",
                collection_id,
                specs.served.model_dump_json(),
                as_stored(specs),
                position,
            )

    async def move(self, collection_id: UUID, spec: EmbeddingSpec, rows: Sequence[Row], snapshot: str) -> None:
        """To a next generation of another spec. The first one becomes the snapshot of this name, without a name it is
        gone."""
        made = await self._generation(collection_id)
        number = made.number + 1
        async with self.connection.transaction():
            if snapshot:
                await self.connection.execute(_KEEP_AS_SNAPSHOT, collection_id, snapshot, self.position)
            else:
                await self.connection.execute("DELETE FROM generations WHERE collection_id = $1", collection_id)
                await self.connection.execute(f"DROP TABLE {made.records}, {made.embeddings}")
            generation = replace(made, number=number, shape=replace(made.shape, spec=spec))
            await create_tables(self.connection, generation)
            await insert_generation(self.connection, generation)
            await self.announce(collection_id, EmbeddingSpecs((LiveSpec(spec, since=0, complete=True),)))
            await self._put(collection_id, rows, number)
            await self.connection.execute(
                "UPDATE collection_state SET generation = $2, revision = $3, position = $4 WHERE collection_id = $1",
                collection_id,
                number,
                uuid4(),
                self.position,
            )

    async def park(self, collection_id: UUID, aggregate_type: str = "vector") -> int:
        async with self.connection.transaction():
            position = await self.advance()
            await self.connection.execute(
                "INSERT INTO parked_events (position, partition, event_id, collection_id, aggregate_id, aggregate_type,"
                " event_type, reason, attempts) VALUES ($1, 0, $2, $3, $2, $4, 'Event', 'test', 5)",
                position,
                uuid4(),
                collection_id,
                aggregate_type,
            )
        return position

    def _stored(self, collection_id: UUID, embedding: Sequence[float] | Float32Array) -> Vector | HalfVector:
        numbers = np.asarray(embedding, dtype=np.float32)
        return HalfVector(numbers) if self._types[collection_id] == "halfvec" else Vector(numbers)


def _dates(rows: Sequence[Row], *, several_months: bool) -> list[datetime]:
    """Where a row does not say it: now, or each in another one of the last months."""
    now = datetime.now(UTC)
    return [
        row.created_at or (now - (number % _MONTHS) * _MONTH if several_months else now)
        for number, row in enumerate(rows)
    ]
