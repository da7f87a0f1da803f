"""The index over a generation's embeddings: the statement that makes it, how many lists it has, and the memory that
making it takes."""

from __future__ import annotations

from math import isqrt

from events_schema.collections import IndexKind
from projector.generations import Shape
from shared.read_model.tables import OPERATOR_CLASSES

OUTGROWN = 2
"""An IVFFlat index is made anew when there are so many times the rows that it was made for: its lists have become that
much longer, and their centres say less and less."""

MIN_LISTS = 10
MAX_LISTS = 32_768
_ROWS_PER_LIST = 1_000
_SQUARE_ROOT_FROM_ROWS = 1_000_000

_CREATE = "CREATE INDEX {concurrently}{name}ON {table} USING {kind} (embedding {operator_class}){parameters}"

_DEFAULT_M = 16
_DEFAULT_EF_CONSTRUCTION = 64

_BYTES_PER_ELEMENT = {"vector": 4, "halfvec": 2}
_SAMPLES_PER_LIST = 50
_MIN_SAMPLES = 10_000
_MEGABYTE = 1024 * 1024


def lists_for(rows: int, shape: Shape, memory_mb: int) -> int:
    """How many lists an IVFFlat index over so many rows has: those that its collection names, else what pgvector's
    README advises (rows / 1000 up to a million rows, the square root beyond), as far as the memory allows."""
    if shape.index.lists is not None:
        return shape.index.lists
    lists = rows // _ROWS_PER_LIST if rows <= _SQUARE_ROOT_FROM_ROWS else isqrt(rows)
    lists = min(max(lists, MIN_LISTS), MAX_LISTS)
    while lists > MIN_LISTS and build_memory_mb(shape, rows, lists) > memory_mb:
        lists = max(lists * 9 // 10, MIN_LISTS)
    return lists


def has_outgrown(lists: int | None, had: int | None) -> bool:
    """Whether the index of a partition, which has so many lists, is to be made anew with these."""
    return lists is not None and had is not None and lists >= OUTGROWN * had


def build_memory_mb(shape: Shape, rows: int, lists: int | None) -> int:
    """What making the index in memory takes, with a tenth to spare; pgvector's defaults are at least 1 MB.

    For HNSW measured: each element takes its embedding, 32 bytes for each of m and 200 more; an index that does not
    fit is made on disk, many times slower. For IVFFlat the arrays of pgvector's `ElkanKmeans`, which refuses to
    begin without them.
    """
    embedding_bytes = 8 + shape.spec.dimension * _BYTES_PER_ELEMENT[shape.type]
    if shape.index.kind == "hnsw":
        needed = rows * (embedding_bytes + 200 + 32 * (shape.index.m or _DEFAULT_M))
    else:
        centres = lists or 0
        samples = max(_SAMPLES_PER_LIST * centres, _MIN_SAMPLES)
        needed = (samples + 3 * centres) * embedding_bytes + 4 * centres * (samples + centres)
    return needed * 11 // 10 // _MEGABYTE + 1


def index_name(table: str, kind: IndexKind) -> str:
    return f"{table}_{kind}"


def index_statement(
    table: str, shape: Shape, lists: int | None = None, *, concurrently: bool = False, named: bool = True
) -> str:
    """Over the embeddings in `table`. `lists` is for IVFFlat, and must not be None there. Not `named`: PostgreSQL finds
    a name, because there is an index that bears the usual one."""
    return _CREATE.format(
        concurrently="CONCURRENTLY " if concurrently else "",
        name=f"{index_name(table, shape.index.kind)} " if named else "",
        table=table,
        kind=shape.index.kind,
        operator_class=f"{shape.type}_{OPERATOR_CLASSES[shape.metric]}",
        parameters=_parameters(shape, lists),
    )


def _parameters(shape: Shape, lists: int | None) -> str:
    match shape.index.kind:
        case "hnsw":
            m = shape.index.m or _DEFAULT_M
            # pgvector asks for at least 2m.
            ef_construction = shape.index.ef_construction or max(_DEFAULT_EF_CONSTRUCTION, 2 * m)
            return f" WITH (m = {m}, ef_construction = {ef_construction})"
        case "ivfflat":
            assert lists is not None
            return f" WITH (lists = {lists})"
        case "none":
            raise ValueError("a collection without index has none to be made")
