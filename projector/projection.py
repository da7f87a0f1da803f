"""What a run of events does to the read model: first the collections, then the vectors of those that remain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

import structlog

from events_schema.base import RecordedEvent
from events_schema.upcasters import UnreadableEventError
from projector.aliases import apply_alias_event
from projector.collections import apply_collection_event, live_generations
from projector.errors import KEPT_AT_FAULT, UnprojectableEventError
from projector.event_log import EventLog
from projector.generations import Generation, set_state
from projector.runs import Run
from projector.skips import note_skip
from projector.vectors import VectorEffect, write_vectors
from projector.versions import folded_by_log
from shared.postgres import Connection

Changes = Mapping[UUID, int]
"""Collection -> the position of the last event that changed it."""

# Whoever deletes the collection meanwhile waits for this transaction, or this one finds no state any more.
_RECORD_CHANGES = """
INSERT INTO collection_changes (collection_id, partition, last_changed)
SELECT s.collection_id, c.partition, c.last_changed
FROM unnest($1::uuid[], $2::int[], $3::bigint[]) AS c(collection_id, partition, last_changed)
JOIN collection_state s USING (collection_id)
FOR KEY SHARE OF s
ON CONFLICT (collection_id, partition)
    DO UPDATE SET last_changed = greatest(collection_changes.last_changed, excluded.last_changed)
"""

_CHANGING = frozenset({"collection", "vector"})
"""Aggregates whose events change what is read of their collection."""

_log = structlog.get_logger("projection")


async def project(connection: Connection, events: Sequence[RecordedEvent], log: EventLog) -> Changes:
    """Writes the events' effects. `events` are in order of position; a collection's vectors may be written after a
    later event of the collection, because nothing but its deletion concerns them, and that leaves nothing to write.

    Raises:
        One of `POISON`: an event is at fault, and nothing says which; the transaction is to be rolled back.
    """
    last_changed: dict[UUID, int] = {}
    aliased: set[UUID] = set()
    of_vectors: dict[UUID, list[RecordedEvent]] = {}
    for event in events:
        match event.aggregate_type:
            case "alias":
                await apply_alias_event(connection, event)
                aliased.add(event.collection_id)
            case "skip":
                await note_skip(connection, event)
            case "collection":
                last_changed[event.collection_id] = event.position
                await apply_collection_event(connection, event, log)
            case "vector":
                last_changed[event.collection_id] = event.position
                of_vectors.setdefault(event.collection_id, []).append(event)
            case unknown:
                raise UnreadableEventError(f"the aggregate type {unknown!r} is unknown to this software")
    # What an alias stands for is there with it, also if its own events are still to come.
    live = await live_generations(connection, last_changed.keys() | aliased, log)
    for collection_id, generations in live.items():
        if collection_id in of_vectors:
            await _write(connection, generations, of_vectors[collection_id], log)
    return {collection_id: position for collection_id, position in last_changed.items() if collection_id in live}


async def _write(
    connection: Connection, generations: Sequence[Generation], events: Sequence[RecordedEvent], log: EventLog
) -> None:
    active, *kept = generations
    await write_vectors(connection, active, await folded_by_log(active, events, log, is_live=True))
    for generation in kept:
        try:
            async with connection.transaction():
                effects = await folded_by_log(generation, events, log, is_live=True)
                _expect_embedded(effects)
                await write_vectors(connection, generation, effects)
        except KEPT_AT_FAULT as error:
            # It is there in case somebody wants to go back, and nobody waits for that.
            reason = f"position {events[-1].position} or before: {type(error).__name__}: {error}"
            _log.error("a kept generation is written no longer", table=generation.records, reason=reason)
            await set_state(connection, generation, "stale", reason)


def _expect_embedded(effects: Mapping[str, VectorEffect]) -> None:
    """Of the active generation rows may lose their embeddings, for a while: see `collections`."""
    lost = [vector_id for vector_id, effect in effects.items() if effect.drops_embedding]
    if lost:
        raise UnprojectableEventError(f"the collection has left its model: {min(lost)!r} has no embedding of it")


async def record_changes(connection: Connection, runs: Sequence[Run], changes: Changes) -> None:
    """Written once for a whole batch, a row a partition, so that no two projectors write one; a collection that the
    batch deleted in the end has no row to be polled."""
    last_changed = {
        (event.collection_id, run.partition): event.position
        for run in runs
        for event in run.events
        if event.position <= changes.get(event.collection_id, 0) and event.aggregate_type in _CHANGING
    }
    if last_changed:
        collections, partitions = zip(*last_changed, strict=True)
        await connection.execute(_RECORD_CHANGES, collections, partitions, list(last_changed.values()))
