"""recall@10 counts what an index misses, and not what the embeddings' own numbers cannot tell apart."""

from __future__ import annotations

from uuid import uuid4

import numpy as np
import pytest
from pgvector import Vector

from events_schema.collections import IndexSpec, Metric, VectorType
from events_schema.embedding import EmbeddingSpec, Float32Array
from projector.generations import Generation
from projector.indexing import make_index
from projector.recall import recall_at_10
from projector.tables import create_tables
from shared.postgres import connect
from tests.projector.log_writer import NewCollection
from tests.projector.projecting import projector_settings
from tests.projector.rebuilding import shape_of
from tests.servers import Databases

DIMENSION = 256
ROWS = 700


async def _recall(
    databases: Databases, embeddings: Float32Array, *, metric: Metric, vector_type: VectorType, index: IndexSpec
) -> float | None:
    chosen = projector_settings(databases)
    connection = await connect(databases.read_dsn, chosen, vectors=True)
    try:
        collection = NewCollection("articles", EmbeddingSpec(provider="client", model=None, dimension=DIMENSION))
        shape = shape_of(collection, metric=metric, type=vector_type, index=index)
        generation = Generation(uuid4(), 1, shape, "active", indexed=False, projection_version=1)
        await create_tables(connection, generation)
        await connection.execute(
            f"INSERT INTO {generation.embeddings} SELECT 'v' || n, e::{vector_type}"
            " FROM unnest($1::vector[]) WITH ORDINALITY AS given(e, n)",
            [Vector(row) for row in embeddings],
        )
        await make_index(connection, generation, chosen, concurrently=False)
        indexed = Generation(generation.collection_id, 1, shape, "active", indexed=True, projection_version=1)
        return await recall_at_10(connection, indexed, chosen, 10)
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("metric", "vector_type", "noise"),
    [("cosine", "halfvec", 0.01), ("cosine", "vector", 1e-6), ("l2", "vector", 1e-7), ("ip", "halfvec", 1e-4)],
)
async def test_nearly_identical_embeddings_are_found(
    databases: Databases, metric: Metric, vector_type: VectorType, noise: float
) -> None:
    """An index over cosine rounds what it has brought to length 1: which of these is nearer, it does not know."""
    random = np.random.default_rng(1)
    embeddings = random.standard_normal(DIMENSION) + noise * random.standard_normal((ROWS, DIMENSION))
    index = IndexSpec(kind="hnsw", m=None, ef_construction=None, lists=None)
    found = await _recall(databases, embeddings.astype(np.float32), metric=metric, vector_type=vector_type, index=index)
    assert found is not None
    assert found >= 0.95


@pytest.mark.parametrize("vector_type", ["vector", "halfvec"])
async def test_what_an_index_misses_is_counted(databases: Databases, vector_type: VectorType) -> None:
    random = np.random.default_rng(2)
    embeddings = random.standard_normal((ROWS, DIMENSION)).astype(np.float32)
    poor = IndexSpec(kind="hnsw", m=2, ef_construction=4, lists=None)
    found = await _recall(databases, embeddings, metric="cosine", vector_type=vector_type, index=poor)
    assert found is not None
    assert found < 0.8
