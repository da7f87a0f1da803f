"""The two tables of a collection's generation. Their names are the contract's, their storage is decided here."""

from __future__ import annotations

from events_schema.collections import CollectionCreated, IndexSpec, Metric, VectorType
from shared.postgres import Connection
from shared.read_model.tables import OPERATOR_CLASSES, embeddings_table, records_table

_BYTES_PER_ELEMENT = {"vector": 4, "halfvec": 2}

_MAX_INLINE_BYTES = 7_000
"""An embedding up to this size stays in its row: an exact scan over 1,536 dimensions then takes a fifth of the time.
A row must fit into a page of 8 kB together with an id of up to 512 bytes."""

# Truncating a table's end takes an exclusive lock that a replica replays against its readers.
_CREATE_RECORDS = """
CREATE TABLE {table} (
    id         text        COLLATE "C" PRIMARY KEY,
    content    text,
    metadata   jsonb       NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    version    int         NOT NULL,
    position   bigint      NOT NULL
) WITH (fillfactor = 90, vacuum_truncate = off, toast.vacuum_truncate = off)
"""

_INDEX_METADATA = "CREATE INDEX {table}_metadata ON {table} USING gin (metadata jsonb_path_ops)"

_CREATE_EMBEDDINGS = """
CREATE TABLE {table} (
    id        text COLLATE "C" PRIMARY KEY,
    embedding {type}({dimension}) STORAGE {storage} NOT NULL
) WITH (fillfactor = 100, vacuum_truncate = off, toast.vacuum_truncate = off)
"""

_INDEX_HNSW = """
CREATE INDEX {table}_hnsw ON {table} USING hnsw (embedding {operator_class})
WITH (m = {m}, ef_construction = {ef_construction})
"""

_DEFAULT_M = 16
_DEFAULT_EF_CONSTRUCTION = 64


async def create_tables(connection: Connection, event: CollectionCreated, generation: int) -> None:
    """In the caller's transaction. An IVFFlat index is not made here: it needs rows to find its lists in."""
    records = records_table(event.collection_id, generation)
    await connection.execute(_CREATE_RECORDS.format(table=records))
    await connection.execute(_INDEX_METADATA.format(table=records))
    embeddings = embeddings_table(event.collection_id, generation)
    await connection.execute(_create_embeddings(embeddings, event.type, event.embedding_spec.dimension))
    if event.index.kind == "hnsw":
        await connection.execute(_index_hnsw(embeddings, event.index, event.type, event.metric))


def _create_embeddings(table: str, vector_type: VectorType, dimension: int) -> str:
    inline = dimension * _BYTES_PER_ELEMENT[vector_type] <= _MAX_INLINE_BYTES
    storage = "PLAIN" if inline else "EXTERNAL"
    return _CREATE_EMBEDDINGS.format(table=table, type=vector_type, dimension=dimension, storage=storage)


def _index_hnsw(table: str, index: IndexSpec, vector_type: VectorType, metric: Metric) -> str:
    m = index.m or _DEFAULT_M
    return _INDEX_HNSW.format(
        table=table,
        operator_class=f"{vector_type}_{OPERATOR_CLASSES[metric]}",
        m=m,
        ef_construction=index.ef_construction or max(_DEFAULT_EF_CONSTRUCTION, 2 * m),  # pgvector asks for at least 2m
    )
