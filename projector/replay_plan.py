"""What a replay would take, without doing it."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from uuid import UUID

from events_schema.embedding import decode_many
from projector.event_log import EventLog
from projector.generations import Shape, read_generations
from projector.replay_targets import Target
from projector.settings import ProjectorSettings
from projector.vectors import fold_vectors
from shared.postgres import Connection

_SAMPLED_EVENTS = 1_000
_SECONDS_PER_EVENT = 0.0001
"""Where the log has nothing to be measured yet."""
_WRITING_TO_READING = 1.0
"""Rows are written while the next events are read, on another core; a core of one's own for neither: twice."""

_HNSW_SECONDS_PER_ROW = 0.0003
_HNSW_SECONDS_PER_DIMENSION = 0.000002
_DEFAULT_EF_CONSTRUCTION = 64
_IVFFLAT_SECONDS_PER_DIMENSION = 0.0000005

_SIZE = """
SELECT pg_total_relation_size(to_regclass($1)) + pg_total_relation_size(to_regclass($2)) AS bytes
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """`events` of the log that would be folded, `log_bytes` of event data; `vectors` that would be there in the end.
    `table_bytes` is what the active generation takes with its indexes, and the new one will about. `seconds` is a
    guess from reading the first events, and from what indexes took where they were measured."""

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
    extent = await log.extent(target.collection_id, until_position, settings.index_timeout_seconds)
    folding = extent.events * await _seconds_per_event(log, target, until_position)
    if max_events_per_second:
        folding = max(folding, extent.events / max_events_per_second)
    return Plan(
        target.collection_id,
        target.name,
        until_position,
        extent.events,
        extent.bytes,
        extent.vectors,
        await _table_bytes(connection, target.collection_id),
        round(folding + _index_seconds(target.shape, extent.vectors, settings), 1),
    )


async def _seconds_per_event(log: EventLog, target: Target, until_position: int) -> float:
    began = perf_counter()
    events = await log.read_collection(target.collection_id, 0, until_position, _SAMPLED_EVENTS)
    of_vectors = [event for event in events if event.aggregate_type == "vector"]
    if not of_vectors:
        return _SECONDS_PER_EVENT
    effects = fold_vectors(of_vectors, target.shape.spec)
    decode_many([one.embedding for one in effects.values() if one.embedding], target.shape.spec.dimension)
    return (perf_counter() - began) / len(events) * (1 + _WRITING_TO_READING)


def _index_seconds(shape: Shape, rows: int, settings: ProjectorSettings) -> float:
    processes = settings.index_parallel_workers + 1
    match shape.index.kind:
        case "hnsw":
            effort = (shape.index.ef_construction or _DEFAULT_EF_CONSTRUCTION) / _DEFAULT_EF_CONSTRUCTION
            each = _HNSW_SECONDS_PER_ROW + _HNSW_SECONDS_PER_DIMENSION * shape.spec.dimension
            return rows * each * effort / processes
        case "ivfflat":
            return rows * _IVFFLAT_SECONDS_PER_DIMENSION * shape.spec.dimension / processes
        case "none":
            return 0.0


async def _table_bytes(connection: Connection, collection_id: UUID) -> int:
    for generation in await read_generations(connection, collection_id):
        if generation.state == "active":
            size: int | None = await connection.fetchval(_SIZE, generation.records, generation.embeddings)
            return size or 0
    return 0
