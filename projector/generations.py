"""Generations: the pairs of tables that a collection has, what each of them is, and what is done with it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal
from uuid import UUID, uuid4

import asyncpg
import orjson

from events_schema.collections import IndexSpec, Metric, VectorType
from events_schema.embedding import EmbeddingSpec
from projector.checkpoints import Checkpoint
from projector.errors import GenerationGoneError
from shared.postgres import Connection
from shared.read_model.tables import embeddings_table, records_table

GenerationState = Literal["building", "ready", "active", "kept", "stale"]
"""`building`: the log is folded into it, or its index is made. `ready`: it lacks only what happened meanwhile.
`active`: searches read it. `kept`: it was active, and is written on, so that it can be active again. `stale`: it is
not written any more, and `reason` says why."""

_MAX_REASON_CHARACTERS = 1_000

COLUMNS = """g.generation, g.embedding_spec, g.spec_since, g.metric, g.type, g.index, g.month_partitions, g.state,
    g.indexed, g.lists, g.indexed_rows, g.checkpoints, g.automatic, g.reason, g.snapshot_name, g.until_position,
    g.until_time, g.expires_at, g.checked, g.projection_version"""

_INSERT = """
INSERT INTO generations (collection_id, generation, embedding_spec, metric, type, index, month_partitions, state,
                         indexed, automatic, checkpoints, snapshot_name, until_position, until_time, expires_at,
                         projection_version, spec_since)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
"""

_READ = f"SELECT {COLUMNS} FROM generations g WHERE g.collection_id = $1 ORDER BY g.generation"  # noqa: S608

_READ_ACTIVE = f"""
SELECT g.collection_id, {COLUMNS} FROM generations g
WHERE g.collection_id = ANY($1::uuid[]) AND g.state = 'active' ORDER BY g.collection_id
"""  # noqa: S608

_LOCK = f"SELECT {COLUMNS} FROM generations g WHERE g.collection_id = $1 AND g.generation = $2 FOR UPDATE"  # noqa: S608

# A number is never used again, so that readers never take one generation for another.
_NEXT_NUMBER = """
UPDATE collections SET last_generation = last_generation + 1 WHERE collection_id = $1 AND deleted_at IS NULL
RETURNING last_generation
"""

_SET_STATE = """
UPDATE generations SET state = $3, reason = $4, updated_at = clock_timestamp()
WHERE collection_id = $1 AND generation = $2
"""

_MARK_INDEXED = """
UPDATE generations SET indexed = true, indexed_rows = $3, lists = $4, reason = NULL, updated_at = clock_timestamp()
WHERE collection_id = $1 AND generation = $2
"""

_MARK_UNINDEXED = """
UPDATE generations SET indexed = false, indexed_rows = NULL, lists = NULL, updated_at = clock_timestamp()
WHERE collection_id = $1 AND generation = $2
"""

_RENEW = """
UPDATE collection_state SET generation = $2, revision = $3, position = $4 WHERE collection_id = $1
"""

_RENEW_MADE = """
UPDATE generations SET revision = gen_random_uuid(), updated_at = clock_timestamp()
WHERE collection_id = $1 AND generation = $2
"""

_MOVE = """
UPDATE generations SET checkpoints = $4, updated_at = clock_timestamp()
WHERE collection_id = $1 AND generation = $2 AND checkpoints = $3 AND state IN ('building', 'ready')
RETURNING generation
"""

_ACTIVATE = """
UPDATE generations SET state = 'active', checkpoints = NULL, reason = NULL, updated_at = clock_timestamp()
WHERE collection_id = $1 AND generation = $2
"""

_FOLLOW = """
UPDATE generations SET snapshot_name = NULL, until_position = NULL, until_time = NULL, expires_at = NULL,
    checked = NULL, updated_at = clock_timestamp()
