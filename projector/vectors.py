"""Vectors' events become rows: folded to their final effect in memory, then written set-wise."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, assert_never

import numpy as np
import orjson
from pgvector import Vector

from events_schema.aliases import AliasRemoved, AliasSet
from events_schema.base import RecordedEvent
from events_schema.collections import CollectionCreated, CollectionDeleted, CollectionReembedded, CollectionUpdated
from events_schema.embedding import EmbeddingSpec, StoredEmbedding, decode_many
from events_schema.registry import AnyEvent, decode_event
from events_schema.skips import ProjectionSkipDecided
from events_schema.vectors import VectorCreated, VectorDeleted, VectorReembedded, VectorUpdated
from projector.errors import UnaccountedSpecError, UnprojectableEventError
from projector.generations import Generation
from projector.indexes import index_statement
from projector.metadata_indexes import index_new_partition
from projector.partitions import make_partitions
from projector.spec_history import SpecHistory
from shared.postgres import Connection
from shared.read_model.tables import row_key

_UPSERT_RECORDS = """
INSERT INTO {records} (id, content, metadata, created_at, updated_at, version, position, expires_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::jsonb[], $4::timestamptz[], $5::timestamptz[], $6::int[], $7::bigint[],
                     $8::timestamptz[])
ON CONFLICT ({key}) DO UPDATE SET content = excluded.content, metadata = excluded.metadata,
    created_at = excluded.created_at, updated_at = excluded.updated_at,
    version = excluded.version, position = excluded.position, expires_at = excluded.expires_at
"""

_CHANGE_RECORDS = """
UPDATE {records} r SET content = CASE WHEN c.sets_content THEN c.content ELSE r.content END,
    metadata = coalesce(c.metadata, r.metadata),
    updated_at = coalesce(c.updated_at, r.updated_at), version = c.version, position = c.position,
    expires_at = CASE WHEN c.sets_expiry THEN c.expires_at ELSE r.expires_at END
FROM unnest($1::text[], $2::boolean[], $3::text[], $4::jsonb[], $5::timestamptz[], $6::int[], $7::bigint[],
            $8::boolean[], $9::timestamptz[])
    AS c(id, sets_content, content, metadata, updated_at, version, position, sets_expiry, expires_at)
