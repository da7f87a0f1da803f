"""The snapshots of a collection, and reads of one: its tables in place of the active generation's.

Nothing of them is in a poll: whoever asks for the past looks them up on the server that is to answer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Generic, Literal
from uuid import UUID

import asyncpg
import orjson

from events_schema.collections import IndexSpec
from events_schema.embedding import EmbeddingSpec
from query_service.catalogue import Declared, LiveCollection, PastMoment
from query_service.errors import SnapshotGoneError, SnapshotNotReadyError
from query_service.queries import Query
from shared.postgres import Connection
from shared.read_model.index_states import READY, ready_of
from shared.read_model.metadata_indexes import MetadataIndexes
from shared.read_model.snapshot import FoundT, Reading, one_snapshot

MAX_SNAPSHOTS = 1_000

_READ = f"""
SELECT snapshot_name, until_position, until_time, created_at, expires_at, state, checked ->> 'passed' AS passed, reason,
       generation, revision, embedding_spec, metric, type, index, month_partitions, indexed, lists,
       (SELECT min(position) FROM unnest(checkpoints) AS c(position)) AS position,
       {READY.format(generation="g")} AS metadata_indexes
FROM generations g
WHERE collection_id = $1 AND snapshot_name IS NOT NULL AND expires_at > clock_timestamp()
ORDER BY until_position, generation LIMIT $2
"""  # noqa: S608

_IS_THERE = """
SELECT EXISTS (
    SELECT FROM generations
    WHERE collection_id = $1 AND generation = $2 AND revision = $3 AND snapshot_name IS NOT NULL AND state = 'ready'
)
"""

SnapshotState = Literal["building", "ready", "failed"]


@dataclass(frozen=True, slots=True)
class CollectionSnapshot:
    """`moment` is what it is of. While it is being built it holds the events up to `position`. `failed`: it cannot be
    built, or is not what the log says; `reason` says more."""

    moment: PastMoment
    state: SnapshotState
    position: int
    created_at: datetime
    expires_at: datetime
    reason: str | None
    generation: int
    revision: UUID
    shape: Declared
    indexed: bool
    lists: int | None
    metadata_indexes: MetadataIndexes

    def of(self, collection: LiveCollection) -> LiveCollection:
        """The collection as it was then: these tables.

        Raises:
            SnapshotNotReadyError
        """
        if self.state != "ready":
            raise SnapshotNotReadyError(self.moment.snapshot, self.moment.position, self.state, self.position)
        return replace(
            collection,
            metric=self.shape.metric,
            type=self.shape.type,
            index=self.shape.index,
            embedding_spec=self.shape.embedding_spec,
            month_partitions=self.shape.month_partitions,
            generation=self.generation,
            revision=self.revision,
            indexed=self.indexed,
            lists=self.lists,
            metadata_indexes=self.metadata_indexes,
            past=self.moment,
        )


async def read_snapshots(connection: Connection, collection_id: UUID) -> list[CollectionSnapshot]:
    """Those whose time is not over, in order of position."""
    return [_snapshot(row) for row in await connection.fetch(_READ, collection_id, MAX_SNAPSHOTS)]


@dataclass(frozen=True, slots=True)
class SnapshotRead(Generic[FoundT]):
    """The query over a snapshot's tables, if they still are those of the snapshot that was chosen: one that an operator
    has folded on to the present is none any longer."""

    query: Query[FoundT]

    async def read(self, connection: Connection, collection: LiveCollection) -> Reading[FoundT]:
        """
        Raises:
            SnapshotGoneError
            Whatever the query refuses.
        """
        async with one_snapshot(connection):
            key = collection.collection_id, collection.generation, collection.revision
            if not await connection.fetchval(_IS_THERE, *key):
                raise SnapshotGoneError
            return await self.query.read(connection, collection)


def _snapshot(row: asyncpg.Record | Any) -> CollectionSnapshot:
    return CollectionSnapshot(
        PastMoment(row["snapshot_name"], row["until_position"], row["until_time"]),
        _state(row),
        row["position"],
        row["created_at"],
        row["expires_at"],
        row["reason"] or ("its rows are not what the log says" if row["passed"] == "false" else None),
        row["generation"],
        row["revision"],
        Declared(
            metric=row["metric"],
            type=row["type"],
            index=IndexSpec.model_validate_json(row["index"]),
            embedding_spec=EmbeddingSpec.model_validate_json(row["embedding_spec"]),
            month_partitions=row["month_partitions"],
        ),
        row["indexed"],
        row["lists"],
        ready_of(orjson.loads(row["metadata_indexes"])),
    )


def _state(row: asyncpg.Record | Any) -> SnapshotState:
    match row["state"]:
        case "building":
            return "building"
        case "ready":
            return "failed" if row["passed"] == "false" else "ready"
        case _:
            return "failed"
