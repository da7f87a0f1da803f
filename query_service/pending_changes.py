"""What is still to become of collections' tables: changes that are made, wait to be made, or could not be made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from events_schema.collections import IndexSpec
from events_schema.embedding import EmbeddingSpec
from query_service.catalogue import Declared, LiveCollection
from shared.postgres import Connection

_READ = """
SELECT collection_id, generation, state, embedding_spec, metric, type, index, month_partitions, reason, updated_at,
       (SELECT min(position) FROM unnest(checkpoints) AS c(position)) AS position
FROM generations
WHERE collection_id = ANY($1::uuid[])
  AND (automatic AND state IN ('building', 'ready', 'stale') OR state = 'active' AND reason IS NOT NULL)
ORDER BY generation
"""

ChangeState = Literal["waiting", "running", "failed"]


@dataclass(frozen=True, slots=True)
class PendingChange:
    """`generation` is what is made, or could not be; None while nothing is begun. It holds all events up to `position`,
    and `target` is where the projection stands. `reason`: why the last try failed. `since`: when that was, or else when
    the change was asked for or last got on. `from_spec`, `to_spec`: of the embeddings, if they are to change; while not
    all vectors have the new ones, the change waits for those."""

    state: ChangeState
    generation: int | None
    position: int | None
    target: int
    reason: str | None
    since: datetime
    from_spec: EmbeddingSpec | None = None
    to_spec: EmbeddingSpec | None = None


@dataclass(frozen=True, slots=True)
class NotedGeneration:
    """One beside the active one, or the active one if something failed that was to be done to it."""

    generation: int
    state: Literal["building", "ready", "stale", "active"]
    shape: Declared
    position: int | None
    reason: str | None
    updated_at: datetime


Noted = Mapping[UUID, Sequence[NotedGeneration]]


async def read_noted(connection: Connection, collections: Iterable[LiveCollection]) -> Noted:
    """By collection, oldest first."""
    noted: dict[UUID, list[NotedGeneration]] = {}
    for row in await connection.fetch(_READ, [collection.collection_id for collection in collections]):
        noted.setdefault(row["collection_id"], []).append(
            NotedGeneration(
                row["generation"], row["state"], _shape(row), row["position"], row["reason"], row["updated_at"]
            )
        )
    return noted


def _shape(row: Any) -> Declared:
    return Declared(
        metric=row["metric"],
        type=row["type"],
        index=IndexSpec.model_validate_json(row["index"]),
        embedding_spec=EmbeddingSpec.model_validate_json(row["embedding_spec"]),
        month_partitions=row["month_partitions"],
    )


def pending_change(
    collection: LiveCollection, noted: Sequence[NotedGeneration], projected: int
) -> PendingChange | None:
    """None: the tables are what they are to be. `projected` is how far the projection has come."""
    change = _change(collection, noted, projected)
    to = collection.specs.target.spec
    if change is None or to == collection.embedding_spec:
        return change
    return replace(change, from_spec=collection.embedding_spec, to_spec=to)


def _change(collection: LiveCollection, noted: Sequence[NotedGeneration], projected: int) -> PendingChange | None:
    by_state = {one.state: one for one in noted}
    troubled = by_state.get("active")
    trouble = troubled.reason if troubled else None
    if made := by_state.get("ready") or by_state.get("building"):
        position = min(made.position or 0, projected)
        return PendingChange("running", made.generation, position, projected, made.reason or trouble, made.updated_at)
    if collection.shape != collection.declared:
        failed = by_state.get("stale")
        if failed is not None and failed.shape == collection.declared:
            position = min(failed.position or 0, projected)
            return PendingChange("failed", failed.generation, position, projected, failed.reason, failed.updated_at)
        return PendingChange("waiting", None, None, projected, trouble, collection.updated_at)
    if troubled is not None and not collection.indexed and collection.index.kind != "none":
        return PendingChange("failed", troubled.generation, None, projected, trouble, troubled.updated_at)
    if collection.specs.target.spec != collection.embedding_spec:
        return PendingChange("waiting", None, None, projected, None, collection.updated_at)
    return None
