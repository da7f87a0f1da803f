"""The catalogue of collections, and the tables that each of them has."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import assert_never
from uuid import UUID, uuid4

import asyncpg
import orjson

from events_schema.aliases import AliasRemoved, AliasSet
from events_schema.base import RecordedEvent
from events_schema.collections import (
    CollectionCreated,
    CollectionDeleted,
    CollectionReembedded,
    CollectionUpdated,
    MetadataIndexSpec,
)
from events_schema.embedding import EmbeddingSpec
from events_schema.registry import AnyEvent, decode_event
from events_schema.skips import ProjectionSkipDecided
from events_schema.specs import LiveSpec
from events_schema.vectors import VectorCreated, VectorDeleted, VectorReembedded, VectorUpdated
from projector.aliases import lead_away
from projector.errors import AwaitsGenerationError, UnprojectableEventError
from projector.event_log import EventLog
from projector.generations import (
    COLUMNS,
    Generation,
    Shape,
    delete_generations,
    generation_of,
    insert_generation,
    read_generations,
    set_state,
)
from projector.metadata_indexes import create_declared_indexes
from projector.spec_history import is_served
from projector.tables import create_tables
from projector.versions import current_version
from shared.postgres import Connection
from shared.read_model.specs import as_stored, specs_of

FIRST_GENERATION = 1

_LOCK = "SELECT pg_advisory_xact_lock($1)"

_KNOWN = "SELECT version, embedding_spec, specs FROM collections WHERE collection_id = $1"

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

_SET_SPECS = """
UPDATE collections SET embedding_spec = $2, specs = $3, spec_since = $4, served_from = coalesce($5, served_from),
    version = $6, position = $7, updated_at = $8
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
        AwaitsGenerationError
    """
    event: AnyEvent = decode_event(recorded.event_type, recorded.schema_version, recorded.event_data)
    await connection.execute(_LOCK, _lock_key(recorded.collection_id))
    known = await connection.fetchrow(_KNOWN, recorded.collection_id)
    if known is not None and known["version"] >= recorded.version:
        return
    match event:
        case CollectionCreated():
            await _create(connection, recorded, event, log)
        case CollectionUpdated() | CollectionReembedded() | CollectionDeleted() if known is None:
            if await _creation_is_passed_over(log, recorded.collection_id):
                return
            raise UnprojectableEventError(f"the collection {recorded.collection_id} was never created")
        case CollectionUpdated():
            assert known is not None
            if {"embedding_spec", "other_specs"} & event.model_fields_set:
                await _move(connection, recorded, event, known, log)
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
        case CollectionReembedded():
            assert known is not None
            await _move(connection, recorded, event, known, log)
        case CollectionDeleted():
            await _delete(connection, recorded, log)
        case (
            AliasSet()
            | AliasRemoved()
            | VectorCreated()
            | VectorUpdated()
            | VectorReembedded()
            | VectorDeleted()
            | ProjectionSkipDecided()
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
        try:
            await apply_collection_event(connection, recorded, log)
        except AwaitsGenerationError:
            return  # It and what follows it come in their turn.


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


async def _move(
    connection: Connection,
    recorded: RecordedEvent,
    event: CollectionUpdated | CollectionReembedded,
    known: asyncpg.Record,
    log: EventLog,
) -> None:
    """Keeps which specs are live. Tables are to hold another one when its embeddings are complete, and not before.

    Raises:
        UnprojectableEventError, AwaitsGenerationError
    """
    before = specs_of(EmbeddingSpec.model_validate_json(known["embedding_spec"]), known["specs"])
    after = before.after(event, recorded.position)
    if not is_served(after):
        raise UnprojectableEventError("it leaves the collection no spec that every vector has an embedding of")
    await _leave(connection, recorded, [one for one in before.live if after.find(one.spec) is None], log)
    served = after.find(after.served)
    assert served is not None
    await connection.execute(
        _SET_SPECS,
        recorded.collection_id,
        served.spec.model_dump_json(),
        as_stored(after),
        served.since,
        None if after.served == before.served else recorded.position,
        recorded.version,
        recorded.position,
        recorded.timestamp,
    )


async def _leave(connection: Connection, recorded: RecordedEvent, left: Sequence[LiveSpec], log: EventLog) -> None:
    """From this event on nothing is written under the specs that are left. Where searches read one of them still, the
    read model is being built from the beginning of the log, and has yet to come to the generation that followed. Until
    the upkeep has made that, this event's partition stands still, and with it the position up to which all that is read
    is whole. Those that are further lose the embeddings that nothing can be said of any more.

    Raises:
        AwaitsGenerationError
    """
    specs = {one.spec for one in left}
    written = [
        one
        for one in await read_generations(connection, recorded.collection_id)
        if one.state in {"active", "kept"} and one.shape.spec in specs
    ]
    for generation in written:
        if generation.state == "kept":
            reason = f"position {recorded.position}: the collection has left its model"
            await set_state(connection, generation, "stale", reason)
        elif not await _is_deleted_later(log, recorded.collection_id):
            raise AwaitsGenerationError(
                f"position {recorded.position} waits: the collection {recorded.collection_id} leaves "
                f"{generation.shape.spec}, and {generation.records} is read still; it goes on when the tables of the "
                "model that follows are made, which `change` of the collection tells of"
            )


async def _is_deleted_later(log: EventLog, collection_id: UUID) -> bool:
    stream = await log.collection_stream(collection_id)
    return bool(stream) and stream[-1].event_type == CollectionDeleted.event_type


async def _delete(connection: Connection, recorded: RecordedEvent, log: EventLog) -> None:
    collection_id = recorded.collection_id
    for led_to in await lead_away(connection, collection_id, log):
        if await connection.fetchrow(_KNOWN, led_to) is None:
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
