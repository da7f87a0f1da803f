"""Typed indexes over metadata, as a collection declares them, and which of them its generations have."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

import orjson

from events_schema.collections import MetadataIndexSpec
from projector.generations import Generation
from shared.postgres import Connection
from shared.read_model.index_states import read_ready
from shared.read_model.metadata_indexes import index_of

IndexState = Literal["building", "ready", "failed", "dropping"]
"""`building`: it is made, or will be. `ready`: filters are written for it. `failed`: it could not be made, for a reason
that is noted, and is tried again. `dropping`: no filter is written for it any more, and it goes."""

_MAX_REASON_CHARACTERS = 1_000

# Of a generation `g` of a collection `c`.
DIFFER_FROM_DECLARED = """c.metadata_indexes IS DISTINCT FROM (
    SELECT coalesce(jsonb_agg(
        CASE WHEN m.state = 'ready' THEN jsonb_build_object('field', m.field, 'type', m.type) END ORDER BY m.field
    ), '[]')
    FROM metadata_indexes m WHERE (m.collection_id, m.generation) = (g.collection_id, g.generation)
)"""

_FIRST_DIFFERING = f"""
SELECT g.generation FROM generations g JOIN collections c USING (collection_id)
WHERE g.collection_id = $1 AND g.state IN ('active', 'kept') AND {DIFFER_FROM_DECLARED}
ORDER BY g.state, g.generation LIMIT 1
"""  # noqa: S608

_DECLARED = "SELECT metadata_indexes FROM collections WHERE collection_id = $1 AND deleted_at IS NULL"

_READ = "SELECT field, type, state FROM metadata_indexes WHERE (collection_id, generation) = ($1, $2) ORDER BY field"

# What was the matter stays until it is made.
_SET = """
INSERT INTO metadata_indexes AS m (collection_id, generation, field, type, state, reason)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (collection_id, generation, field, type) DO UPDATE SET state = excluded.state,
    reason = CASE WHEN excluded.state <> 'ready' THEN coalesce(excluded.reason, m.reason) END,
    updated_at = clock_timestamp()
"""

_FORGET = "DELETE FROM metadata_indexes WHERE (collection_id, generation, field, type) = ($1, $2, $3, $4)"


async def first_differing(connection: Connection, collection_id: UUID) -> int | None:
    """The generation, of those that are written to, whose indexes are not those that its collection declares; the
    active one first."""
    number: int | None = await connection.fetchval(_FIRST_DIFFERING, collection_id)
    return number


async def declared_indexes(connection: Connection, collection_id: UUID) -> list[MetadataIndexSpec]:
    """None of a collection that is deleted."""
    text: str | None = await connection.fetchval(_DECLARED, collection_id)
    return [] if text is None else [MetadataIndexSpec.model_validate(one) for one in orjson.loads(text)]


async def index_states(connection: Connection, generation: Generation) -> dict[MetadataIndexSpec, IndexState]:
    rows = await connection.fetch(_READ, generation.collection_id, generation.number)
    return {MetadataIndexSpec(field=row["field"], type=row["type"]): row["state"] for row in rows}


async def set_index_state(
    connection: Connection,
    generation: Generation,
    spec: MetadataIndexSpec,
    state: IndexState,
    reason: str | None = None,
) -> None:
    """
    Raises:
        asyncpg.ForeignKeyViolationError: the generation is not there any more.
    """
    cut = None if reason is None else reason[:_MAX_REASON_CHARACTERS]
    await connection.execute(_SET, generation.collection_id, generation.number, spec.field, spec.type, state, cut)


async def forget_index(connection: Connection, generation: Generation, spec: MetadataIndexSpec) -> None:
    await connection.execute(_FORGET, generation.collection_id, generation.number, spec.field, spec.type)


async def create_declared_indexes(connection: Connection, generation: Generation) -> None:
    """Of a generation whose tables were made in the caller's transaction, and are empty."""
    for spec in await declared_indexes(connection, generation.collection_id):
        if not generation.shape.month_partitions:
            await connection.execute(index_of(spec).statement(generation.records, concurrently=False))
        await set_index_state(connection, generation, spec, "ready")


async def index_new_partition(connection: Connection, generation: Generation, partition: str) -> None:
    """Gives a partition of the records, made in the caller's transaction, the indexes that the others have."""
    ready = await read_ready(connection, generation.collection_id, generation.number)
    for index in ready.values():
        await connection.execute(index.statement(partition, concurrently=False))
