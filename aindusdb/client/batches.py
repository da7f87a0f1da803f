"""Vectors as batches that fit the API's limits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from uuid_utils.compat import uuid7

from aindusdb.client.calls import UNSET, encode, vector_body
from aindusdb.client.embeddings import EmbeddingInput
from aindusdb.client.models import BatchAnswer

MAX_OPERATIONS = 1_000
MAX_BATCH_BYTES = 8 * 1024 * 1024
"""Well below the service's limit of 32 MiB for a body, so that single writes do not wait long behind a batch."""

Batch: TypeAlias = bytes
"""The body of a request."""


@dataclass(frozen=True, slots=True)
class Vector:
    """To be written. Without an `id` it gets a new one; without an `embedding` the service embeds the content; without
    `expires_at`, an instant with its zone, it does not expire by itself."""

    id: str | None = None
    embedding: EmbeddingInput | None = None
    content: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    expires_at: datetime | str | None = None

    def body(self) -> dict[str, Any]:
        """As the API takes it, but for the id."""
        return vector_body(
            self.embedding,
            UNSET if self.content is None else self.content,
            self.metadata,
            None,
            UNSET if self.expires_at is None else self.expires_at,
        )


@dataclass(frozen=True, slots=True)
class PutSummary:
    """`truncated`: contents that are longer than the model sees. The token covers all that was written; None: nothing
    was."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    truncated: int = 0
    last_position: int = 0
    consistency_token: str | None = None

    def with_answer(self, answer: BatchAnswer) -> PutSummary:
        results = [one.result for one in answer.results]
        summed = replace(
            self,
            created=self.created + results.count("created"),
            updated=self.updated + results.count("updated"),
            unchanged=self.unchanged + results.count("unchanged"),
            truncated=self.truncated + sum(one.truncated for one in answer.results),
        )
        if answer.last_position < self.last_position:
            return summed
        return replace(summed, last_position=answer.last_position, consistency_token=answer.consistency_token)


def vectors_of(
    ids: Sequence[str],
    embeddings: NDArray[Any],
    *,
    contents: Sequence[str | None] | None = None,
    metadata: Sequence[Mapping[str, Any]] | None = None,
) -> Iterator[Vector]:
    """The rows of an array, shape (len(ids), dimension), as vectors.

    Raises:
        ValueError: the lengths differ.
    """
    rows = np.asarray(embeddings)
    if rows.ndim != 2 or len(rows) != len(ids):
        raise ValueError(f"{len(ids)} ids need an array of as many rows, not one of shape {rows.shape}")
    for given in (contents, metadata):
        if given is not None and len(given) != len(ids):
            raise ValueError(f"there are {len(ids)} ids, and {len(given)} contents or metadata")
    for index, vector_id in enumerate(ids):
        yield Vector(
            vector_id,
            rows[index],
            None if contents is None else contents[index],
            {} if metadata is None else metadata[index],
        )


def encoded_operations(vectors: Iterable[Vector]) -> Iterator[tuple[str, bytes]]:
    """Each vector's id, and the operation that puts it in place."""
    for vector in vectors:
        vector_id = vector.id if vector.id is not None else str(uuid7())
        yield vector_id, encode({"op": "upsert", "id": vector_id, **vector.body()})


def batches_of(
    operations: Iterable[tuple[str, bytes]],
    *,
    max_operations: int = MAX_OPERATIONS,
    max_bytes: int = MAX_BATCH_BYTES,
) -> Iterator[Batch]:
    """An id occurs once in a batch, as the service demands; one that comes again begins the next."""
    batch: list[bytes] = []
    ids: set[str] = set()
    size = 0
    for vector_id, operation in operations:
        if batch and (vector_id in ids or len(batch) >= max_operations or size + len(operation) > max_bytes):
            yield _body(batch)
            batch, ids, size = [], set(), 0
        batch.append(operation)
        ids.add(vector_id)
        size += len(operation) + 1
    if batch:
        yield _body(batch)


def _body(batch: Sequence[bytes]) -> Batch:
    return b'{"operations":[' + b",".join(batch) + b"]}"
