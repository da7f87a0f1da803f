"""A collection that gets more than an HNSW index takes in row by row is loaded without it.

The index is set aside while that lasts: searches are exact, and rows are written at many times the pace. When no more
comes than an index can take in, `upkeep` makes it in bulk. A projector that dies on the way leaves a collection that is
searched exactly, and the next one goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
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
from projector.indexing import count_rows, drop_index, has_any_index, index_in_place
from projector.settings import ProjectorSettings
from shared.postgres import CONNECTION_LOST, Connection, Pool, PooledAddressError

_MUCH_EVENTS = 2_000
_LATELY_SECONDS = 2.0
"""So many events within this time are about what an HNSW index takes in row by row."""

_PAUSE_SHARE = 4
"""Fewer than a quarter of them in a quarter of the time are a pause, and may be the end."""

_MANY_EVENTS = 5_000
_PAUSE_FACTOR = 2
"""A pause is the end when it lasts twice as long as so many events took before it: batches, too, come with pauses."""

_LOOK_SECONDS = 0.25
"""How often it is looked whether what waits is projected."""

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


async def seconds_loading(
    connection: Connection, log: EventLog, collection_id: UUID, settings: ProjectorSettings
) -> float:
    """Whether more comes for the collection than an index can take in: so much that waits, or came lately. For so many
    seconds at least this is so, if nothing more comes; 0: it is not."""
    much = min(_MUCH_EVENTS, settings.bulk_load_min_events)
    many = min(_MANY_EVENTS, settings.bulk_load_min_events)
    few = -(-much // _PAUSE_SHARE)
    newest = await log.newest(collection_id, [few, much, many]) if much else {}
    if much not in newest:
        return 0.0
    many_age = newest[many].age_seconds if many in newest else inf
    left = seconds_left(newest[few].age_seconds, newest[much].age_seconds, many_age)
    if newest[much].position > projected(await read_checkpoints(connection)):
        return max(left, _LOOK_SECONDS)
    return max(left, 0.0)


def seconds_left(few: float, much: float, many: float) -> float:
    """Until a load is over of which a few events, much and many came within the last so many seconds; `many` is
    infinite where there are not so many. 0 or less: it is over."""
    pause = max(_LATELY_SECONDS / _PAUSE_SHARE, _PAUSE_FACTOR * (many - few))
    return min(_LATELY_SECONDS - much, pause - few)


async def index_unless_outrun(
    connection: Connection, generation: Generation, settings: ProjectorSettings, may_give_up: Callable[[], bool]
) -> None:
    """`index_in_place`, but given up when the load goes on: what comes meanwhile goes into the index row by row in the
    end, and if that is much, the index is better made anew when no more comes.

    Raises:
        GenerationGoneError: the generation is not the active one any more.
        asyncpg.PostgresError, LayoutChangedError: the index cannot be made, or what is there of it not be dropped.
        One of `CONNECTION_LOST`
    """
    if generation.shape.index.kind != "hnsw" or not settings.bulk_load_min_events:
        await index_in_place(connection, generation, settings)
        return
    rows = await count_rows(connection, generation, settings)
    much = max(settings.bulk_load_min_events, rows // _SHARE_OF_ROWS)
    async with opened_event_log(settings) as log:
        began = (await log.head()).position
    making = asyncio.create_task(index_in_place(connection, generation, settings))
    try:
        while not making.done():
            await asyncio.wait([making], timeout=settings.upkeep_interval_seconds)
            if not making.done() and may_give_up() and await _goes_on(generation.collection_id, began, much, settings):
                break
        else:
            await making
            return
    finally:
        making.cancel()
        await asyncio.gather(making, return_exceptions=True)
    _log.info("gave up making an index, because more comes", table=generation.embeddings)
    # It may have been there a moment before.
    await set_aside(connection, generation, settings)


async def _goes_on(collection_id: UUID, after: int, much: int, settings: ProjectorSettings) -> bool:
    """Whether much has come since, and still comes. That it cannot be told is no reason to give up."""
    lately = min(_MUCH_EVENTS, settings.bulk_load_min_events)
    try:
        async with opened_event_log(settings) as log:
            if await log.count_collection(collection_id, after, (await log.head()).position, much) < much:
                return False
            newest = await log.newest(collection_id, [lately])
    except (*CONNECTION_LOST, asyncpg.PostgresError):
        return False
    return newest[lately].age_seconds < _LATELY_SECONDS


def projected(checkpoints: Sequence[Checkpoint]) -> int:
    """About where the projection is: of several partitions one may be far behind, and what waits for it is not what
    waits for all."""
    return sum(one.position for one in checkpoints) // max(1, len(checkpoints))
