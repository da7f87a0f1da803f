"""The poll: everything that reads must know of a server before they choose a collection's tables, in one snapshot."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

import orjson

from query_service.catalogue import Catalogue
from query_service.snapshot import CHECKPOINTS, Snapshot, snapshot_of
from shared.postgres import Connection

# A row that the previous poll did not see has a position beyond that poll's low, or it would have seen it.
_POLL = f"""
WITH checkpoints AS ({CHECKPOINTS}),
changed AS (
    SELECT c.collection_id, c.tenant, c.name, c.metric, c.type, c.index, c.embedding_spec, c.description, c.version,
           c.position, c.created_at, c.updated_at, c.deleted_at, s.generation, s.revision
    FROM collections c LEFT JOIN collection_state s USING (collection_id)
    WHERE c.collection_id IN (
        SELECT collection_id FROM collections WHERE position >= $1
        UNION ALL SELECT collection_id FROM collection_state WHERE position >= $1
    )
),
parked AS (
    SELECT array_agg(collection_id ORDER BY position) AS parked_collections,
           array_agg(position ORDER BY position) AS parked_positions
    FROM parked_events
)
SELECT low, high, log_id, (SELECT json_agg(changed) FROM changed)::text AS changed, parked_collections, parked_positions
FROM checkpoints, parked
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Poll:
    """`began` is the monotonic time at which the statement was sent: the answer is at least that new."""

    began: float
    snapshot: Snapshot
    catalogue: Catalogue
    parked: Sequence[tuple[UUID, int]] = field(default=())
    """(collection_id, position) of the events that were set aside, in order of position."""


async def take_poll(connection: Connection, previous: Poll | None, timeout_seconds: float) -> Poll:
    """The next poll after `previous`, which came from the same server over a connection that has not broken since."""
    began = time.monotonic()
    since = previous.snapshot.low if previous else 0
    row = await connection.fetchrow(_POLL, since, timeout=timeout_seconds)
    assert row is not None
    snapshot = snapshot_of(row)
    if previous and (snapshot.log_id != previous.snapshot.log_id or snapshot.low < previous.snapshot.low):
        # Another history: what was known of the old one says nothing about it.
        return await take_poll(connection, None, timeout_seconds)
    catalogue = previous.catalogue if previous else Catalogue()
    return Poll(
        began,
        snapshot,
        catalogue.updated(orjson.loads(row["changed"] or "[]")),
        tuple(zip(row["parked_collections"] or (), row["parked_positions"] or (), strict=True)),
    )
