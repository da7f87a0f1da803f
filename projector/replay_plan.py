"""What a replay would take, without doing it."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from math import log as logarithm
from time import perf_counter
from uuid import UUID

import numpy as np
from pgvector import Vector

from events_schema.embedding import Float32Array, decode_many
from projector.errors import POISON
from projector.event_log import EventLog
from projector.generations import Shape, read_generations
from projector.indexes import index_statement, lists_for
from projector.indexing import parallel_workers
from projector.replay_targets import Target, shape_at
from projector.settings import ProjectorSettings
from projector.vectors import GREATEST_HALF, Under, fold_vectors
from shared.postgres import Connection

_SAMPLED_EVENTS = 1_000
_SECONDS_PER_EVENT = 0.0001
"""Where the log has nothing to be measured yet."""
_WRITING_TO_READING = 0.85
"""Measured: what a replay does besides reading and decoding takes so much of that again."""

_SAMPLE = "CREATE TEMPORARY TABLE planned_rows (embedding {type}({dimension})) ON COMMIT DROP"

_FILL = "INSERT INTO pg_temp.planned_rows SELECT unnest($1::vector[])::{type}"

_LEAST_SAMPLE = 2
_SAMPLED_LISTS = 10

_SIZE = """
SELECT pg_total_relation_size(to_regclass($1)) + pg_total_relation_size(to_regclass($2)) AS bytes
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """`events` of the log that would be folded, `log_bytes` of event data; `vectors` that would be there in the end.
    `table_bytes` is what the active generation takes with its indexes, and the new one will about. `seconds` is a
    guess from the first events: how long it takes to read and decode them, and to make the index over them."""

    collection_id: UUID
    name: str
    until_position: int
    events: int
    log_bytes: int
    vectors: int
    table_bytes: int
    seconds: float


async def plan(
    connection: Connection,
    log: EventLog,
    settings: ProjectorSettings,
    target: Target,
    until_position: int,
    max_events_per_second: float | None,
) -> Plan:
    target = replace(target, shape=await shape_at(log, target, until_position))
    extent = await log.extent(target.collection_id, until_position, settings.index_timeout_seconds)
    seconds_per_event, sampled = await _sampled(log, target, until_position)
    folding = extent.events * seconds_per_event
    if max_events_per_second:
        folding = max(folding, extent.events / max_events_per_second)
    indexing = await _index_seconds(connection, target.shape, sampled, extent.vectors, settings)
    return Plan(
        target.collection_id,
        target.name,
        until_position,
        extent.events,
        extent.bytes,
        extent.vectors,
        await _table_bytes(connection, target.collection_id),
        round(folding + indexing, 1),
    )


async def _sampled(log: EventLog, target: Target, until_position: int) -> tuple[float, Float32Array]:
    """What folding an event takes, and the embeddings that the first ones bring, shape (vectors, dimension)."""
    began = perf_counter()
    spec, since = target.shape.spec, target.shape.spec_since
    events = await log.read_collection(target.collection_id, since, until_position, _SAMPLED_EVENTS)
    dimension = spec.dimension
    try:
        effects = fold_vectors([event for event in events if event.aggregate_type == "vector"], Under(spec, since))
        embeddings = decode_many([one.embedding for one in effects.values() if one.embedding], dimension)
    except POISON:
        # One of them is parked, or will be; nothing can be said from it.
        return _SECONDS_PER_EVENT, np.empty((0, dimension), np.float32)
    if not len(embeddings):
        return _SECONDS_PER_EVENT, embeddings
    return (perf_counter() - began) / len(events) * (1 + _WRITING_TO_READING), embeddings


async def _index_seconds(
    connection: Connection, shape: Shape, sample: Float32Array, rows: int, settings: ProjectorSettings
) -> float:
    """From the index over a sample, made by one process. A row of an HNSW index takes as long as the logarithm of all
    rows, one of an IVFFlat index as long as the number of its lists. The database is taken to have as many processors
    as this machine."""
    if shape.index.kind == "none" or len(sample) < _LEAST_SAMPLE or rows < _LEAST_SAMPLE:
        return 0.0
    seconds = await _seconds_of_sample(connection, shape, sample)
    if shape.index.kind == "hnsw":
        longer = logarithm(rows) / logarithm(len(sample))
    else:
        longer = lists_for(rows, shape, settings.index_memory_mb) / _SAMPLED_LISTS
    processes = min(await parallel_workers(connection, settings) + 1, os.cpu_count() or 1)
    return seconds / len(sample) * rows * longer / processes


async def _seconds_of_sample(connection: Connection, shape: Shape, sample: Float32Array) -> float:
    """In a temporary table, of which nothing is left."""
    if shape.type == "halfvec":
        sample = np.clip(sample, -GREATEST_HALF, GREATEST_HALF)
    async with connection.transaction():
        await connection.execute(_SAMPLE.format(type=shape.type, dimension=shape.spec.dimension))
        await connection.execute(_FILL.format(type=shape.type), [Vector(row) for row in sample])
        began = perf_counter()
        await connection.execute(index_statement("planned_rows", shape, _SAMPLED_LISTS))
        return perf_counter() - began


async def _table_bytes(connection: Connection, collection_id: UUID) -> int:
    for generation in await read_generations(connection, collection_id):
        if generation.state == "active":
            size: int | None = await connection.fetchval(_SIZE, generation.records, generation.embeddings)
            return size or 0
    return 0
