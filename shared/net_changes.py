"""What became of a collection's vectors between two positions of the log, in the end and not step by step.

The server groups, sorts and compares, so nobody holds more than a part of it in memory. Of the stored events only the
names of their parts are relied on: a part that is not there was not changed, and of a creation it is empty.

A vector's embedding is the one under the spec that the collection was searched by. Where that is another one in the
end, every vector has another embedding.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal
from uuid import UUID

import asyncpg

from events_schema.base import RecordedEvent
from events_schema.embedding import EmbeddingSpec
from events_schema.specs import EmbeddingSpecs
from events_schema.vectors import VectorCreated, VectorDeleted
from shared.event_log import read_collection_stream
from shared.past_specs import specs_after
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

# The same where the spec became another one in between, at position $4, for all that were there before and after. Those
# that were not touched changed by that event.
_HAVING_MOVED = f"""
SELECT t.aggregate_id, last.event_data ->> 'id' AS id, coalesce(t.first - 1, t.last) AS before, t.last AS after,
       first.event_type IS NOT DISTINCT FROM '{VectorCreated.event_type}' AS is_new,
       last.event_type = '{VectorDeleted.event_type}' AS is_gone,
       CASE WHEN t.first IS NULL THEN $4 ELSE last.position END AS position,
       CASE WHEN t.first IS NULL THEN $5 ELSE last.timestamp END AS timestamp
FROM (
    SELECT aggregate_id, min(version) FILTER (WHERE position > $2) AS first, max(version) AS last
    FROM events
    WHERE collection_id = $1 AND position <= $3 AND aggregate_type = 'vector'
    GROUP BY aggregate_id
) t
LEFT JOIN events first ON first.aggregate_id = t.aggregate_id AND first.version = t.first
JOIN events last ON last.aggregate_id = t.aggregate_id AND last.version = t.last
WHERE NOT (coalesce(first.event_type, '{VectorCreated.event_type}') = '{VectorCreated.event_type}'
           AND last.event_type = '{VectorDeleted.event_type}')
ORDER BY position, t.aggregate_id
"""  # noqa: S608

_VALUE = f"""
    SELECT coalesce(e.event_data -> p.name, p.empty) AS value FROM events e
    WHERE e.aggregate_id = v.aggregate_id AND e.version <= v.{{at}}
      AND (e.event_data ? p.name OR e.event_type = '{VectorCreated.event_type}')
    ORDER BY e.version DESC LIMIT 1
"""  # noqa: S608

# A field of a spec that is not stored has its default.
_EMBEDDING = f"""
    SELECT under.data FROM events e LEFT JOIN LATERAL (
        SELECT one ->> 'data' AS data FROM jsonb_array_elements(e.event_data -> 'embeddings') one
        WHERE coalesce(one #>> '{{{{spec,provider}}}}', 'client') = $4
          AND one #>> '{{{{spec,model}}}}' IS NOT DISTINCT FROM $5 AND (one #> '{{{{spec,dimension}}}}')::int = $6
    ) under ON true
    WHERE e.aggregate_id = v.aggregate_id AND e.version <= v.{{at}}
      AND (under.data IS NOT NULL OR e.event_type = '{VectorCreated.event_type}')
    ORDER BY e.version DESC LIMIT 1
"""  # noqa: S608

_VERSIONS = "unnest($1::uuid[], $2::int[], $3::int[]) AS v(aggregate_id, before, after)"

_DIFFERING_PARTS = f"""
SELECT v.aggregate_id, array_agg(p.name) AS parts
FROM {_VERSIONS}
CROSS JOIN (VALUES ('content', 'null'::jsonb), ('expires_at', 'null'), ('metadata', '{{}}')) AS p(name, empty)
CROSS JOIN LATERAL ({_VALUE.format(at="before")}) AS old
CROSS JOIN LATERAL ({_VALUE.format(at="after")}) AS new
WHERE old.value <> new.value
GROUP BY v.aggregate_id
"""  # noqa: S608

_DIFFERING_EMBEDDINGS = f"""
SELECT v.aggregate_id
FROM {_VERSIONS}
CROSS JOIN LATERAL ({_EMBEDDING.format(at="before")}) AS old
CROSS JOIN LATERAL ({_EMBEDDING.format(at="after")}) AS new
WHERE old.data IS DISTINCT FROM new.data
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


@dataclass(frozen=True, slots=True)
class _Searched:
    """By which spec the collection is searched in the end; `moved`: the event by which that is another one than in the
    beginning, if it is."""

    spec: EmbeddingSpec
    moved: RecordedEvent | None


async def read_net_changes(
    connection: Connection, collection_id: UUID, after: int, to: int
) -> AsyncGenerator[NetChange, None]:
    """What the events in (after, to] come to, in order of each vector's last event among them. One that was changed and
    changed back, or deleted and created again as it was, is not among them. In a transaction of the caller's."""
    searched = _searched(await read_collection_stream(connection, collection_id), after, to)
    if searched is None:
        return
    if searched.moved is None:
        cursor = await connection.cursor(_TOUCHED, collection_id, after, to)
    else:
        moved = searched.moved
        cursor = await connection.cursor(_HAVING_MOVED, collection_id, after, to, moved.position, moved.timestamp)
    while rows := await cursor.fetch(_CHUNK):
        kept = [row for row in rows if not (row["is_new"] or row["is_gone"])]
        parts = await _differing_parts(connection, kept, searched)
        for row in rows:
            if row["is_new"]:
                yield _change("created", row)
            elif row["is_gone"]:
                yield _change("deleted", row)
            elif differing := parts.get(row["aggregate_id"]):
                yield _change("updated", row, sorted(differing))


def _searched(stream: Sequence[RecordedEvent], after: int, to: int) -> _Searched | None:
    """None: there was no such collection yet."""
    specs: EmbeddingSpecs | None = None
    before: EmbeddingSpec | None = None
    found: _Searched | None = None
    for event in stream:
        if event.position > to:
            break
        specs = specs_after(specs, event)
        if specs is None:
            continue
        if event.position <= after:
            before = specs.served
        if found is None or specs.served != found.spec:
            found = _Searched(specs.served, event)
    if found is not None and before in (None, found.spec):
        return replace(found, moved=None)
    return found


async def _differing_parts(
    connection: Connection, rows: Sequence[asyncpg.Record], searched: _Searched
) -> Mapping[UUID, set[str]]:
    given = [[row[name] for row in rows] for name in ("aggregate_id", "before", "after")]
    parts = {row["aggregate_id"]: set(row["parts"]) for row in await connection.fetch(_DIFFERING_PARTS, *given)}
    others: Sequence[asyncpg.Record] = rows
    if searched.moved is None:
        spec = searched.spec
        others = await connection.fetch(_DIFFERING_EMBEDDINGS, *given, spec.provider, spec.model, spec.dimension)
    for row in others:
        parts.setdefault(row["aggregate_id"], set()).add("embedding")
    return parts


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
