"""The catalogue of collections, and the tables that each of them has."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import assert_never
from uuid import UUID, uuid4

import orjson

from events_schema.aliases import AliasRemoved, AliasSet
from events_schema.base import RecordedEvent
from events_schema.collections import CollectionCreated, CollectionDeleted, CollectionUpdated, MetadataIndexSpec
from events_schema.registry import AnyEvent, decode_event
from events_schema.skips import ProjectionSkipDecided
from events_schema.vectors import VectorCreated, VectorDeleted, VectorUpdated
from projector.aliases import lead_away
from projector.errors import UnprojectableEventError
from projector.event_log import EventLog
from projector.generations import (
    COLUMNS,
    Generation,
    Shape,
    delete_generations,
    generation_of,
    insert_generation,
)
from projector.metadata_indexes import create_declared_indexes
from projector.tables import create_tables
from projector.versions import current_version
from shared.postgres import Connection

FIRST_GENERATION = 1

_LOCK = "SELECT pg_advisory_xact_lock($1)"

_VERSION = "SELECT version FROM collections WHERE collection_id = $1"

_BEARER_OF_NAME = "SELECT collection_id FROM collections WHERE tenant = $1 AND name = $2 AND deleted_at IS NULL"

_INSERT = """
INSERT INTO collections (collection_id, tenant, name, metric, type, index, month_partitions, metadata_indexes,
                         embedding_spec, description, version, position, created_at, updated_at, deleted_at,
                         retention_seconds)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $13, $14, $15)
"""

_INSERT_STATE = "INSERT INTO collection_state (collection_id, generation, revision, position) VALUES ($1, $2, $3, $4)"

_UPDATE = """
UPDATE collections SET description = CASE WHEN $2 THEN $3 ELSE description END,
    metric = coalesce($4, metric), type = coalesce($5, type), index = coalesce($6, index),
    month_partitions = coalesce($7, month_partitions), metadata_indexes = coalesce($8, metadata_indexes),
    version = $9, position = $10, updated_at = $11,
    retention_seconds = CASE WHEN $12 THEN $13 ELSE retention_seconds END
