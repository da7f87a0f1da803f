"""Reads what `due` decides by."""

from __future__ import annotations

from dataclasses import dataclass, replace
from uuid import UUID

import asyncpg

from projector.checkpoints import read_positions
from projector.due import Facts
from projector.generations import Generation, Shape, read_generations, shape_of
from projector.indexes import has_outgrown, lists_for
from projector.metadata_indexes import DIFFER_FROM_DECLARED, first_differing
from projector.settings import ProjectorSettings
from projector.versions import current_version
from shared.postgres import Connection

_PERHAPS_DUE = f"""
SELECT c.collection_id FROM collections c JOIN generations g ON g.collection_id = c.collection_id AND g.state = 'active'
WHERE c.deleted_at IS NULL AND (
    (c.embedding_spec, c.spec_since, c.metric, c.type, c.index, c.month_partitions)
        IS DISTINCT FROM (g.embedding_spec, g.spec_since, g.metric, g.type, g.index, g.month_partitions)
    OR g.projection_version < $1
    OR NOT g.indexed AND g.index ->> 'kind' <> 'none'
    OR g.index ->> 'kind' = 'ivfflat'
    OR EXISTS (
        SELECT FROM generations u
        WHERE u.collection_id = c.collection_id AND u.automatic AND u.state IN ('building', 'ready')
    )
    OR EXISTS (
        SELECT FROM generations g
        WHERE g.collection_id = c.collection_id AND g.state IN ('active', 'kept') AND {DIFFER_FROM_DECLARED}
    )
)
ORDER BY c.collection_id
"""  # noqa: S608

_WANTED = """
SELECT embedding_spec, spec_since, served_from, metric, type, index, month_partitions FROM collections
WHERE collection_id = $1 AND deleted_at IS NULL
"""

_FAILED_LATELY = """
SELECT generation FROM generations
WHERE collection_id = $1 AND automatic AND state = 'stale'
  AND updated_at > clock_timestamp() - make_interval(secs => $2)
"""

_COUNT_UP_TO = "SELECT count(*) FROM (SELECT FROM {embeddings} LIMIT $1) AS counted"

_ESTIMATE = "SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass($1)"


# The lists of an IVFFlat index that searches may use, the newest where one takes the place of another.
_PARTITIONS = """
SELECT format('%I', c.relname) AS name, greatest(c.reltuples, 0)::bigint AS estimated, (
    SELECT max(option_value::int)
    FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid, pg_options_to_table(x.reloptions)
    WHERE i.indrelid = c.oid AND i.indisvalid AND option_name = 'lists'
) AS lists
FROM pg_inherits h JOIN pg_class c ON c.oid = h.inhrelid
WHERE h.inhparent = to_regclass($1)
"""


async def perhaps_due(connection: Connection) -> list[UUID]:
    """The collections that anything may be due for."""
    return [row["collection_id"] for row in await connection.fetch(_PERHAPS_DUE, current_version())]


async def read_facts(connection: Connection, collection_id: UUID, settings: ProjectorSettings) -> Facts | None:
    """None: the collection was deleted."""
    row = await connection.fetchrow(_WANTED, collection_id)
    generations = await read_generations(connection, collection_id)
    active = next((one for one in generations if one.state == "active"), None)
    if row is None or active is None:
        return None
    lately = await connection.fetch(_FAILED_LATELY, collection_id, settings.rebuild_retry_seconds)
    failed = {found["generation"] for found in lately}
    rows = await _rows(connection, active, settings)
    differing = await first_differing(connection, collection_id)
    return Facts(
        wanted=await _wanted(connection, row, active),
        version=current_version(),
        active=active,
        unfinished=next((one for one in generations if one.automatic and one.state in {"building", "ready"}), None),
        failed=next((one for one in generations if one.number in failed), None),
        rows=rows.count,
        partition_is_due=rows.partition_is_due,
        differing=next((one for one in generations if one.number == differing), None),
    )


async def _wanted(connection: Connection, row: asyncpg.Record, active: Generation) -> Shape:
    """Embeddings under another spec are all there once every partition has come to the event that says so."""
    wanted, positions = shape_of(row), await read_positions(connection)
    if min(positions.values(), default=0) < row["served_from"]:
        return replace(wanted, spec=active.shape.spec, spec_since=active.shape.spec_since)
    return wanted


@dataclass(frozen=True, slots=True)
class _Rows:
    count: int
    partition_is_due: bool = False


async def _rows(connection: Connection, active: Generation, settings: ProjectorSettings) -> _Rows:
    if not active.shape.month_partitions:
        return _Rows(await _rows_of_one(connection, active, settings.ivfflat_min_rows))
    fullest, outgrown = 0, False
    for row in await connection.fetch(_PARTITIONS, active.embeddings):
        if row["lists"] is None:
            fullest = max(fullest, await count_up_to(connection, row["name"], settings.ivfflat_min_rows))
        elif has_outgrown(lists_for(row["estimated"], active.shape, settings.index_memory_mb), row["lists"]):
            outgrown = True
    is_ivfflat = active.shape.index.kind == "ivfflat"
    return _Rows(fullest, is_ivfflat and (outgrown or fullest >= settings.ivfflat_min_rows))


async def _rows_of_one(connection: Connection, active: Generation, up_to: int) -> int:
    if active.indexed and active.shape.index.kind == "ivfflat":
        estimated: int | None = await connection.fetchval(_ESTIMATE, active.embeddings)
        return estimated or 0
    return await count_up_to(connection, active.embeddings, up_to)


async def count_up_to(connection: Connection, table: str, most: int) -> int:
    """How many rows a table has, counted no further than `most`."""
    counted: int = await connection.fetchval(_COUNT_UP_TO.format(embeddings=table), most)
    return counted
