"""A collection that gets more than an HNSW index takes in row by row is loaded without it.

The index is set aside while that lasts: searches are exact, and rows are written at many times the pace. When no more
comes than an index can take in, `upkeep` makes it in bulk. A projector that dies on the way leaves a collection that is
searched exactly, and the next one goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from uuid import UUID

import asyncpg
import structlog

from projector.checkpoints import Checkpoint, between_batches, read_checkpoints
from projector.claims import claimed
from projector.errors import GenerationGoneError, LayoutChangedError
from projector.event_log import EventLog, opened_event_log
from projector.facts import count_up_to
from projector.generations import (
    Generation,
    expect_state,
    lock_generation,
    mark_unindexed,
    read_active,
    renew_revision,
)
from projector.indexing import drop_index, has_any_index
from projector.settings import ProjectorSettings
from shared.postgres import CONNECTION_LOST, Connection, Pool, PooledAddressError

_MUCH_EVENTS = 2_000
_LATELY_SECONDS = 2.0
"""So many events within this time are about what an HNSW index takes in row by row."""

_SHARE_OF_ROWS = 2
"""What comes is large against what is there from half as many on: below, making the whole index anew takes longer than
the rows that come take one by one."""

_PLACES = 100
"""Of the log, at which it is looked whose events wait. A collection that a twentieth of them is of is missed in one of
170 looks."""

_LEFT_ALONE_SECONDS = 60.0

_FAILS = (GenerationGoneError, LayoutChangedError, PooledAddressError, asyncpg.PostgresError, *CONNECTION_LOST)

_log = structlog.get_logger("bulk_loads")


class BulkLoads:
    def __init__(self, settings: ProjectorSettings) -> None:
        self._settings = settings
        self._left_alone: dict[UUID, float] = {}
        """Collections whose index could not be set aside: until when they keep it."""

    async def run(self, read: Pool) -> None:
        """Until it is cancelled. What fails is tried again after a while."""
        if not self._settings.bulk_load_min_events:
            return
        while True:
            try:
                async with opened_event_log(self._settings) as log:
                    while True:
                        await asyncio.sleep(self._settings.upkeep_interval_seconds)
                        async with read.acquire() as connection:
                            found = await outrun(connection, log, self._settings)
                        now = asyncio.get_running_loop().time()
                        for generation in found:
                            if self._left_alone.get(generation.collection_id, 0.0) <= now:
                                await self._set_aside(generation)
            except (*CONNECTION_LOST, asyncpg.PostgresError) as error:
                _log.warning("all indexes stay for now", error=repr(error))
            except Exception:
                _log.exception("all indexes stay for now")
            await asyncio.sleep(self._settings.upkeep_interval_seconds)

    async def _set_aside(self, generation: Generation) -> None:
        try:
            async with claimed(generation.collection_id, self._settings) as connection:
                # Whoever else has it is making the index; it is found here again when it is made.
                if connection is not None:
                    await set_aside(connection, generation, self._settings)
        except _FAILS as error:
            now = asyncio.get_running_loop().time()
            self._left_alone[generation.collection_id] = now + _LEFT_ALONE_SECONDS
            _log.warning("an index could not be set aside", table=generation.embeddings, error=repr(error))


async def outrun(connection: Connection, log: EventLog, settings: ProjectorSettings) -> list[Generation]:
    """The active generations whose index is to be set aside. `connection` leads to the read database."""
    checkpoints = await read_checkpoints(connection)
    after, head = projected(checkpoints), (await log.head()).position
    if head - after < settings.bulk_load_min_events:
        return []
    log_id = await log.log_id()
    if any(checkpoint.layout.log_id != log_id for checkpoint in checkpoints):
        return []
    step = max(1, (head - after) // _PLACES)
    waiting = await log.at(range(after + 1, head + 1, step))
    found = await read_active(connection, {event.collection_id for event in waiting})
    return [generation for generation in found if await _is_outrun(connection, log, generation, after, head, settings)]


async def _is_outrun(
    connection: Connection, log: EventLog, generation: Generation, after: int, head: int, settings: ProjectorSettings
) -> bool:
    if generation.shape.index.kind != "hnsw":
        return False
    if not generation.indexed and not await has_any_index(connection, generation):
        return False
    most_rows = min(_SHARE_OF_ROWS * (head - after), settings.bulk_load_max_rows)
    rows = await count_up_to(connection, generation.records, most_rows + 1)
    if rows > most_rows:
        return False
    much = max(settings.bulk_load_min_events, rows // _SHARE_OF_ROWS)
    return await log.count_collection(generation.collection_id, after, head, much) >= much


async def set_aside(connection: Connection, generation: Generation, settings: ProjectorSettings) -> None:
    """Searches are exact from now on, and writes keep up no index. `connection` is a session of its own, outside any
    transaction; it may die at any statement: done again, this goes on from there.

    Raises:
        GenerationGoneError: the generation is not the active one any more.
        asyncpg.PostgresError, LayoutChangedError: the index is still there.
    """
    await between_batches(connection, partial(_tell, connection, generation))
    await drop_index(connection, generation, settings)
    _log.info("set the index aside", table=generation.embeddings)


async def _tell(connection: Connection, generation: Generation, checkpoints: Sequence[Checkpoint]) -> None:
    found = await lock_generation(connection, generation.collection_id, generation.number)
    expect_state(found, "active")
    if found.indexed:
        await mark_unindexed(connection, found)
        await renew_revision(connection, found, checkpoints)


async def is_loading(connection: Connection, log: EventLog, collection_id: UUID, settings: ProjectorSettings) -> bool:
    """Whether more comes for the collection than an index can take in: so much that waits, or came lately."""
    much = min(_MUCH_EVENTS, settings.bulk_load_min_events)
    newest = await log.newest(collection_id, much) if much else None
    if newest is None:
        return False
    return newest.age_seconds < _LATELY_SECONDS or newest.position > projected(await read_checkpoints(connection))


def projected(checkpoints: Sequence[Checkpoint]) -> int:
    """About where the projection is: of several partitions one may be far behind, and what waits for it is not what
    waits for all."""
    return sum(one.position for one in checkpoints) // max(1, len(checkpoints))