WHERE collection_id = $1 AND generation = $2
"""

_PROLONG = """
UPDATE generations SET expires_at = greatest(expires_at, $3) WHERE collection_id = $1 AND generation = $2
RETURNING expires_at
"""

_RECORD_CHECK = """
UPDATE generations SET checked = $3, updated_at = clock_timestamp() WHERE collection_id = $1 AND generation = $2
"""

_RENAME = """
UPDATE generations SET metric = $3, index = $4, updated_at = clock_timestamp()
WHERE collection_id = $1 AND generation = $2
"""

# On what is made, or else on what something was to be done to.
_NOTE = """
UPDATE generations SET reason = $2, updated_at = clock_timestamp()
WHERE collection_id = $1 AND generation = (
    SELECT generation FROM generations
    WHERE collection_id = $1 AND (automatic AND state IN ('building', 'ready') OR state = 'active')
    ORDER BY state = 'active', generation DESC LIMIT 1
)
"""

_DELETE = "DELETE FROM generations WHERE collection_id = $1 AND generation = $2"

_DELETE_ALL = "DELETE FROM generations WHERE collection_id = $1 RETURNING generation"

_RETIRE = "INSERT INTO retired_tables (table_name) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING"


@dataclass(frozen=True, slots=True)
class Shape:
    """What a generation's tables hold, and how they are searched. Of the spec's embeddings they hold those that were
    written beyond position `spec_since`: what is older the collection had left behind."""

    spec: EmbeddingSpec
    metric: Metric
    type: VectorType
    index: IndexSpec
    month_partitions: bool = False
    spec_since: int = 0


@dataclass(frozen=True, slots=True)
class SnapshotTerms:
    """A generation that goes no further than `position`, whose event is of `time`, and is dropped at `expires_at`.
    `name` tells it from the collection's other snapshots."""

    name: str
    position: int
    time: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Generation:
    """`indexed`: the index that its shape names is there; without it, searches are exact. `lists` and `indexed_rows`
    are what the index was made with.

    `checkpoints`, by partition: where a generation stands that is being made. Every vector's events up to its
    partition's are in it, and none beyond. Where a live one stands the projection does.

    `snapshot`: it is one, of the past. `checked`: what its last verification found.

    `projection_version`: that of the projection which made it, and writes it; see `versions`.

    `automatic`: the upkeep makes it, not an operator. `narrowed`: numbers beyond what its type holds are taken for the
    greatest that it holds.
    """

    collection_id: UUID
    number: int
    shape: Shape
    state: GenerationState
    indexed: bool
    projection_version: int
    lists: int | None = None
    indexed_rows: int | None = None
    checkpoints: tuple[int, ...] = ()
    automatic: bool = True
    reason: str | None = None
    narrowed: bool = False
    snapshot: SnapshotTerms | None = None
    checked: dict[str, Any] | None = None

    @property
    def until_position(self) -> int | None:
        return None if self.snapshot is None else self.snapshot.position

    @property
    def records(self) -> str:
        return records_table(self.collection_id, self.number)

    @property
    def embeddings(self) -> str:
        return embeddings_table(self.collection_id, self.number)


def shape_of(row: asyncpg.Record) -> Shape:
    """From a row of a collection or of a generation."""
    return Shape(
        EmbeddingSpec.model_validate_json(row["embedding_spec"]),
        row["metric"],
        row["type"],
        IndexSpec.model_validate_json(row["index"]),
        row["month_partitions"],
        row["spec_since"],
    )


def generation_of(collection_id: UUID, row: asyncpg.Record) -> Generation:
    """From a row with `COLUMNS`."""
    return Generation(
        collection_id,
        row["generation"],
        shape_of(row),
        row["state"],
        row["indexed"],
        row["projection_version"],
        row["lists"],
        row["indexed_rows"],
        tuple(row["checkpoints"] or ()),
        row["automatic"],
        row["reason"],
        snapshot=None
        if row["until_position"] is None
        else SnapshotTerms(row["snapshot_name"], row["until_position"], row["until_time"], row["expires_at"]),
        checked=None if row["checked"] is None else orjson.loads(row["checked"]),
    )


async def insert_generation(connection: Connection, generation: Generation) -> None:
    shape, snapshot = generation.shape, generation.snapshot
    await connection.execute(
        _INSERT,
        generation.collection_id,
        generation.number,
        shape.spec.model_dump_json(),
        shape.metric,
        shape.type,
        shape.index.model_dump_json(),
        shape.month_partitions,
        generation.state,
        generation.indexed,
        generation.automatic,
        list(generation.checkpoints) or None,
        *((snapshot.name, snapshot.position, snapshot.time, snapshot.expires_at) if snapshot else (None,) * 4),
        generation.projection_version,
        shape.spec_since,
    )


async def next_number(connection: Connection, collection_id: UUID) -> int | None:
    """None if the collection is deleted."""
    number: int | None = await connection.fetchval(_NEXT_NUMBER, collection_id)
    return number


async def read_active(connection: Connection, collection_ids: Collection[UUID]) -> list[Generation]:
    """The active ones of those of the collections that are not deleted."""
    rows = await connection.fetch(_READ_ACTIVE, list(collection_ids))
    return [generation_of(row["collection_id"], row) for row in rows]


async def read_generations(connection: Connection, collection_id: UUID) -> list[Generation]:
    """All of a collection, oldest first."""
    return [generation_of(collection_id, row) for row in await connection.fetch(_READ, collection_id)]


async def lock_generation(connection: Connection, collection_id: UUID, number: int) -> Generation:
    """As it is, for the rest of the transaction.

    Raises:
        GenerationGoneError
    """
    row = await connection.fetchrow(_LOCK, collection_id, number)
    if row is None:
        raise GenerationGoneError(collection_id, number)
    return generation_of(collection_id, row)