WHERE collection_id = $1
"""

_MARK_DELETED = """
UPDATE collections SET version = $2, position = $3, updated_at = $4, deleted_at = $4 WHERE collection_id = $1
"""

_DELETE_STATE = "DELETE FROM collection_state WHERE collection_id = $1"

_DELETE_CHANGES = "DELETE FROM collection_changes WHERE collection_id = $1"

_DELETE_PARKED = "DELETE FROM parked_events WHERE collection_id = $1"

_READ = f"""
SELECT c.collection_id, c.type AS declared_type, {COLUMNS}
FROM collections c LEFT JOIN generations g ON g.collection_id = c.collection_id AND g.state IN ('active', 'kept')
WHERE c.collection_id = ANY($1::uuid[]) ORDER BY g.state, g.generation
"""  # noqa: S608


async def apply_collection_event(connection: Connection, recorded: RecordedEvent, log: EventLog) -> None:
    """Brings the catalogue to the event, and the collection's tables with it. An event that the catalogue has
    already (it was folded from the log, ahead of its turn) changes nothing.

    Raises:
        UnreadableEventError, UnprojectableEventError: the event is at fault.
    """
    event: AnyEvent = decode_event(recorded.event_type, recorded.schema_version, recorded.event_data)
    await connection.execute(_LOCK, _lock_key(recorded.collection_id))
    known_version: int | None = await connection.fetchval(_VERSION, recorded.collection_id)
    if known_version is not None and known_version >= recorded.version:
        return
    match event:
        case CollectionCreated():
            await _create(connection, recorded, event, log)
        case CollectionUpdated() | CollectionDeleted() if known_version is None:
            if await _creation_is_passed_over(log, recorded.collection_id):
                return
            raise UnprojectableEventError(f"the collection {recorded.collection_id} was never created")
        case CollectionUpdated():
            await connection.execute(
                _UPDATE,
                recorded.collection_id,
                "description" in event.model_fields_set,
                event.description,
                event.metric,
                event.type,
                None if event.index is None else event.index.model_dump_json(),
                event.month_partitions,
                None if event.metadata_indexes is None else _in_order(event.metadata_indexes),
                recorded.version,
                recorded.position,
                recorded.timestamp,
                "retention_seconds" in event.model_fields_set,
                event.retention_seconds,
            )
        case CollectionDeleted():
            await _delete(connection, recorded, log)
        case (
            AliasSet() | AliasRemoved() | VectorCreated() | VectorUpdated() | VectorDeleted() | ProjectionSkipDecided()
        ):
            raise UnprojectableEventError(f"{recorded.event_type} is no event of a collection")
        case _:
            assert_never(event)


async def live_generations(
    connection: Connection, collection_ids: Collection[UUID], log: EventLog
) -> Mapping[UUID, Sequence[Generation]]:
    """The generations that are written to, the active one first, of those collections that are not deleted. A
    collection that the catalogue does not have, because its vector's event came before its own, is folded from the log.

    Raises:
        UnreadableEventError, UnprojectableEventError: the log's own account of a collection is at fault.
    """
    rows = await connection.fetch(_READ, list(collection_ids))
    unknown = set(collection_ids) - {row["collection_id"] for row in rows}
    for collection_id in sorted(unknown):
        await _fold_from_log(connection, collection_id, log)
    if unknown:
        rows = await connection.fetch(_READ, list(collection_ids))
    live: dict[UUID, list[Generation]] = {}
    for row in rows:
        if row["generation"] is not None:
            generation = generation_of(row["collection_id"], row)
            # An embedding that the collection may hold by now waits for the generation that can hold it as it is.
            narrowed = generation.shape.type == "halfvec" and row["declared_type"] == "vector"
            live.setdefault(generation.collection_id, []).append(replace(generation, narrowed=narrowed))
    return live


async def _fold_from_log(connection: Connection, collection_id: UUID, log: EventLog) -> None:
    stream = await log.collection_stream(collection_id)
    if not stream:
        raise UnprojectableEventError(f"the event log has no collection {collection_id}")
    for recorded in (await log.skips()).left_out(stream):
        await apply_collection_event(connection, recorded, log)


async def _creation_is_passed_over(log: EventLog, collection_id: UUID) -> bool:
    """Then there is no such collection here, and nothing to be done with its events."""
    stream = await log.collection_stream(collection_id)
    return bool(stream) and (await log.skips()).has(stream[0].event_id)


async def _create(connection: Connection, recorded: RecordedEvent, event: CollectionCreated, log: EventLog) -> None:
    deletion = await _deletion_before_reuse(connection, recorded, event.name, log)
    await connection.execute(
        _INSERT,
        recorded.collection_id,
        recorded.tenant,
        event.name,
        event.metric,
        event.type,
        event.index.model_dump_json(),
        event.month_partitions,
        _in_order(event.metadata_indexes),
        event.embedding_spec.model_dump_json(),
        event.description,
        recorded.version,
        recorded.position,
        recorded.timestamp,
        deletion.timestamp if deletion else None,
        event.retention_seconds,
    )
    if deletion is not None:
        await _mark_deleted(connection, deletion)
        return
    await connection.execute(_INSERT_STATE, recorded.collection_id, FIRST_GENERATION, uuid4(), recorded.position)
    shape = Shape(event.embedding_spec, event.metric, event.type, event.index, event.month_partitions)
    # An IVFFlat index needs rows to find its lists in; see `upkeep`.
    generation = Generation(
        recorded.collection_id, FIRST_GENERATION, shape, "active",
        indexed=event.index.kind == "hnsw", projection_version=current_version(),
    )  # fmt: skip
    await insert_generation(connection, generation)
    await create_tables(connection, generation)
    await create_declared_indexes(connection, generation)


async def _deletion_before_reuse(
    connection: Connection, recorded: RecordedEvent, name: str, log: EventLog
) -> RecordedEvent | None:
    """The new collection's own deletion, if its name is known to be in use again already.

    A name is free before it is used again. So of two that seem to bear it one is deleted, and the log has the
    deletion that has not come here yet: the bearer's, or else the new one's.
    """
    bearer: UUID | None = await connection.fetchval(_BEARER_OF_NAME, recorded.tenant, name)
    if bearer is None:
        return None
    await _fold_from_log(connection, bearer, log)
    if await connection.fetchval(_BEARER_OF_NAME, recorded.tenant, name) is None:
        return None
    return (await log.collection_stream(recorded.collection_id))[-1]


async def _delete(connection: Connection, recorded: RecordedEvent, log: EventLog) -> None:
    collection_id = recorded.collection_id
    for led_to in await lead_away(connection, collection_id, log):
        if await connection.fetchval(_VERSION, led_to) is None:
            await _fold_from_log(connection, led_to, log)
    await _mark_deleted(connection, recorded)
    await connection.execute(_DELETE_STATE, collection_id)
    await connection.execute(_DELETE_CHANGES, collection_id)
    await connection.execute(_DELETE_PARKED, collection_id)
    await delete_generations(connection, collection_id)


async def _mark_deleted(connection: Connection, deletion: RecordedEvent) -> None:
    await connection.execute(
        _MARK_DELETED, deletion.collection_id, deletion.version, deletion.position, deletion.timestamp
    )


def _in_order(indexes: Sequence[MetadataIndexSpec]) -> str:
    """As JSON, in order of the field."""
    return orjson.dumps([index.model_dump() for index in sorted(indexes, key=lambda index: index.field)]).decode()


def _lock_key(collection_id: UUID) -> int:
    """The random half of a UUIDv7; two collections that share a key only wait for each other."""
    return int.from_bytes(collection_id.bytes[8:], "big", signed=True)
