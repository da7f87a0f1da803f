"""The two tables of a collection's generation. Their names are the contract's, their storage is decided here."""

from __future__ import annotations

from projector.generations import Generation, Shape
from projector.indexes import index_statement
from projector.partitions import EMBEDDINGS_FILLFACTOR, RECORDS_FILLFACTOR, STORAGE
from shared.postgres import Connection
from shared.read_model.tables import row_key

_BYTES_PER_ELEMENT = {"vector": 4, "halfvec": 2}

_MAX_INLINE_BYTES = 7_000
"""An embedding up to this size stays in its row: an exact scan over 1,536 dimensions then takes a fifth of the time.
A row must fit into a page of 8 kB together with an id of up to 512 bytes."""

_CREATE_RECORDS = """
CREATE TABLE {table} (
    id         text        COLLATE "C" NOT NULL,
    content    text,
    metadata   jsonb       NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    version    int         NOT NULL,
    position   bigint      NOT NULL,
    expires_at timestamptz,
    PRIMARY KEY ({key})
){storage}
"""

_INDEX_METADATA = "CREATE INDEX IF NOT EXISTS {table}_metadata ON {table} USING gin (metadata jsonb_path_ops)"

# Of vectors that expire at an instant of their own; where there are none it costs nothing.
_INDEX_EXPIRY = "CREATE INDEX {table}_expiry ON {table} (expires_at, id) WHERE expires_at IS NOT NULL"

_CREATE_EMBEDDINGS = """
CREATE TABLE {table} (
    id        text COLLATE "C" NOT NULL,
    embedding {type}({dimension}) STORAGE {placement} NOT NULL,{created_at}
    PRIMARY KEY ({key})
){storage}
"""

_CREATED_AT = "\n    created_at timestamptz NOT NULL,"

_PARTITIONED = " PARTITION BY RANGE (created_at)"


async def create_tables(connection: Connection, generation: Generation, *, metadata_index: bool = True) -> None:
    """In the caller's transaction; empty, and with the search index that the generation says it has. With month
    partitions there are none yet; `write_vectors` makes each with its first vector."""
    shape = generation.shape
    await connection.execute(_create_records(generation.records, shape))
    await connection.execute(_INDEX_EXPIRY.format(table=generation.records))
    if metadata_index:
        await connection.execute(_INDEX_METADATA.format(table=generation.records))
    await connection.execute(_create_embeddings(generation.embeddings, shape))
    if generation.indexed and not shape.month_partitions:
        await connection.execute(index_statement(generation.embeddings, shape))


async def create_metadata_index(connection: Connection, generation: Generation, timeout_seconds: float) -> None:
    """For tables that were filled without it; if it is there already, nothing happens."""
    await connection.execute(_INDEX_METADATA.format(table=generation.records), timeout=timeout_seconds)


def _create_records(table: str, shape: Shape) -> str:
    return _CREATE_RECORDS.format(table=table, key=_key(shape), storage=_storage(shape, RECORDS_FILLFACTOR))


def _create_embeddings(table: str, shape: Shape) -> str:
    inline = shape.spec.dimension * _BYTES_PER_ELEMENT[shape.type] <= _MAX_INLINE_BYTES
    return _CREATE_EMBEDDINGS.format(
        table=table,
        type=shape.type,
        dimension=shape.spec.dimension,
        placement="PLAIN" if inline else "EXTERNAL",
        created_at=_CREATED_AT if shape.month_partitions else "",
        key=_key(shape),
        storage=_storage(shape, EMBEDDINGS_FILLFACTOR),
    )


def _key(shape: Shape) -> str:
    return ", ".join(row_key(month_partitions=shape.month_partitions))


def _storage(shape: Shape, fillfactor: int) -> str:
    return _PARTITIONED if shape.month_partitions else STORAGE.format(fillfactor=fillfactor)
