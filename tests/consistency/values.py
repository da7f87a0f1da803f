"""What clients write: every value names the one operation that it came from."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from events_schema.embedding import Float32Array

DIMENSION = 8
ALIASES = "aliases"
"""The aliases of a run, as if they were vectors of a collection of this name."""
GROUPS = 3
QUERIES = 5
"""How many embeddings searches ask for. Few, so that answers are asked for again and come from caches."""

_QUERY_SEED = 1_000_000_000
"""Beyond every mark."""


def metadata_of(mark: int) -> dict[str, Any]:
    return {"mark": mark, "group": group_of(mark)}


def content_of(mark: int) -> str:
    return f"mark {mark}"


def group_of(mark: int) -> int:
    return mark % GROUPS


def mark_in(content: str) -> int:
    return int(content.removeprefix("mark "))


def target_mark(collection: str) -> int:
    """What stands in histories for the collection that an alias is set to."""
    return int.from_bytes(collection.encode())


@cache
def embedding_of(mark: int) -> Float32Array:
    """float32, shape (DIMENSION,), of length 1."""
    return _direction(mark)


@cache
def query_embedding(query: int) -> Float32Array:
    """float32, shape (DIMENSION,), of length 1; `query` is below QUERIES."""
    return _direction(_QUERY_SEED + query)


@cache
def distance(query: int, mark: int) -> float:
    """The cosine distance of a query to what was written under this mark."""
    return _distance(query_embedding(query), embedding_of(mark))


@cache
def distance_between(mark: int, other: int) -> float:
    """The cosine distance of what was written under these marks."""
    return _distance(embedding_of(mark), embedding_of(other))


def _distance(one: Float32Array, other: Float32Array) -> float:
    return 1.0 - float(np.dot(one.astype(np.float64), other.astype(np.float64)))


def _direction(seed: int) -> Float32Array:
    numbers = np.random.default_rng(seed).standard_normal(DIMENSION)
    return (numbers / np.linalg.norm(numbers)).astype(np.float32)
