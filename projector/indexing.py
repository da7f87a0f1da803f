"""Makes the index over a generation's embeddings; over one that is searched and written to, beside that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from projector.checkpoints import Checkpoint, between_batches
from projector.generations import Generation, Shape, expect_state, lock_generation, mark_indexed, renew_revision
from projector.indexes import build_memory_mb, index_name, index_statement, lists_for
from projector.settings import ProjectorSettings
from shared.postgres import Connection

_COUNT = "SELECT count(*) FROM {embeddings}"

_READ_INDEX = """
SELECT i.indisvalid AS valid,
       (SELECT option_value::int FROM pg_options_to_table(c.reloptions) WHERE option_name = 'lists') AS lists
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indexrelid = to_regclass($1)
"""

_DROP = "DROP INDEX CONCURRENTLY {name}"

_MEMORY = """
SELECT set_config('maintenance_work_mem', $1, false), set_config('max_parallel_maintenance_workers', $2, false)
"""

_LEAST_MEMORY_MB = 64

# What the planner knows of the metadata decides how a filtered search is done.
_ANALYZE = "ANALYZE {records}, {embeddings} (id)"

_log = structlog.get_logger("indexing")


@dataclass(frozen=True, slots=True)
class Made:
    """An index that is there: over how many rows, and with how many lists if it is an IVFFlat one."""

    rows: int
    lists: int | None


async def index_in_place(connection: Connection, generation: Generation, settings: ProjectorSettings) -> None:
    """Makes the index of an active generation while searches are exact and writes go on; then searches use it.

    `connection` is a session of its own, outside any transaction. It may die at any statement, or the process with
    it: done again, this goes on from there.

    Raises:
        GenerationGoneError: the generation is not the active one any more.
        asyncpg.PostgresError: the index cannot be made; nothing is changed.
    """
    made = await make_index(connection, generation, settings, concurrently=True)

    async def tell(checkpoints: Sequence[Checkpoint]) -> None:
        expect_state(await lock_generation(connection, generation.collection_id, generation.number), "active")
        await mark_indexed(connection, generation, made.rows, made.lists)
        await renew_revision(connection, generation, checkpoints)

    await between_batches(connection, tell)
    _log.info("indexed", table=generation.embeddings, kind=generation.shape.index.kind, rows=made.rows)


async def make_index(
    connection: Connection, generation: Generation, settings: ProjectorSettings, *, concurrently: bool
) -> Made:
    """Outside any transaction. Not `concurrently`: whoever writes to the table meanwhile waits.

    Raises:
        asyncpg.PostgresError: it cannot be made.
    """
    shape = generation.shape
    rows: int = await connection.fetchval(
        _COUNT.format(embeddings=generation.embeddings), timeout=settings.index_timeout_seconds
    )
    lists = lists_for(rows, shape, settings.index_memory_mb) if shape.index.kind == "ivfflat" else None
    await _allow_memory(connection, build_memory_mb(shape, rows, lists), settings)
    found = await _create(connection, generation.embeddings, shape, lists, settings, concurrently=concurrently)
    await analyze(connection, generation, settings)
    return Made(rows, found)


async def analyze(connection: Connection, generation: Generation, settings: ProjectorSettings) -> None:
    await connection.execute(
        _ANALYZE.format(records=generation.records, embeddings=generation.embeddings),
        timeout=settings.index_timeout_seconds,
    )


async def _allow_memory(connection: Connection, needed_mb: int, settings: ProjectorSettings) -> None:
    # A parallel build takes all of it at once, so no more is asked for than it needs.
    memory_mb = min(max(needed_mb, _LEAST_MEMORY_MB), settings.index_memory_mb)
    await connection.execute(_MEMORY, f"{memory_mb}MB", str(settings.index_parallel_workers))


async def _create(
    connection: Connection,
    table: str,
    shape: Shape,
    lists: int | None,
    settings: ProjectorSettings,
    *,
    concurrently: bool,
) -> int | None:
    """How many lists it has in the end: it may be there already, made for the rows that there were then."""
    name = index_name(table, shape.index.kind)
    there = await connection.fetchrow(_READ_INDEX, name)
    if there is not None and there["valid"]:
        found: int | None = there["lists"]
        return found
    if there is not None:
        # A build that was cut off leaves an index that every write keeps up and no search may use.
        await connection.execute(_DROP.format(name=name), timeout=settings.index_timeout_seconds)
    await connection.execute(
        index_statement(table, shape, lists, concurrently=concurrently), timeout=settings.index_timeout_seconds
    )
    return lists