WHERE r.id = c.id
RETURNING r.id, r.created_at
"""

# The cast is to the column's type: a halfvec is rounded by pgvector itself, which refuses what it cannot hold.
_UPSERT_EMBEDDINGS = """
INSERT INTO {embeddings} (id, embedding)
SELECT id, embedding::{type} FROM unnest($1::text[], $2::vector[]) AS given(id, embedding)
ON CONFLICT (id) DO UPDATE SET embedding = excluded.embedding
"""

_UPSERT_DATED_EMBEDDINGS = """
INSERT INTO {embeddings} (id, embedding, created_at)
SELECT id, embedding::{type}, created_at
FROM unnest($1::text[], $2::vector[], $3::timestamptz[]) AS given(id, embedding, created_at)
ON CONFLICT (id, created_at) DO UPDATE SET embedding = excluded.embedding
"""

_PRESENT = "SELECT id FROM {records} WHERE id = ANY($1::text[])"

_DELETE_RECORDS = "DELETE FROM {records} WHERE id = ANY($1::text[])"

_DELETE_EMBEDDINGS = "DELETE FROM {embeddings} WHERE id = ANY($1::text[])"

_NOTE_EXPIRY = "UPDATE collections SET may_expire = true WHERE collection_id = $1 AND NOT may_expire"

GREATEST_HALF = float(np.finfo(np.float16).max)


@dataclass(slots=True)
class VectorEffect:
    """What a batch makes of one vector.

    With `created_at` it is a whole row. Without, the row exists already, and a None in `metadata`, `embedding` or
    `updated_at` means "not changed"; content and expires_at can be set to null, so `sets_content` and `sets_expiry` say
    whether they change. `drops_embedding`: it has none that counts any more, whatever there was. `is_new`: it begins
    with the vector's first event, so that no table can have a row of it yet. `needs_row`: it begins with an update, so
    that the row must have been there, whatever later events make of it.
    """

    version: int
    position: int
    updated_at: datetime | None = None
    created_at: datetime | None = None
    deleted: bool = False
    needs_row: bool = False
    sets_content: bool = False
    content: str | None = None
    metadata: dict[str, Any] | None = None
    embedding: str | None = None
    drops_embedding: bool = False
    is_new: bool = False
    sets_expiry: bool = False
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Under:
    """The embeddings that count: those of `spec` that were written beyond position `since`.

    While a collection moves to another spec an event may well bring none. `history` is needed where one does: what that
    means, the collection's own events say. `is_live`: searches read the rows, so that a creation without an embedding
    is at fault.
    """

    spec: EmbeddingSpec
    since: int = 0
    history: SpecHistory | None = None
    is_live: bool = False


def fold_vectors(events: Iterable[RecordedEvent], under: Under) -> dict[str, VectorEffect]:
    """The final effect of a collection's events on each vector, by id. `events` are in order of position.

    Raises:
        UnaccountedSpecError: the history is needed.
        UnreadableEventError, UnprojectableEventError: one of them is at fault.
    """
    effects: dict[str, VectorEffect] = {}
    for recorded in events:
        event: AnyEvent = decode_event(recorded.event_type, recorded.schema_version, recorded.event_data)
        version, position, timestamp = recorded.version, recorded.position, recorded.timestamp
        match event:
            case VectorCreated():
                embedding = _brought(recorded, event.embeddings, under)
                lacks = embedding is None and position > under.since
                if lacks and _is_live_at(recorded, event.embeddings, under) and under.is_live:
                    raise UnprojectableEventError(_fault(event.embeddings, under))
                effects[event.id] = VectorEffect(
                    version,
                    position,
                    timestamp,
                    created_at=timestamp,
                    content=event.content,
                    metadata=event.metadata,
                    embedding=embedding,
                    drops_embedding=lacks,
                    is_new=version == 1,
                    needs_row=_needs_row(effects, event.id),
                    expires_at=event.expires_at,
                )
            case VectorUpdated():
                effect = _changed(effects, event.id, recorded)
                effect.updated_at = timestamp
                if "content" in event.model_fields_set:
                    effect.sets_content, effect.content = True, event.content
                if "metadata" in event.model_fields_set:
                    effect.metadata = event.metadata
                brought = _brought(recorded, event.embeddings, under)
                if brought is not None:
                    effect.embedding, effect.drops_embedding = brought, False
                elif event.embeddings and position > under.since and not _is_live_at(recorded, event.embeddings, under):
                    # It may well have another content by now.
                    effect.embedding, effect.drops_embedding = None, True
                if "expires_at" in event.model_fields_set:
                    effect.sets_expiry, effect.expires_at = True, event.expires_at
            case VectorReembedded():
                effect = _changed(effects, event.id, recorded)
                brought = _brought(recorded, event.embeddings, under)
                if brought is not None:
                    effect.embedding, effect.drops_embedding = brought, False
            case VectorDeleted():
                effects[event.id] = VectorEffect(
                    version, position, timestamp, deleted=True, needs_row=_needs_row(effects, event.id)
                )
            case (
                CollectionCreated()
                | CollectionUpdated()
                | CollectionReembedded()
                | CollectionDeleted()
                | AliasSet()
                | AliasRemoved()
                | ProjectionSkipDecided()
            ):
                raise UnprojectableEventError(f"{recorded.event_type} is no event of a vector")
            case _:
                assert_never(event)
    return effects


def _needs_row(effects: Mapping[str, VectorEffect], vector_id: str) -> bool:
    return vector_id in effects and effects[vector_id].needs_row


def _changed(effects: dict[str, VectorEffect], vector_id: str, recorded: RecordedEvent) -> VectorEffect:
    """That of a vector which is there, brought to the event."""
    effect = effects.get(vector_id)
    if effect is None:
        effect = effects[vector_id] = VectorEffect(recorded.version, recorded.position, needs_row=True)
    elif effect.deleted:
        raise UnprojectableEventError(f"the vector {vector_id!r} is updated after its deletion")
    effect.version, effect.position = recorded.version, recorded.position
    return effect


def _brought(recorded: RecordedEvent, stored: Sequence[StoredEmbedding], under: Under) -> str | None:
    """The embedding that counts; None: it brings none."""
    if recorded.position > under.since:
        for one in stored:
            if one.spec == under.spec:
                return one.data
    return None


def _is_live_at(recorded: RecordedEvent, stored: Sequence[StoredEmbedding], under: Under) -> bool:
    """Whether the spec, none of whose embeddings the event brings, was live by then."""
    if under.history is None:
        raise UnaccountedSpecError(_fault(stored, under))
    specs = under.history.at(recorded.position)
    if not any(specs.find(one.spec) for one in stored):
        raise UnprojectableEventError(_fault(stored, under))
    return specs.find(under.spec) is not None


def _fault(stored: Sequence[StoredEmbedding], under: Under) -> str:
    given = ", ".join(str(one.spec) for one in stored) or "none"
    return f"the collection's embeddings are {under.spec}; the event brings {given}"


async def write_vectors(connection: Connection, generation: Generation, effects: Mapping[str, VectorEffect]) -> None:
    """
    Raises:
        One of `POISON`: an event is at fault, and nothing says which; the transaction is to be rolled back.
    """
    created = {vector_id: effect for vector_id, effect in effects.items() if effect.created_at is not None}
    deleted = [vector_id for vector_id, effect in effects.items() if effect.deleted]
    changed = {
        vector_id: effect for vector_id, effect in effects.items() if effect.created_at is None and not effect.deleted
    }
    # An update of nothing is at fault also where the same batch creates or deletes the vector after it: what is parked
    # must not depend on where batches end.
    replaced = [vector_id for vector_id, effect in effects.items() if effect.needs_row and vector_id not in changed]
    if replaced:
        rows = await connection.fetch(_PRESENT.format(records=generation.records), replaced)
        _expect_present(replaced, {row["id"] for row in rows})
    partitioned = generation.shape.month_partitions
    if partitioned:
        # No key over all partitions holds an id to one row: one that comes again may lie in another month.
        deleted += [vector_id for vector_id, effect in created.items() if not effect.is_new]
        moments = [effect.created_at for effect in created.values() if effect.created_at is not None]
        await make_partitions_for(connection, generation, moments)
    if deleted:
        await delete_vectors(connection, generation, deleted)
    dropped = [vector_id for vector_id, effect in effects.items() if effect.drops_embedding]
    if dropped:
        await connection.execute(_DELETE_EMBEDDINGS.format(embeddings=generation.embeddings), dropped)
    if created:
        await _upsert_records(connection, generation, created)
    created_at = {vector_id: effect.created_at for vector_id, effect in created.items()}
    if changed:
        created_at |= await _change_records(connection, generation, changed)
    embedded = {vector_id: effect.embedding for vector_id, effect in effects.items() if effect.embedding is not None}
    if embedded:
        dates = [created_at[vector_id] for vector_id in embedded] if partitioned else None
        await _upsert_embeddings(connection, generation, embedded, dates)
    if any(effect.expires_at is not None for effect in effects.values()):
        await connection.execute(_NOTE_EXPIRY, generation.collection_id)


async def make_partitions_for(connection: Connection, generation: Generation, created: Iterable[datetime]) -> None:
    """For the months in which vectors were created, with the indexes that the others have."""
    for month in await make_partitions(connection, generation, created):
        if generation.indexed and generation.shape.index.kind == "hnsw":
            await connection.execute(index_statement(generation.embeddings + month.suffix, generation.shape))
        await index_new_partition(connection, generation, generation.records + month.suffix)


async def delete_vectors(connection: Connection, generation: Generation, ids: Sequence[str]) -> None:
    await connection.execute(_DELETE_RECORDS.format(records=generation.records), ids)
    await connection.execute(_DELETE_EMBEDDINGS.format(embeddings=generation.embeddings), ids)


async def _upsert_records(connection: Connection, generation: Generation, created: dict[str, VectorEffect]) -> None:
    effects = created.values()
    await connection.execute(
        _UPSERT_RECORDS.format(
            records=generation.records, key=", ".join(row_key(month_partitions=generation.shape.month_partitions))
        ),
        list(created),
        [effect.content for effect in effects],
        [as_json_text(effect.metadata) for effect in effects],
        [effect.created_at for effect in effects],
        [effect.updated_at for effect in effects],
        [effect.version for effect in effects],
        [effect.position for effect in effects],
        [effect.expires_at for effect in effects],
    )


async def _change_records(
    connection: Connection, generation: Generation, changed: dict[str, VectorEffect]
) -> dict[str, datetime]:
    """When each of them was created."""
    effects = changed.values()
    rows = await connection.fetch(
        _CHANGE_RECORDS.format(records=generation.records),
        list(changed),
        [effect.sets_content for effect in effects],
        [effect.content for effect in effects],
        [None if effect.metadata is None else as_json_text(effect.metadata) for effect in effects],
        [effect.updated_at for effect in effects],
        [effect.version for effect in effects],
        [effect.position for effect in effects],
        [effect.sets_expiry for effect in effects],
        [effect.expires_at for effect in effects],
    )
    created_at = {row["id"]: row["created_at"] for row in rows}
    _expect_present(changed, created_at)
    return created_at


def _expect_present(updated: Iterable[str], present: Collection[str]) -> None:
    missing = [vector_id for vector_id in updated if vector_id not in present]
    if missing:
        raise UnprojectableEventError(f"the vector {min(missing)!r} is updated, but the read model does not have it")


async def _upsert_embeddings(
    connection: Connection, generation: Generation, embedded: dict[str, str], dates: list[datetime | None] | None
) -> None:
    """`dates`: when each vector was created, for partitions by it."""
    matrix = decode_many(list(embedded.values()), generation.shape.spec.dimension)
    if generation.narrowed:
        matrix = np.clip(matrix, -GREATEST_HALF, GREATEST_HALF)
    statement = _UPSERT_EMBEDDINGS if dates is None else _UPSERT_DATED_EMBEDDINGS
    await connection.execute(
        statement.format(embeddings=generation.embeddings, type=generation.shape.type),
        list(embedded),
        [Vector(row) for row in matrix],
        *([] if dates is None else [dates]),
    )


def as_json_text(metadata: dict[str, Any] | None) -> str:
    return orjson.dumps(metadata).decode()
