"""What became of a collection's vectors between two positions of the log, in the end and not step by step.

The server groups, sorts and compares, so nobody holds more than a part of it in memory. Of the stored events only the
names of their parts are relied on: a part that is not there was not changed, and of a creation it is empty.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

import asyncpg

from events_schema.vectors import VectorCreated, VectorDeleted
from shared.postgres import Connection

_CHUNK = 500

# Versions of a stream are contiguous, so the first and the last event of each vector say whether it was there before
# and is there after. What came and went in between is left out.
_TOUCHED = f"""
SELECT t.aggregate_id, last.event_data ->> 'id' AS id, t.first - 1 AS before, t.last AS after,
       first.event_type = '{VectorCreated.event_type}' AS is_new,
       last.event_type = '{VectorDeleted.event_type}' AS is_gone, last.position, last.timestamp
FROM (
    SELECT aggregate_id, min(version) AS first, max(version) AS last
    FROM events
    WHERE collection_id = $1 AND position > $2 AND position <= $3 AND aggregate_type = 'vector'
    GROUP BY aggregate_id
) t
JOIN events first ON first.aggregate_id = t.aggregate_id AND first.version = t.first
JOIN events last ON last.aggregate_id = t.aggregate_id AND last.version = t.last
WHERE NOT (first.event_type = '{VectorCreated.event_type}' AND last.event_type = '{VectorDeleted.event_type}')
ORDER BY last.position
"""  # noqa: S608

_VALUE = f"""
    SELECT coalesce(e.event_data -> p.name, p.empty) AS value FROM events e
    WHERE e.aggregate_id = v.aggregate_id AND e.version <= v.{{at}}
      AND (e.event_data ? p.name OR e.event_type = '{VectorCreated.event_type}')
    ORDER BY e.version DESC LIMIT 1
"""  # noqa: S608

_DIFFERING_PARTS = f"""
SELECT v.aggregate_id, array_agg(p.shown ORDER BY p.shown) AS parts
FROM unnest($1::uuid[], $2::int[], $3::int[]) AS v(aggregate_id, before, after)
CROSS JOIN (
    VALUES ('content', 'content', 'null'::jsonb), ('embeddings', 'embedding', '[]'),
           ('expires_at', 'expires_at', 'null'), ('metadata', 'metadata', '{{}}')
) AS p(name, shown, empty)
CROSS JOIN LATERAL ({_VALUE.format(at="before")}) AS old
CROSS JOIN LATERAL ({_VALUE.format(at="after")}) AS new
WHERE old.value <> new.value
GROUP BY v.aggregate_id
"""  # noqa: S608

Kind = Literal["created", "updated", "deleted"]


@dataclass(frozen=True, slots=True)
class NetChange:
    """`parts` of an update: those of content, embedding, expires_at and metadata that differ in the end. `before` and
    `after` are the vector's versions, None where it was not there. `position` and `time` are those of its last event in
    between."""

    kind: Kind
    id: str
    parts: Sequence[str]
    before: int | None
    after: int | None
    position: int
    time: datetime


async def read_net_changes(
    connection: Connection, collection_id: UUID, after: int, to: int
) -> AsyncGenerator[NetChange, None]:
    """What the events in (after, to] come to, in order of each vector's last event among them. One that was changed and
    changed back, or deleted and created again as it was, is not among them. In a transaction of the caller's."""
    cursor = await connection.cursor(_TOUCHED, collection_id, after, to)
    while rows := await cursor.fetch(_CHUNK):
        parts = await _differing_parts(connection, [row for row in rows if not (row["is_new"] or row["is_gone"])])
        for row in rows:
            if row["is_new"]:
                yield _change("created", row)
            elif row["is_gone"]:
                yield _change("deleted", row)
            elif row["aggregate_id"] in parts:
                yield _change("updated", row, parts[row["aggregate_id"]])


async def _differing_parts(connection: Connection, rows: Sequence[asyncpg.Record]) -> dict[UUID, Sequence[str]]:
    given = [[row[name] for row in rows] for name in ("aggregate_id", "before", "after")]
    return {row["aggregate_id"]: row["parts"] for row in await connection.fetch(_DIFFERING_PARTS, *given)}


def _change(kind: Kind, row: asyncpg.Record, parts: Sequence[str] = ()) -> NetChange:
    return NetChange(
        kind,
        row["id"],
        parts,
        None if kind == "created" else row["before"],
        None if kind == "deleted" else row["after"],
        row["position"],
        row["timestamp"],
    )
