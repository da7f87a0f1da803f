"""The poll: everything that reads must know of a server before they choose a collection's tables, in one snapshot."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import orjson

from query_service.catalogue import Catalogue
from shared.postgres import SERVER_STARTED, Connection
from shared.read_model.index_states import READY
from shared.read_model.snapshot import Snapshot, snapshot_of
from shared.read_model.tables import PROJECTION

# A row that the previous poll did not see has a position beyond that poll's low, or it would have seen it. Of a
# partition's changes it did not see those beyond where that partition's checkpoint was.
_POLL = f"""
WITH checkpoints AS (
    SELECT coalesce(min(position), 0) AS low, coalesce(max(position), 0) AS high, (array_agg(log_id))[1] AS log_id,
           coalesce(array_agg(position ORDER BY partition), '{{}}') AS positions
    FROM projection_checkpoints WHERE projection = '{PROJECTION}'
),
changed AS (
    SELECT c.collection_id, c.tenant, c.name, c.description, c.retention_seconds, c.version, c.position, c.created_at,
           c.updated_at, c.deleted_at, c.metric AS declared_metric, c.type AS declared_type, c.index AS declared_index,
           c.embedding_spec AS declared_embedding_spec, c.specs,
           c.month_partitions AS declared_month_partitions, s.generation, s.revision,
           g.metric, g.type, g.index, g.embedding_spec, g.month_partitions, g.indexed, g.lists,
           {READY.format(generation="s")} AS metadata_indexes
    FROM collections c
    LEFT JOIN collection_state s USING (collection_id)
    LEFT JOIN generations g USING (collection_id, generation)
    WHERE c.collection_id IN (
        SELECT collection_id FROM collections WHERE position >= $1
        UNION ALL SELECT collection_id FROM collection_state WHERE position >= $1
    )
),
changes AS (
    SELECT collection_id, max(last_changed) AS last_changed FROM collection_changes
    WHERE last_changed > $1 AND last_changed > coalesce(($2::bigint[])[partition + 1], 0)
    GROUP BY collection_id
),
changed_aliases AS (
    SELECT tenant, name, collection_id, version, position, updated_at, removed_at FROM aliases WHERE position >= $1
),
parked AS (
    SELECT array_agg(collection_id ORDER BY position) AS parked_collections,
           array_agg(position ORDER BY position) AS parked_positions,
           array_agg(position ORDER BY position) FILTER (WHERE aggregate_type = 'alias') AS parked_aliases
    FROM parked_events
)
SELECT low, high, log_id, positions, {SERVER_STARTED} AS server_started, clock_timestamp() AS clock,
       (SELECT json_agg(changed) FROM changed)::text AS changed,
       (SELECT json_agg(changed_aliases) FROM changed_aliases)::text AS changed_aliases,
       (SELECT json_object_agg(collection_id, last_changed) FROM changes)::text AS changes,
       parked_collections, parked_positions, parked_aliases
FROM checkpoints, parked
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Poll:
    """`began` is the monotonic time at which the statement was sent: the answer is at least that new. `clock` is what
    the server's clock said then, or a little later."""

    began: float
    server_started: datetime
    clock: datetime
    snapshot: Snapshot
    catalogue: Catalogue
    parked: Sequence[tuple[UUID, int]] = field(default=())
    """(collection_id, position) of the events that were set aside, in order of position."""
    positions: Sequence[int] = field(default=())
    """The checkpoint of each partition."""
    last_changed: Mapping[UUID, int] = field(default_factory=dict)
    """Collection -> the position of the last event that changed its vectors."""
    parked_aliases: Sequence[int] = field(default=())
    """The positions of those parked events that are of aliases."""

    def clock_at(self, moment: float) -> datetime:
        """What the server's clock says at that monotonic time, at the latest."""
        return self.clock + timedelta(seconds=moment - self.began)


async def take_poll(connection: Connection, previous: Poll | None, timeout_seconds: float) -> Poll:
    """The next poll after `previous`, which came from the same server over a connection that has not broken since."""
    began = time.monotonic()
    since, positions = (previous.snapshot.low, previous.positions) if previous else (0, ())
    row = await connection.fetchrow(_POLL, since, positions, timeout=timeout_seconds)
    assert row is not None
    snapshot = snapshot_of(row)
    if previous and (
        row["server_started"] != previous.server_started
        or snapshot.log_id != previous.snapshot.log_id
        or snapshot.low < previous.snapshot.low
    ):
        # Another server, or another history: what was known of the old one says nothing about it.
        return await take_poll(connection, None, timeout_seconds)
    catalogue = (previous.catalogue if previous else Catalogue()).updated(
        orjson.loads(row["changed"] or "[]"), orjson.loads(row["changed_aliases"] or "[]")
    )
    return Poll(
        began,
        row["server_started"],
        row["clock"],
        snapshot,
        catalogue,
        tuple(zip(row["parked_collections"] or (), row["parked_positions"] or (), strict=True)),
        row["positions"],
        _last_changed(previous, catalogue, orjson.loads(row["changes"] or "{}")),
        row["parked_aliases"] or (),
    )


def _last_changed(previous: Poll | None, catalogue: Catalogue, changes: Mapping[str, int]) -> Mapping[UUID, int]:
    known = previous.last_changed if previous else {}
    if previous and not changes and previous.catalogue is catalogue:
        return known
    merged = dict(known)
    for text, position in changes.items():
        collection_id = UUID(text)
        merged[collection_id] = max(position, merged.get(collection_id, 0))
    return {collection_id: position for collection_id, position in merged.items() if collection_id in catalogue.by_id}
