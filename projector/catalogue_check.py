"""Whether what the read model says of a collection is what the log says, and its tables are there as they should be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from events_schema.base import RecordedEvent
from events_schema.collections import CollectionCreated, CollectionReembedded, CollectionUpdated, MetadataIndexSpec
from events_schema.embedding import EmbeddingSpec
from events_schema.registry import decode_event
from events_schema.specs import EmbeddingSpecs
from projector.checkpoints import read_positions
from projector.event_log import EventLog
from projector.generations import Generation, read_generations
from projector.indexes import index_name
from projector.metadata_indexing import names_of_ready_indexes
from projector.parking import without_parked
from projector.partitions import partitions_of_table
from shared.kafka.partitions import partitions_of
from shared.postgres import Connection
from shared.read_model.specs import specs_of

_READ = """
SELECT c.name, c.metric, c.type, c.index, c.month_partitions, c.metadata_indexes, c.description, c.retention_seconds,
       c.version, c.position, c.embedding_spec, c.specs, c.spec_since, s.generation
FROM collections c LEFT JOIN collection_state s USING (collection_id) WHERE c.collection_id = $1
"""

_COLUMN_TYPE = """
SELECT format_type(atttypid, atttypmod) FROM pg_attribute
WHERE attrelid = to_regclass($1) AND attname = 'embedding' AND NOT attisdropped
"""

_IS_TABLE = "SELECT to_regclass($1) IS NOT NULL"

_IS_VALID_INDEX = "SELECT coalesce(bool_and(indisvalid), false) FROM pg_index WHERE indexrelid = to_regclass($1)"


@dataclass(frozen=True, slots=True)
class CatalogueFault:
    """`kind`: `collection` (its row is not what its events say), `generation` (searches read another one than the
    active one), `tables` (one is not there, or not of the generation's type), `index` (it is said to be there)."""

    kind: str
    detail: str


async def catalogue_faults(connection: Connection, log: EventLog, collection_id: UUID) -> list[CatalogueFault]:
    """As of one snapshot of the read database."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        row = await connection.fetchrow(_READ, collection_id)
        generations = await read_generations(connection, collection_id)
        positions = await read_positions(connection)
        stream = await log.collection_stream(collection_id)
        if row is None:
            return [CatalogueFault("collection", "the read model does not have it")]
        [partition] = partitions_of([stream[0].aggregate_id], max(1, len(positions)))
        applied = await without_parked(connection, log, stream)
        faults = [*_of_the_row(row, applied, positions.get(partition, 0)), *_of_the_state(row, generations)]
        for generation in generations:
            if generation.state in {"active", "kept"}:
                faults += await _of_the_tables(connection, generation)
    return faults


def _of_the_row(row: asyncpg.Record, stream: Sequence[RecordedEvent], position: int) -> list[CatalogueFault]:
    """A collection may be ahead of its own events' turn, but never behind it."""
    projected = [event for event in stream if event.position <= position]
    due = projected[-1].version if projected else 0
    if row["version"] < due:
        return [CatalogueFault("collection", f"it is at version {row['version']}, and version {due} is projected")]
    expected = _fold([event for event in stream if event.version <= row["version"]])
    stored = {name: row[name] for name in expected}
    stored |= {name: orjson.loads(row[name]) for name in ("index", "metadata_indexes")}
    stored["embedding_spec"] = EmbeddingSpec.model_validate_json(row["embedding_spec"])
    stored["specs"] = specs_of(stored["embedding_spec"], row["specs"])
    return [
        CatalogueFault("collection", f"{name} is {stored[name]!r}, its events say {value!r}")
        for name, value in expected.items()
        if stored[name] != value
    ]


def _fold(stream: Sequence[RecordedEvent]) -> dict[str, Any]:
    state: dict[str, Any] = {}
    for recorded in stream:
        event = decode_event(recorded.event_type, recorded.schema_version, recorded.event_data)
        state |= {"version": recorded.version, "position": recorded.position}
        if isinstance(event, CollectionCreated):
            state |= {"name": event.name, "metric": event.metric, "type": event.type, "description": event.description}
            state |= {"index": event.index.model_dump(mode="json"), "retention_seconds": event.retention_seconds}
            state["month_partitions"] = event.month_partitions
            state["metadata_indexes"] = _in_order(event.metadata_indexes)
            state |= _of_specs(EmbeddingSpecs.created(event))
        elif isinstance(event, CollectionReembedded):
            state |= _of_specs(state["specs"].after(event, recorded.position))
        elif isinstance(event, CollectionUpdated):
            state |= _of_specs(state["specs"].after(event, recorded.position))
            for name in ("description", "retention_seconds"):
                if name in event.model_fields_set:
                    state[name] = getattr(event, name)
            changed = {"metric": event.metric, "type": event.type, "month_partitions": event.month_partitions}
            state |= {name: value for name, value in changed.items() if value is not None}
            if event.index is not None:
                state["index"] = event.index.model_dump(mode="json")
            if event.metadata_indexes is not None:
                state["metadata_indexes"] = _in_order(event.metadata_indexes)
    return state


def _of_specs(specs: EmbeddingSpecs) -> dict[str, Any]:
    served = specs.find(specs.served)
    assert served is not None
    return {"specs": specs, "embedding_spec": served.spec, "spec_since": served.since}


def _in_order(indexes: Sequence[MetadataIndexSpec]) -> list[dict[str, Any]]:
    return [index.model_dump() for index in sorted(indexes, key=lambda index: index.field)]


def _of_the_state(row: asyncpg.Record, generations: Sequence[Generation]) -> list[CatalogueFault]:
    active = [generation.number for generation in generations if generation.state == "active"]
    if [row["generation"]] == active:
        return []
    said = ", ".join(map(str, active)) or "none"
    return [CatalogueFault("generation", f"searches read generation {row['generation']}, active is {said}")]


async def _of_the_tables(connection: Connection, generation: Generation) -> list[CatalogueFault]:
    shape = generation.shape
    for table in (generation.records, generation.embeddings):
        if not await connection.fetchval(_IS_TABLE, table):
            return [CatalogueFault("tables", f"there is no table {table}")]
    wanted = f"{shape.type}({shape.spec.dimension})"
    if (found := await connection.fetchval(_COLUMN_TYPE, generation.embeddings)) != wanted:
        return [CatalogueFault("tables", f"{generation.embeddings} holds {found}, not {wanted}")]
    expected = await names_of_ready_indexes(connection, generation)
    if generation.indexed and shape.index.kind != "none":
        tables = [generation.embeddings]
        if shape.month_partitions:
            # Of an IVFFlat index each has its own once it has the rows, under a new name when it has outgrown it.
            every = shape.index.kind == "hnsw"
            tables = await partitions_of_table(connection, generation.embeddings) if every else []
        expected += [index_name(table, shape.index.kind) for table in tables]
    return [
        CatalogueFault("index", f"the index {index} is not there, or not valid")
        for index in expected
        if not await connection.fetchval(_IS_VALID_INDEX, index)
    ]
