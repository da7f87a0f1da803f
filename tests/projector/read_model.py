"""The read model as plain values: as it lies in the database, and as a simple fold of the log makes it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import numpy as np
import orjson

from events_schema.base import RecordedEvent
from events_schema.embedding import decode
from shared.event_log import recorded_event

_TABLES_OF_COLLECTIONS = """
SELECT format('%I', relname) FROM pg_class
WHERE relkind IN ('r', 'p') AND NOT relispartition
  AND (starts_with(relname, 'records_') OR starts_with(relname, 'embeddings_'))
"""


@dataclass
class Row:
    content: str | None
    metadata: dict[str, Any]
    embedding: list[float] | None
    created_at: datetime
    updated_at: datetime
    version: int
    position: int
    expires_at: datetime | None
    brought: dict[str, tuple[int, list[float]]] = field(default_factory=dict, compare=False, repr=False)
    """Spec -> the last embedding under it, and the position of the event that brought it."""


@dataclass
class CollectionRow:
    name: str
    description: str | None
    version: int
    position: int
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None = None
    retention_seconds: int | None = None
    last_changed: int | None = None
    aliases: set[str] = field(default_factory=set)
    vectors: dict[str, Row] = field(default_factory=dict)
    specs: dict[str, tuple[int, bool]] = field(default_factory=dict, compare=False, repr=False)
    """The live ones, the target first: since when, and whether every vector has an embedding under it."""

    def under(self, spec: str) -> dict[str, Row]:
        """The vectors with the embeddings that they have under a live spec."""
        since, _ = self.specs[spec]
        return {vector_id: replace(row, embedding=_newest(row, spec, since)) for vector_id, row in self.vectors.items()}

    @property
    def served(self) -> str:
        return next(spec for spec, (_, complete) in self.specs.items() if complete)


ReadModel = dict[UUID, CollectionRow]


async def read_log(connection: asyncpg.Connection) -> list[RecordedEvent]:
    return [recorded_event(row) for row in await connection.fetch("SELECT * FROM events ORDER BY position")]


def fold(events: list[RecordedEvent]) -> ReadModel:
    """One event after the other, nothing set-wise."""
    model: ReadModel = {}
    for event in events:
        data = event.event_data
        if event.event_type == "CollectionCreated":
            model[event.collection_id] = CollectionRow(
                data["name"],
                data.get("description"),
                event.version,
                event.position,
                event.timestamp,
                event.timestamp,
                retention_seconds=data.get("retention_seconds"),
                specs={as_text(data["embedding_spec"]): (0, True)},
            )
        if event.aggregate_type == "skip":
            continue
        collection = model[event.collection_id]
        if event.aggregate_type == "alias":
            for other in model.values():
                other.aliases.discard(data["name"])
            if event.event_type == "AliasSet":
                collection.aliases.add(data["name"])
            continue
        if collection.deleted_at is not None:
            continue
        collection.last_changed = event.position
        vectors = collection.vectors
        if event.aggregate_type == "collection":
            collection.version, collection.position = event.version, event.position
            collection.updated_at = event.timestamp
        match event.event_type:
            case "CollectionUpdated":
                collection.description = data.get("description", collection.description)
                collection.retention_seconds = data.get("retention_seconds", collection.retention_seconds)
                collection.specs = _specs_after(collection.specs, data, event.position)
            case "CollectionReembedded":
                completed = as_text(data["embedding_spec"])
                collection.specs[completed] = (collection.specs[completed][0], True)
            case "CollectionDeleted":
                collection.deleted_at, collection.last_changed = event.timestamp, None
                vectors.clear()
            case "VectorCreated":
                vectors[data["id"]] = Row(
                    data["content"],
                    data["metadata"],
                    None,
                    event.timestamp,
                    event.timestamp,
                    event.version,
                    event.position,
                    _instant(data.get("expires_at")),
                    _brought(data, event.position),
                )
            case "VectorUpdated":
                row = vectors[data["id"]]
                row.content = data.get("content", row.content)
                row.metadata = data.get("metadata", row.metadata)
                row.brought |= _brought(data, event.position)
                row.expires_at = _instant(data["expires_at"]) if "expires_at" in data else row.expires_at
                row.updated_at, row.version, row.position = event.timestamp, event.version, event.position
            case "VectorReembedded":
                row = vectors[data["id"]]
                row.brought |= _brought(data, event.position)
                row.version, row.position = event.version, event.position
            case "VectorDeleted":
                del vectors[data["id"]]
            case _:
                pass
    for collection in model.values():
        collection.vectors = collection.under(collection.served)
    return model


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def as_text(data: dict[str, Any]) -> str:
    return orjson.dumps(data, option=orjson.OPT_SORT_KEYS).decode()


def _specs_after(
    before: dict[str, tuple[int, bool]], data: dict[str, Any], position: int
) -> dict[str, tuple[int, bool]]:
    target, *others = before
    if data.get("embedding_spec") is not None:
        target = as_text(data["embedding_spec"])
    if data.get("other_specs") is not None:
        others = [as_text(one) for one in data["other_specs"]]
    return {spec: before.get(spec, (position, False)) for spec in (target, *others)}


def _brought(data: dict[str, Any], position: int) -> dict[str, tuple[int, list[float]]]:
    given = data.get("embeddings") or []
    return {as_text(one["spec"]): (position, decode(one["data"]).tolist()) for one in given}


def _newest(row: Row, spec: str, since: int) -> list[float] | None:
    position, numbers = row.brought.get(spec, (0, None))
    return numbers if position > since else None


async def stored(connection: asyncpg.Connection) -> ReadModel:
    rows = await connection.fetch(
        """SELECT c.*, s.generation, h.last_changed, k.kept, a.aliases FROM collections c
           LEFT JOIN collection_state s USING (collection_id)
           LEFT JOIN (
               SELECT collection_id, max(last_changed) AS last_changed FROM collection_changes GROUP BY collection_id
           ) h USING (collection_id)
           LEFT JOIN (
               SELECT g.collection_id, array_agg(g.generation) AS kept
               FROM generations g JOIN generations a USING (collection_id, embedding_spec)
               WHERE g.state = 'kept' AND a.state = 'active' GROUP BY g.collection_id
           ) k USING (collection_id)
           LEFT JOIN (
               SELECT collection_id, array_agg(name) AS aliases FROM aliases WHERE removed_at IS NULL
               GROUP BY collection_id
           ) a USING (collection_id)"""
    )
    model: ReadModel = {}
    for row in rows:
        collection = model[row["collection_id"]] = CollectionRow(
            row["name"],
            row["description"],
            row["version"],
            row["position"],
            row["created_at"],
            row["updated_at"],
            row["deleted_at"],
            row["retention_seconds"],
            row["last_changed"],
            set(row["aliases"] or ()),
        )
        assert (row["generation"] is None) == (row["deleted_at"] is not None)
        if row["generation"] is not None:
            name = row["collection_id"].hex
            collection.vectors = await stored_vectors(connection, name, row["generation"])
            for kept in row["kept"] or ():
                assert await stored_vectors(connection, name, kept) == collection.vectors
    return model


async def stored_vectors(connection: asyncpg.Connection, name: str, generation: int) -> dict[str, Row]:
    rows = await connection.fetch(
        f"""SELECT r.*, e.embedding::real[] AS numbers
            FROM records_{name}_g{generation} r FULL JOIN embeddings_{name}_g{generation} e USING (id)"""
    )
    assert len({row["id"] for row in rows}) == len(rows)
    return {
        row["id"]: Row(
            row["content"],
            orjson.loads(row["metadata"]),
            None if row["numbers"] is None else np.array(row["numbers"], dtype=np.float32).tolist(),
            row["created_at"],
            row["updated_at"],
            row["version"],
            row["position"],
            row["expires_at"],
        )
        for row in rows
    }


async def empty(connection: asyncpg.Connection) -> None:
    """As before the first event; what a rebuild from zero begins with."""
    for row in await connection.fetch(_TABLES_OF_COLLECTIONS):
        await connection.execute(f"DROP TABLE {row[0]}")
    await connection.execute(
        """TRUNCATE projection_checkpoints, collections, collection_state, collection_changes, parked_events,
           retired_tables, generations, metadata_indexes, aliases"""
    )
