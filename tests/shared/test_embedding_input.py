"""Embeddings that are accepted have a distance to each other, as pgvector computes it."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from typing import get_args

import numpy as np
import pytest_asyncio
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from pgvector import Vector
from pgvector.asyncpg import register_vector

from events_schema.collections import Metric, VectorType
from shared.embedding_input import embedding_fault
from shared.postgres import Connection
from shared.read_model.tables import DISTANCE_OPERATORS
from tests.servers import Databases, connected

_DIMENSION = 4
_about_the_limit = st.floats(2.0**60, 2.0**64, width=32)
_numbers = st.one_of(
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    _about_the_limit,
    _about_the_limit.map(lambda number: -number),
    st.sampled_from([65_519.0, 1e-8]),
)
_embeddings = st.lists(_numbers, min_size=_DIMENSION, max_size=_DIMENSION)
_LONGEST = [2.0**61.5] * _DIMENSION
_OPPOSITE = [-one for one in _LONGEST]


@pytest_asyncio.fixture(scope="module")
async def postgres(databases: Databases) -> AsyncIterator[Connection]:
    async with connected(databases.read_dsn) as connection:
        await register_vector(connection)
        yield connection


@given(
    one=_embeddings,
    other=_embeddings,
    metric=st.sampled_from(get_args(Metric)),
    vector_type=st.sampled_from(get_args(VectorType)),
)
@example(one=_LONGEST, other=_OPPOSITE, metric="l2", vector_type="vector")
@example(one=_LONGEST, other=_OPPOSITE, metric="ip", vector_type="vector")
@example(one=_LONGEST, other=_OPPOSITE, metric="cosine", vector_type="vector")
@example(one=[65_504.0] * _DIMENSION, other=[-65_504.0] * _DIMENSION, metric="l2", vector_type="halfvec")
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
async def test_accepted_embeddings_have_a_finite_distance(
    postgres: Connection, one: list[float], other: list[float], metric: Metric, vector_type: VectorType
) -> None:
    pair = [np.array(each, dtype=np.float32) for each in (one, other)]
    assume(all(embedding_fault(each, metric, vector_type) is None for each in pair))
    distance = await postgres.fetchval(
        f"SELECT $1::vector::{vector_type} {DISTANCE_OPERATORS[metric]} $2::vector::{vector_type}", *map(Vector, pair)
    )
    assert math.isfinite(distance)
