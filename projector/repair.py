"""Projects anew only what differs: single vectors of a live generation, or which generation searches read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from events_schema.base import RecordedEvent
from events_schema.streams import vector_stream
from projector.checkpoints import Checkpoint, between_batches
from projector.event_log import EventLog
from projector.folding import between
from projector.generations import Generation, expect_state, lock_generation, read_generations, renew_revision
from projector.parking import without_parked
from projector.vectors import delete_vectors, write_vectors
from projector.versions import folded_by_log
from shared.postgres import Connection

_AT_ONCE = 100
"""Vectors that one transaction repairs, while the projection stands still."""

_NEXT = "SELECT id FROM pg_temp.differing_rows WHERE id > $1 ORDER BY id LIMIT $2"


async def repair_differing(connection: Connection, log: EventLog, generation: Generation) -> int:
    """Writes the vectors that the session's last comparison found anew, from their own events; how many.

    Raises:
        GenerationGoneError: searches and batches use it no longer.
    """
    repaired, last = 0, ""
    while rows := await connection.fetch(_NEXT, last, _AT_ONCE):
        ids = [row["id"] for row in rows]
        await _repair(connection, log, generation, ids)
        repaired, last = repaired + len(ids), ids[-1]
    return repaired


async def _repair(connection: Connection, log: EventLog, generation: Generation, ids: Sequence[str]) -> None:
    streams = [vector_stream(generation.collection_id, vector_id) for vector_id in ids]
    # The better part is read before the projection stands still.
    known = await log.streams(streams, 0)

    async def write(checkpoints: Sequence[Checkpoint]) -> None:
        found = await lock_generation(connection, generation.collection_id, generation.number)
        expect_state(found, "active", "kept")
        events = [*known, *await log.streams(streams, known[-1].position if known else 0)]
        await _write(connection, log, found, ids, events, checkpoints)
        [active] = [one for one in await read_generations(connection, found.collection_id) if one.state == "active"]
        await renew_revision(connection, active, checkpoints)

    await between_batches(connection, write)


async def _write(
    connection: Connection,
    log: EventLog,
    generation: Generation,
    ids: Sequence[str],
    events: Sequence[RecordedEvent],
    checkpoints: Sequence[Checkpoint],
) -> None:
    positions = [checkpoint.position for checkpoint in checkpoints]
    projected = between(events, [0] * len(positions), positions)
    effects = await folded_by_log(generation, await without_parked(connection, log, projected), log)
    await delete_vectors(connection, generation, ids)
    there = {vector_id: effect for vector_id, effect in effects.items() if not effect.deleted}
    await write_vectors(connection, replace(generation, narrowed=generation.shape.type == "halfvec"), there)


async def repair_active(connection: Connection, collection_id: UUID) -> bool:
    """Has searches read the generation that is active again; whether there is one."""

    async def tell(checkpoints: Sequence[Checkpoint]) -> bool:
        for generation in await read_generations(connection, collection_id):
            if generation.state == "active":
                await renew_revision(connection, generation, checkpoints)
                return True
        return False

    return await between_batches(connection, tell)
