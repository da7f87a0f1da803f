"""How large an index is, and the memory that making it takes."""

from __future__ import annotations

from math import sqrt

import asyncpg
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pgvector import Vector
from pgvector.asyncpg import register_vector

from events_schema.collections import IndexSpec, VectorType
from events_schema.embedding import EmbeddingSpec
from projector.generations import Shape
from projector.indexes import MIN_LISTS, build_memory_mb, index_statement, lists_for
from tests.projector.projecting import Projection


def _shape(kind: str = "ivfflat", dimension: int = 384, vector_type: VectorType = "vector", **index: int) -> Shape:
    spec = EmbeddingSpec(provider="client", model=None, dimension=dimension)
    return Shape(spec, "l2", vector_type, IndexSpec.model_validate({"kind": kind, **index}))


@given(rows=st.integers(0, 100_000_000))
def test_lists_follow_the_size_of_the_collection(rows: int) -> None:
    lists = lists_for(rows, _shape(), memory_mb=1_000_000)
    if rows <= 1_000_000:
        assert lists == max(rows // 1000, MIN_LISTS)
    else:
        assert lists == pytest.approx(sqrt(rows), abs=1)


@given(rows=st.integers(0, 100_000_000), memory_mb=st.integers(64, 4_096), dimension=st.integers(1, 2_000))
def test_lists_are_as_many_as_the_memory_allows(rows: int, memory_mb: int, dimension: int) -> None:
    shape = _shape(dimension=dimension)
    lists = lists_for(rows, shape, memory_mb)
    assert lists == MIN_LISTS or build_memory_mb(shape, rows, lists) <= memory_mb
    assert lists <= lists_for(rows, shape, memory_mb=1_000_000)


@given(rows=st.integers(0, 100_000_000))
def test_lists_that_the_collection_names_are_taken(rows: int) -> None:
    assert lists_for(rows, _shape(lists=7), memory_mb=64) == 7


@pytest.mark.long
@pytest.mark.parametrize(
    ("dimension", "vector_type", "m"), [(384, "vector", 16), (32, "vector", 48), (384, "halfvec", 16)]
)
async def test_an_hnsw_index_fits_into_the_memory_that_was_estimated_and_not_into_half_of_it(
    projection: Projection, dimension: int, vector_type: VectorType, m: int
) -> None:
    rows = 8_000
    shape = _shape("hnsw", dimension, vector_type, m=m, ef_construction=2 * m)
    await _fill(projection.read, rows, dimension, vector_type)
    estimated = build_memory_mb(shape, rows, None)
    assert await _notices(projection.read, shape, None, estimated) == []
    assert (
        "no longer fits into maintenance_work_mem" in (await _notices(projection.read, shape, None, estimated // 2))[0]
    )


async def test_an_ivfflat_index_begins_with_the_memory_that_was_estimated(projection: Projection) -> None:
    shape = _shape(dimension=16)
    await _fill(projection.read, 20_000, 16, "vector")
    for lists in (10, 200, 400):
        assert await _notices(projection.read, shape, lists, build_memory_mb(shape, 20_000, lists)) == []


async def _fill(connection: asyncpg.Connection, rows: int, dimension: int, vector_type: VectorType) -> None:
    await register_vector(connection)
    await connection.execute(f"CREATE TABLE filled (embedding {vector_type}({dimension}) STORAGE PLAIN)")
    embeddings = np.random.default_rng(1).standard_normal((rows, dimension)).astype(np.float32)
    await connection.execute(
        f"INSERT INTO filled SELECT unnest($1::vector[])::{vector_type}",
        [Vector(embedding) for embedding in embeddings],
    )


async def _notices(connection: asyncpg.Connection, shape: Shape, lists: int | None, memory_mb: int) -> list[str]:
    """What the server says about an index that is made with this memory, and undone."""
    said: list[str] = []
    connection.add_log_listener(lambda _connection, message: said.append(message.message))
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(f"SET LOCAL maintenance_work_mem = '{memory_mb}MB'")
    await connection.execute(index_statement("filled", shape, lists))
    await transaction.rollback()
    return said
