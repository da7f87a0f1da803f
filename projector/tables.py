"""The two tables of a collection's generation. Their names are the contract's, their storage is decided here."""

from __future__ import annotations

from events_schema.collections import VectorType
from projector.generations import Generation
from projector.indexes import index_statement
from shared.postgres import Connection

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

_INDEX_METADATA = "CREATE INDEX IF NOT EXISTS {table}_metadata ON {table} USING gin (metadata jsonb_path_ops)"

_CREATE_EMBEDDINGS = """
CREATE TABLE {table} (
    id        text COLLATE "C" PRIMARY KEY,
    embedding {type}({dimension}) STORAGE {storage} NOT NULL
) WITH (fillfactor = 100, vacuum_truncate = off, toast.vacuum_truncate = off)
"""


async def create_tables(connection: Connection, generation: Generation, *, metadata_index: bool = True) -> None:
    """In the caller's transaction; empty, and with the search index that the generation says it has."""
    shape = generation.shape
    await connection.execute(_CREATE_RECORDS.format(table=generation.records))
    if metadata_index:
        await connection.execute(_INDEX_METADATA.format(table=generation.records))
    await connection.execute(_create_embeddings(generation.embeddings, shape.type, shape.spec.dimension))
    if generation.indexed:
        await connection.execute(index_statement(generation.embeddings, shape))


async def create_metadata_index(connection: Connection, generation: Generation, timeout_seconds: float) -> None:
    """For tables that were filled without it; if it is there already, nothing happens."""
    await connection.execute(_INDEX_METADATA.format(table=generation.records), timeout=timeout_seconds)


def _create_embeddings(table: str, vector_type: VectorType, dimension: int) -> str:
    inline = dimension * _BYTES_PER_ELEMENT[vector_type] <= _MAX_INLINE_BYTES
    storage = "PLAIN" if inline else "EXTERNAL"
    return _CREATE_EMBEDDINGS.format(table=table, type=vector_type, dimension=dimension, storage=storage)