def expect_state(generation: Generation, *states: GenerationState) -> None:
    """
    Raises:
        GenerationGoneError
    """
    if generation.state not in states:
        raise GenerationGoneError(generation.collection_id, generation.number)


async def move_generation(connection: Connection, generation: Generation, checkpoints: Sequence[int]) -> Generation:
    """One that is made, from its checkpoints to these.

    Raises:
        GenerationGoneError: it is not there, or another process has moved it.
    """
    before = list(generation.checkpoints)
    if not await connection.fetchval(_MOVE, generation.collection_id, generation.number, before, list(checkpoints)):
        raise GenerationGoneError(generation.collection_id, generation.number)
    return replace(generation, checkpoints=tuple(checkpoints))


async def activate(connection: Connection, generation: Generation, *, keep_old: bool) -> None:
    """Instead of the one that is active; of the others only that may be kept, and those that are being made stay."""
    for other in await read_generations(connection, generation.collection_id):
        if other.number == generation.number:
            continue
        if other.state == "active" and keep_old:
            await set_state(connection, other, "kept")
        elif other.state in {"active", "kept", "stale"}:
            await delete_generation(connection, other)
    await connection.execute(_ACTIVATE, generation.collection_id, generation.number)


async def mark_indexed(connection: Connection, generation: Generation, rows: int, lists: int | None) -> None:
    await connection.execute(_MARK_INDEXED, generation.collection_id, generation.number, rows, lists)


async def mark_unindexed(connection: Connection, generation: Generation) -> None:
    """Its index may be there still; searches use it no longer."""
    await connection.execute(_MARK_UNINDEXED, generation.collection_id, generation.number)


async def follow_on(connection: Connection, generation: Generation) -> Generation:
    """A snapshot that is one no longer: it may go beyond the position that it was to end at."""
    await connection.execute(_FOLLOW, generation.collection_id, generation.number)
    return replace(generation, snapshot=None, checked=None)


async def prolong(connection: Connection, generation: Generation, expires_at: datetime) -> Generation:
    """A snapshot that is to be there until then, or longer."""
    assert generation.snapshot is not None
    until = await connection.fetchval(_PROLONG, generation.collection_id, generation.number, expires_at)
    if until is None:
        raise GenerationGoneError(generation.collection_id, generation.number)
    return replace(generation, snapshot=replace(generation.snapshot, expires_at=until))


async def record_check(connection: Connection, generation: Generation, report: dict[str, Any]) -> Generation:
    await connection.execute(_RECORD_CHECK, generation.collection_id, generation.number, orjson.dumps(report).decode())
    return replace(generation, checked=report)


async def rename_shape(connection: Connection, generation: Generation, shape: Shape) -> None:
    """Its metric and index, which say how tables without an index are searched."""
    await connection.execute(
        _RENAME, generation.collection_id, generation.number, shape.metric, shape.index.model_dump_json()
    )


async def renew_revision(connection: Connection, active: Generation, checkpoints: Sequence[Checkpoint]) -> None:
    """Tells the readers that this generation answers from now on, and how: what they know of the collection is void.

    In a transaction that holds all checkpoints: whoever polled before it learns of it by the position.
    """
    low = min(checkpoint.position for checkpoint in checkpoints)
    await connection.execute(_RENEW, active.collection_id, active.number, uuid4(), low)


async def renew_made(connection: Connection, generation: Generation) -> None:
    """Of one that is made, a snapshot above all: what readers have kept of its answers is void."""
    await connection.execute(_RENEW_MADE, generation.collection_id, generation.number)


async def set_state(
    connection: Connection, generation: Generation, state: GenerationState, reason: str | None = None
) -> None:
    await connection.execute(_SET_STATE, generation.collection_id, generation.number, state, _cut(reason))


async def note_reason(connection: Connection, collection_id: UUID, reason: str | None) -> None:
    """Why the upkeep could not go on with what it was doing, and will try again; None: it did go on."""
    await connection.execute(_NOTE, collection_id, _cut(reason))


def _cut(reason: str | None) -> str | None:
    return None if reason is None else reason[:_MAX_REASON_CHARACTERS]


async def delete_generation(connection: Connection, generation: Generation) -> None:
    """Its tables are dropped once nobody uses them."""
    await connection.execute(_DELETE, generation.collection_id, generation.number)
    await retire_tables(connection, generation.collection_id, [generation.number])


async def delete_generations(connection: Connection, collection_id: UUID) -> None:
    """All of a collection; their tables are dropped once nobody uses them."""
    rows = await connection.fetch(_DELETE_ALL, collection_id)
    await retire_tables(connection, collection_id, [row["generation"] for row in rows])


async def retire_tables(connection: Connection, collection_id: UUID, numbers: Iterable[int]) -> None:
    tables = [table(collection_id, number) for number in numbers for table in (records_table, embeddings_table)]
    await connection.execute(_RETIRE, tables)
