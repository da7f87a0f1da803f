"""Makes the index over a generation's embeddings; over one that is searched and written to, beside that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import asyncpg
import structlog

from projector.checkpoints import Checkpoint, between_batches
from projector.generations import Generation, Shape, expect_state, lock_generation, mark_indexed, renew_revision
from projector.indexes import build_memory_mb, has_outgrown, index_statement, lists_for
from projector.partitions import partitions_of_table
from projector.settings import ProjectorSettings
from shared.postgres import Connection

_COUNT = "SELECT count(*) FROM {table}"

_READ_INDEXES = """
SELECT format('%I', c.relname) AS name, i.indisvalid AS valid,
       (SELECT option_value::int FROM pg_options_to_table(c.reloptions) WHERE option_name = 'lists') AS lists
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
WHERE i.indrelid = to_regclass($1) AND a.amname = $2
ORDER BY i.indisvalid, lists NULLS FIRST, c.relname
"""

_DROP = "DROP INDEX CONCURRENTLY {name}"

_MEMORY = """
SELECT set_config('maintenance_work_mem', $1, false), set_config('max_parallel_maintenance_workers', $2, false)
"""

_PARALLEL_WORKERS = "SELECT current_setting('max_parallel_maintenance_workers')::int"

_LEAST_MEMORY_MB = 64

# What the planner knows of the metadata decides how a filtered search is done.
_ANALYZE = "ANALYZE {records}, {embeddings} (id)"

_log = structlog.get_logger("indexing")


@dataclass(frozen=True, slots=True)
class Made:
    """An index that is there: over how many rows, with how many lists if it is an IVFFlat one (the most that a
    partition's has), and the tables that there were."""

    rows: int
    lists: int | None
    tables: list[str]


async def index_in_place(connection: Connection, generation: Generation, settings: ProjectorSettings) -> None:
    """Makes the index of an active generation while searches are exact and writes go on; then searches use it.

    `connection` is a session of its own, outside any transaction. It may die at any statement, or the process with
    it: done again, this goes on from there.

    Raises:
        GenerationGoneError: the generation is not the active one any more.
        asyncpg.PostgresError: the index cannot be made; nothing is changed.
    """
    while True:
        made = await make_index(connection, generation, settings, concurrently=True)
        if made is None or await between_batches(connection, partial(_tell, connection, generation, made)):
            break
    if made is not None:
        _log.info("indexed", table=generation.embeddings, kind=generation.shape.index.kind, rows=made.rows)


async def _tell(connection: Connection, generation: Generation, made: Made, checkpoints: Sequence[Checkpoint]) -> bool:
    """Not, if a partition has come meanwhile that has no index."""
    expect_state(await lock_generation(connection, generation.collection_id, generation.number), "active")
    if made.tables != await tables_of_embeddings(connection, generation):
        return False
    await mark_indexed(connection, generation, made.rows, made.lists)
    await renew_revision(connection, generation, checkpoints)
    return True


async def drop_index(connection: Connection, generation: Generation, settings: ProjectorSettings) -> None:
    """Whatever state it is in, while searches and writes go on. Outside any transaction."""
    for table in await tables_of_embeddings(connection, generation):
        for row in await connection.fetch(_READ_INDEXES, table, generation.shape.index.kind):
            await connection.execute(_DROP.format(name=row["name"]), timeout=settings.index_timeout_seconds)


async def count_rows(connection: Connection, generation: Generation, settings: ProjectorSettings) -> int:
    return await _count(connection, generation.embeddings, settings)


async def _count(connection: Connection, table: str, settings: ProjectorSettings) -> int:
    rows: int = await connection.fetchval(_COUNT.format(table=table), timeout=settings.index_timeout_seconds)
    return rows


async def has_any_index(connection: Connection, generation: Generation) -> bool:
    """Of its kind, over its embeddings; it may be one that searches cannot use."""
    for table in await tables_of_embeddings(connection, generation):
        if await connection.fetch(_READ_INDEXES, table, generation.shape.index.kind):
            return True
    return False


async def make_index(
    connection: Connection, generation: Generation, settings: ProjectorSettings, *, concurrently: bool
) -> Made | None:
    """Outside any transaction. Not `concurrently`: whoever writes to the table meanwhile waits. Of month partitions
    each gets its own index, an IVFFlat one once it has the rows for it, and again when it has outgrown it. None: no
    partition has the rows.

    Raises:
        asyncpg.PostgresError: it cannot be made.
    """
    tables = await tables_of_embeddings(connection, generation)
    total, most_lists, there = 0, None, generation.shape.index.kind == "hnsw"
    for table in tables:
        rows = await _count(connection, table, settings)
        total += rows
        if _is_too_small(generation.shape, rows, settings):
            continue
        there = True
        lists = await _make_over(connection, table, generation.shape, rows, settings, concurrently=concurrently)
        most_lists = max((one for one in (lists, most_lists) if one is not None), default=None)
    await analyze(connection, generation, settings)
    return Made(total, most_lists, tables) if there else None


async def tables_of_embeddings(connection: Connection, generation: Generation) -> list[str]:
    """Those that are indexed: the one, or its partitions."""
    if generation.shape.month_partitions:
        return await partitions_of_table(connection, generation.embeddings)
    return [generation.embeddings]


def _is_too_small(shape: Shape, rows: int, settings: ProjectorSettings) -> bool:
    return shape.month_partitions and shape.index.kind == "ivfflat" and rows < settings.ivfflat_min_rows


async def _make_over(
    connection: Connection, table: str, shape: Shape, rows: int, settings: ProjectorSettings, *, concurrently: bool
) -> int | None:
    """How many lists the index has in the end: it may be there already, made for the rows that there were then."""
    kind = shape.index.kind
    lists = lists_for(rows, shape, settings.index_memory_mb) if kind == "ivfflat" else None
    valid = await _drop_invalid(connection, table, kind, settings)
    if not valid or (shape.month_partitions and has_outgrown(lists, valid[-1]["lists"])):
        statement = index_statement(table, shape, lists, concurrently=concurrently, named=not valid)
        memory_mb, workers = build_memory_mb(shape, rows, lists), await parallel_workers(connection, settings)
        try:
            await _create(connection, statement, memory_mb, workers, settings)
        except asyncpg.DiskFullError as error:
            # Processes that make an index together do so in shared memory, of which containers have little. One alone
            # needs none; if it is the disk that is full, it fails as well.
            if not workers:
                raise
            _log.warning("an index is made anew by one process", table=table, reason=str(error))
            await _drop_invalid(connection, table, kind, settings)
            await _create(connection, statement, memory_mb, 0, settings)
        outdated = valid
    else:
        lists, outdated = valid[-1]["lists"], valid[:-1]
    for row in outdated:
        await connection.execute(_DROP.format(name=row["name"]), timeout=settings.index_timeout_seconds)
    return lists


async def analyze(connection: Connection, generation: Generation, settings: ProjectorSettings) -> None:
    await connection.execute(
        _ANALYZE.format(records=generation.records, embeddings=generation.embeddings),
        timeout=settings.index_timeout_seconds,
    )


async def _drop_invalid(
    connection: Connection, table: str, kind: str, settings: ProjectorSettings
) -> list[asyncpg.Record]:
    """The indexes that are left, rows with name and lists, the newest last."""
    valid: list[asyncpg.Record] = []
    for row in await connection.fetch(_READ_INDEXES, table, kind):
        if row["valid"]:
            valid.append(row)
        else:
            # A build that was cut off leaves an index that every write keeps up and no search may use.
            await connection.execute(_DROP.format(name=row["name"]), timeout=settings.index_timeout_seconds)
    return valid


async def _create(
    connection: Connection, statement: str, needed_mb: int, workers: int, settings: ProjectorSettings
) -> None:
    # A parallel build takes all of it at once, so no more is asked for than it needs.
    memory_mb = min(max(needed_mb, _LEAST_MEMORY_MB), settings.index_memory_mb)
    await connection.execute(_MEMORY, f"{memory_mb}MB", str(workers))
    await connection.execute(statement, timeout=settings.index_timeout_seconds)


async def parallel_workers(connection: Connection, settings: ProjectorSettings) -> int:
    """How many processes help the one that makes an index."""
    if settings.index_parallel_workers is not None:
        return settings.index_parallel_workers
    workers: int = await connection.fetchval(_PARALLEL_WORKERS)
    return workers
