"""Makes the index over tables that are searched and written to meanwhile, and tells the readers of it."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import uuid4

import structlog

from projector.checkpoints import Checkpoint, between_batches
from projector.errors import GenerationGoneError
from projector.generations import Generation, Shape
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

_MARK_INDEXED = """
UPDATE generations SET indexed = true, lists = $3, indexed_rows = $4, updated_at = clock_timestamp()
WHERE collection_id = $1 AND generation = $2 AND state = 'active'
RETURNING generation
"""

_RENEW = "UPDATE collection_state SET revision = $2, position = $3 WHERE collection_id = $1"

_log = structlog.get_logger("indexing")


async def index_in_place(connection: Connection, generation: Generation, settings: ProjectorSettings) -> None:
    """Makes the index of an active generation while searches are exact and writes go on; then searches use it.

    `connection` is a session of its own, outside any transaction. It may die at any statement, or the process with
    it: done again, this goes on from there.

    Raises:
        GenerationGoneError: the generation is not the active one any more.
        asyncpg.PostgresError: the index cannot be made; nothing is changed.
    """
    shape = generation.shape
    rows: int = await connection.fetchval(_COUNT.format(embeddings=generation.embeddings))
    lists = lists_for(rows, shape, settings.index_memory_mb) if shape.index.kind == "ivfflat" else None
    await _allow_memory(connection, build_memory_mb(shape, rows, lists), settings)
    lists = await _create_concurrently(connection, generation.embeddings, shape, lists, settings)
    await connection.execute(_ANALYZE.format(records=generation.records, embeddings=generation.embeddings))

    async def mark(checkpoints: Sequence[Checkpoint]) -> None:
        found = await connection.fetchval(_MARK_INDEXED, generation.collection_id, generation.number, lists, rows)
        if found is None:
            raise GenerationGoneError(generation.collection_id, generation.number)
        low = min(checkpoint.position for checkpoint in checkpoints)
        await connection.execute(_RENEW, generation.collection_id, uuid4(), low)

    await between_batches(connection, mark)
    _log.info("indexed", table=generation.embeddings, kind=generation.shape.index.kind, rows=rows, lists=lists)


async def _allow_memory(connection: Connection, needed_mb: int, settings: ProjectorSettings) -> None:
    # A parallel build takes all of it at once, so no more is asked for than it needs.
    memory_mb = min(max(needed_mb, _LEAST_MEMORY_MB), settings.index_memory_mb)
    await connection.execute(_MEMORY, f"{memory_mb}MB", str(settings.index_parallel_workers))


async def _create_concurrently(
    connection: Connection, table: str, shape: Shape, lists: int | None, settings: ProjectorSettings
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
        index_statement(table, shape, lists, concurrently=True), timeout=settings.index_timeout_seconds
    )
    return lists
