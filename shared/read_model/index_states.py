"""What has become of the indexes over metadata that collections declare."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import orjson

from events_schema.collections import MetadataIndexSpec, MetadataIndexType
from shared.postgres import Connection
from shared.read_model.metadata_indexes import MetadataIndexes, indexes_of

DeclaredIndexState = Literal["building", "ready", "failed"]

# Of the generation that searches read. One that is not begun, or is on its way out, is still to be built.
_READ = """
SELECT c.collection_id, c.tenant, c.name, d.field, d.type, coalesce(m.state, 'building') AS state, m.reason,
       coalesce(m.updated_at, c.updated_at) AS since
FROM collections c
JOIN collection_state s USING (collection_id)
CROSS JOIN LATERAL jsonb_to_recordset(c.metadata_indexes) AS d(field text, type text)
LEFT JOIN metadata_indexes m ON (m.collection_id, m.generation) = (c.collection_id, s.generation)
    AND (m.field, m.type) = (d.field, d.type) AND m.state <> 'dropping'
WHERE c.deleted_at IS NULL AND {which}
ORDER BY c.tenant, c.name, d.field
"""

_OF_COLLECTIONS = _READ.format(which="c.collection_id = ANY($1::uuid[])")

_NOT_READY = _READ.format(which="m.state IS DISTINCT FROM 'ready'") + "LIMIT $1"

READY = """(
    SELECT coalesce(json_agg(json_build_object('field', m.field, 'type', m.type)), '[]') FROM metadata_indexes m
    WHERE (m.collection_id, m.generation) = ({generation}.collection_id, {generation}.generation) AND m.state = 'ready'
)"""
"""Those that the tables of a generation have, as SQL beside that row; see `ready_of`."""

_READ_READY = f"""
SELECT {READY.format(generation="g")} FROM generations g WHERE collection_id = $1 AND generation = $2
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class DeclaredIndex:
    """`reason`: why the last try failed, if one did. `since`: when it got this far, or was asked for."""

    collection_id: UUID
    tenant: str
    collection: str
    field: str
    type: MetadataIndexType
    state: DeclaredIndexState
    reason: str | None
    since: datetime


async def read_declared(connection: Connection, collection_ids: Sequence[UUID]) -> Sequence[DeclaredIndex]:
    """Those of these collections, in order of the field's name."""
    return [DeclaredIndex(*row) for row in await connection.fetch(_OF_COLLECTIONS, collection_ids)]


async def read_not_ready(connection: Connection, limit: int) -> Sequence[DeclaredIndex]:
    """Of all collections of all tenants the first, in order of tenant, collection and field."""
    return [DeclaredIndex(*row) for row in await connection.fetch(_NOT_READY, limit)]


async def read_ready(connection: Connection, collection_id: UUID, generation: int) -> MetadataIndexes:
    """Those that a generation's tables have."""
    return ready_of(orjson.loads(await connection.fetchval(_READ_READY, collection_id, generation) or "[]"))


def ready_of(rows: Iterable[Any]) -> MetadataIndexes:
    """From the JSON of `READY`."""
    return indexes_of(map(MetadataIndexSpec.model_validate, rows))
