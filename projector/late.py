"""Events that were parked when a generation that is being made passed them by, and have been applied since."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import asyncpg
import structlog

from events_schema.base import RecordedEvent
from projector.errors import KEPT_AT_FAULT, GenerationBusyError, RebuildFailedError
from projector.event_log import EventLog
from projector.folding import between
from projector.generations import Generation, lock_generation, read_generations, renew_made, retire_tables, set_state
from projector.suspects import expect_comparable
from projector.vectors import write_vectors
from projector.versions import folded_by_log
from shared.postgres import Connection

_OPEN_FOR_WRITING = "LOCK TABLE {records}, {embeddings} IN ROW EXCLUSIVE MODE NOWAIT"

_log = structlog.get_logger("rebuild")


async def bring_along(connection: Connection, log: EventLog, applied: Sequence[RecordedEvent]) -> None:
    """Writes events that were parked until this transaction into those generations that are being made and are beyond
    them. All later events of their vectors were parked with them, so these are next. To generations that have yet to
    come to them they are events like all others.

    Raises:
        GenerationBusyError: one of these generations is getting its indexes.
    """
    for collection_id in {event.collection_id for event in applied}:
        events = [event for event in applied if event.collection_id == collection_id]
        for generation in await read_generations(connection, collection_id):
            if generation.state in {"building", "ready"}:
                # Whoever folds moves the checkpoints first, and waits here, or has left the events out already.
                found = await lock_generation(connection, collection_id, generation.number)
                await _write(connection, log, found, events)


async def _write(
    connection: Connection, log: EventLog, generation: Generation, events: Sequence[RecordedEvent]
) -> None:
    passed = between(events, (0,) * len(generation.checkpoints), generation.checkpoints)
    if not passed:
        return
    tables = _OPEN_FOR_WRITING.format(records=generation.records, embeddings=generation.embeddings)
    try:
        await connection.execute(tables)
    except asyncpg.LockNotAvailableError as error:
        raise GenerationBusyError(generation.number) from error
    try:
        async with connection.transaction():
            effects = await folded_by_log(generation, passed, log)
            await write_vectors(connection, replace(generation, narrowed=generation.shape.type == "halfvec"), effects)
            if generation.state == "ready":
                await expect_comparable(connection, generation, log, list(effects))
            await renew_made(connection, generation)
    except (*KEPT_AT_FAULT, RebuildFailedError) as error:
        reason = f"position {passed[-1].position} or before: {type(error).__name__}: {error}"
        _log.error("a generation that was being made is given up", table=generation.records, reason=reason)
        await set_state(connection, generation, "stale", reason)
        await retire_tables(connection, generation.collection_id, [generation.number])
