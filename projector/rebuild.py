"""Folds the log anew into a generation of a collection's tables beside those that are searched, and switches to it.

Its steps are `begin`, `build`, `index`, `catch_up`, `promote`, or `discard`. Each may be cut off at any statement and
called again, in this process or another one; it goes on where its last transaction ended. Whoever works on a collection
holds its lock (`claims`): without it nothing would go wrong, but much be done twice.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic
from uuid import UUID

import asyncpg
import structlog

from events_schema.base import RecordedEvent
from projector.checkpoints import Checkpoint, between_batches, read_positions
from projector.completeness import expect_embedded, expect_written
from projector.errors import (
    POISON,
    GenerationGoneError,
    LayoutChangedError,
    NoRoomError,
    NotCaughtUpError,
    RebuildFailedError,
    SnapshotError,
)
from projector.event_log import EventLog
from projector.folding import Batch, batches, between, moved
from projector.generations import (
    Generation,
    Shape,
    SnapshotTerms,
    activate,
    delete_generation,
    expect_state,
    insert_generation,
    lock_generation,
    mark_indexed,
    move_generation,
    next_number,
    read_generations,
    renew_revision,
    retire_tables,
    set_state,
)
from projector.indexing import analyze, make_index
from projector.loading import prepare, write_load
from projector.metadata_indexing import index_metadata_of_new
from projector.parking import without_parked
from projector.settings import ProjectorSettings
from projector.suspects import expect_comparable
from projector.tables import create_metadata_index, create_tables
from projector.versions import current_version, folded_by_log
from shared.postgres import Connection

_CAUGHT_UP_EVENTS = 500
"""So many events may be missing when a promotion begins; they are folded while the projection stands still."""

_FEW_EVENTS = 50
"""So few are not worth another round of catching up."""

_WORTH_A_ROUND = 0.9
"""Another round of catching up is worth it as long as the last one left no more than this part of what it found."""

_MAX_ROUNDS = 100
_PAUSE_SECONDS = 0.5
_MAX_PROMOTIONS = 6

# Rows and position are lost together or not at all, so nobody waits until the disk has them; the promotion does. It may
# fold, too, and what is set locally would outlive its savepoint.
_COMMIT_SOON = "SET LOCAL synchronous_commit TO off"

_log = structlog.get_logger("rebuild")


@dataclass(frozen=True, slots=True)
class Progress:
    """The generation holds everything up to `position`, of `target`, where the step began; `events` were folded by
    this call."""

    generation: Generation
    position: int
    target: int
    events: int


def _silent(_progress: Progress) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Replay:
    """What every step needs. `connection` is a session of its own to the read database itself, with pgvector's codecs.
    `report` is called after each transaction. `max_events_per_second` leaves the databases time for others."""

    connection: Connection
    log: EventLog
    settings: ProjectorSettings
    report: Callable[[Progress], None] = _silent
    max_events_per_second: float | None = None


async def begin(
    replay: Replay, collection_id: UUID, shape: Shape, *, automatic: bool, snapshot: SnapshotTerms | None = None
) -> Generation:
    """A new generation of this shape, empty, or one that was begun for the same and not promoted. A `snapshot` is
    always new; it ends at its position and cannot be promoted.

    Raises:
        GenerationGoneError: the collection is deleted.
    """
    connection = replay.connection
    if snapshot is None:
        wanted = (shape, automatic, None, current_version())
        for found in await read_generations(connection, collection_id):
            there = (found.shape, found.automatic, found.snapshot, found.projection_version)
            if found.state in {"building", "ready"} and there == wanted:
                return found
    async with connection.transaction():
        number = await next_number(connection, collection_id)
        if number is None:
            raise GenerationGoneError(collection_id)
        partitions = max(1, len(await read_positions(connection)))
        generation = Generation(
            collection_id, number, shape, "building",
            indexed=False, projection_version=current_version(), checkpoints=(0,) * partitions, automatic=automatic,
            snapshot=snapshot,
        )  # fmt: skip
        await insert_generation(connection, generation)
        await create_tables(connection, generation, metadata_index=False)
    return generation


async def build(replay: Replay, generation: Generation) -> Generation:
    """Folds the log into a generation that was begun, without any index: as far as the projection has come, a snapshot
    no further than its end. A later call goes on from there.

    Raises:
        GenerationGoneError: the collection is deleted.
        RebuildFailedError: an event does not fit, or a vector has no embedding.
        NotCaughtUpError: the projection has not come to where every vector has one.
        NoRoomError
    """
    if generation.state == "ready":
        return generation
    async with _given_back_when_full(replay, generation):
        generation = await _fold(replay, generation)
    await _expect_embedded(replay, generation)
    return generation


async def index(replay: Replay, generation: Generation, *, search_index: bool = True) -> Generation:
    """Makes the indexes of a generation that `build` has filled; without `search_index`, only those over metadata.

    Raises:
        GenerationGoneError
        RebuildFailedError: it holds what cannot be compared.
        NoRoomError
        asyncpg.PostgresError: an index cannot be made.
    """
    connection, settings = replay.connection, replay.settings
    if generation.state == "ready":
        return generation
    made = None
    async with _given_back_when_full(replay, generation):
        await create_metadata_index(connection, generation, settings.index_timeout_seconds)
        await index_metadata_of_new(connection, generation, settings)
        await expect_comparable(connection, generation, replay.log, timeout_seconds=settings.index_timeout_seconds)
        if search_index and generation.shape.index.kind != "none":
            made = await make_index(connection, generation, settings, concurrently=False)
        else:
            await analyze(connection, generation, settings)
    async with connection.transaction():
        found = await lock_generation(connection, generation.collection_id, generation.number)
        expect_state(found, "building")
        if made is not None:
            await mark_indexed(connection, generation, made.rows, made.lists)
        await set_state(connection, generation, "ready")
    return await _read(connection, generation)


async def catch_up(replay: Replay, generation: Generation) -> Generation:
    """Folds what the projection has projected meanwhile, until another round would not leave notably less.

    Raises:
        GenerationGoneError, RebuildFailedError, NoRoomError
        NotCaughtUpError: more and more is left to do.
    """
    left = math.inf
    for _ in range(_MAX_ROUNDS):
        before, left_before = generation.checkpoints, left
        async with _given_back_when_full(replay, generation):
            generation = await _fold(replay, generation)
        left = await _count_left(replay, generation)
        if left <= _FEW_EVENTS or _WORTH_A_ROUND * left_before < left <= _CAUGHT_UP_EVENTS:
            await _expect_embedded(replay, generation)
            return generation
        if generation.checkpoints == before:
            # One partition is far behind the others. It will come.
            await asyncio.sleep(_PAUSE_SECONDS)
    raise NotCaughtUpError(f"generation {generation.number} is not caught up after {_MAX_ROUNDS} rounds")


async def promote(replay: Replay, generation: Generation, *, keep_old: bool) -> float:
    """Searches read this generation from now on. It has been brought to exactly where the projection stands: each
    aggregate up to its own partition's checkpoint. A kept one is there already, so this is also the way back.

    The generation before it is kept and written on, or dropped once nobody uses it. At most one is kept.

    Returns:
        for how many seconds the projection stood still.

    Raises:
        GenerationGoneError, RebuildFailedError, NoRoomError, NotCaughtUpError
        SnapshotError: it ends at a position of the past.
    """
    expect_no_snapshot(generation)
    for attempt in range(_MAX_PROMOTIONS):
        if generation.state != "kept":
            generation = await catch_up(replay, generation)
        try:
            # Whoever writes faster than it is caught up finds the projection standing still a little longer each time.
            most = _CAUGHT_UP_EVENTS * 2**attempt
            async with _given_back_when_full(replay, generation):
                began = await between_batches(
                    replay.connection, partial(_switch, replay, generation, keep_old=keep_old, most_events=most)
                )
        except (NotCaughtUpError, LayoutChangedError):
            continue
        pause = monotonic() - began
        _log.info("promoted", table=generation.records, indexed=generation.indexed, pause_seconds=round(pause, 3))
        return pause
    raise NotCaughtUpError(f"the projection is always ahead, {_MAX_PROMOTIONS} times")


def expect_no_snapshot(generation: Generation) -> None:
    """
    Raises:
        SnapshotError: it ends at a position of the past.
    """
    if generation.until_position is not None:
        raise SnapshotError(generation.number, generation.until_position)


async def discard(connection: Connection, collection_id: UUID, number: int) -> None:
    """Its tables are dropped once nobody uses them, and its number is never used again.

    Raises:
        GenerationGoneError: it is not there, or searches read it.
    """
    async with connection.transaction():
        generation = await lock_generation(connection, collection_id, number)
        expect_state(generation, "building", "ready", "kept", "stale")
        await delete_generation(connection, generation)


async def give_up(connection: Connection, generation: Generation, reason: str) -> None:
    """Leaves word of a generation that cannot be made; of those that were given up before nothing stays."""
    async with connection.transaction():
        found = await lock_generation(connection, generation.collection_id, generation.number)
        expect_state(found, "building", "ready")
        for other in await read_generations(connection, found.collection_id):
            if other.state == "stale" and other.automatic == found.automatic and other.snapshot is None:
                await delete_generation(connection, other)
        await set_state(connection, found, "stale", reason)
        await retire_tables(connection, found.collection_id, [found.number])


@asynccontextmanager
async def _given_back_when_full(replay: Replay, generation: Generation) -> AsyncIterator[None]:
    """
    Raises:
        NoRoomError: the disk is full. To go on later would keep it full until then.
    """
    try:
        yield
    except asyncpg.DiskFullError as error:
        if generation.state in {"building", "ready"}:
            full = NoRoomError(generation.number, str(error))
            await give_up(replay.connection, generation, str(full))
            raise full from error
        raise


async def _read(connection: Connection, generation: Generation) -> Generation:
    for found in await read_generations(connection, generation.collection_id):
        if found.number == generation.number:
            return found
    raise GenerationGoneError(generation.collection_id, generation.number)


async def _fold(replay: Replay, generation: Generation) -> Generation:
    """To where the projection stands now. Never beyond any partition's checkpoint: the projection would apply it again
    to a generation that was promoted."""
    positions = await read_positions(replay.connection)
    found = await _read(replay.connection, generation)
    expect_state(found, "building", "ready")
    generation = await _aligned(replay, found, max(1, len(positions)))
    targets = tuple(positions.get(partition, 0) for partition in range(len(generation.checkpoints)))
    if (until := generation.until_position) is not None:
        targets = tuple(min(target, until) for target in targets)
    return await _fold_to(replay, generation, targets)


async def _aligned(replay: Replay, generation: Generation, partitions: int) -> Generation:
    """With so many partitions. When the projection's were dealt out anew they stood at one position, and since then
    they have only moved on."""
    if len(generation.checkpoints) == partitions:
        return generation
    position = max(generation.checkpoints)
    generation = await _fold_to(replay, generation, (position,) * len(generation.checkpoints))
    async with replay.connection.transaction():
        return await move_generation(replay.connection, generation, (position,) * partitions)


async def _fold_to(replay: Replay, generation: Generation, targets: Sequence[int]) -> Generation:
    began, folded = monotonic(), 0
    async with aclosing(batches(replay.log, generation, targets, replay.settings.batch_max_events)) as coming:
        async for batch in coming:
            generation = await _apply(replay, generation, batch, targets)
            folded += len(batch.events)
            replay.report(Progress(generation, min(generation.checkpoints), min(targets), folded))
            if replay.max_events_per_second:
                await asyncio.sleep(max(0.0, began + folded / replay.max_events_per_second - monotonic()))
    return generation


async def _apply(replay: Replay, generation: Generation, batch: Batch, targets: Sequence[int]) -> Generation:
    """
    Raises:
        RebuildFailedError: naming the event at fault; what comes before it is applied.
    """
    try:
        return await _write(replay, generation, batch, targets, by_id=False)
    except POISON:
        return await _halve(replay, generation, batch.events, targets)


async def _halve(
    replay: Replay, generation: Generation, events: Sequence[RecordedEvent], targets: Sequence[int]
) -> Generation:
    """All of them by id, whatever the tables hold already, then each half, until the one at fault stands alone."""
    batch = Batch(events, between(events, generation.checkpoints, targets), None)
    try:
        return await _write(replay, generation, batch, targets, by_id=True)
    except POISON as error:
        if len(events) == 1:
            raise RebuildFailedError(
                f"the event at position {events[0].position} does not fit: {type(error).__name__}: {error}"
            ) from error
    middle = len(events) // 2
    generation = await _halve(replay, generation, events[:middle], targets)
    return await _halve(replay, generation, events[middle:], targets)


async def _write(
    replay: Replay, generation: Generation, batch: Batch, targets: Sequence[int], *, by_id: bool
) -> Generation:
    """The rows and how far they reach, in one transaction."""
    connection = replay.connection
    async with connection.transaction():
        if generation.state == "building":
            await connection.execute(_COMMIT_SOON)
        after = await move_generation(connection, generation, moved(generation.checkpoints, targets, batch.events))
        applied = await without_parked(connection, replay.log, batch.within)
        load = batch.load
        if load is None or len(applied) < len(batch.within):
            load = prepare(generation, await folded_by_log(generation, applied, replay.log), by_id=by_id)
        await write_load(connection, generation, load)
        if generation.state == "ready":
            await expect_comparable(connection, generation, replay.log, load.ids)
            await _expect_embedded(replay, after, load.ids)
    if len(applied) < len(batch.within):
        _log.warning(
            "left out events that are parked", table=generation.records, events=len(batch.within) - len(applied)
        )
    return after


async def _expect_embedded(replay: Replay, generation: Generation, ids: Sequence[str] | None = None) -> None:
    timeout = replay.settings.index_timeout_seconds
    await expect_embedded(replay.connection, generation, replay.log, timeout, ids)


async def _count_left(replay: Replay, generation: Generation) -> int:
    """Counted only as far as it matters to `catch_up`; too many where partitions are apart."""
    positions = await read_positions(replay.connection)
    first, last = min(generation.checkpoints), max(positions.values(), default=0)
    return await replay.log.count_collection(generation.collection_id, first, last, 2 * _CAUGHT_UP_EVENTS + 1)


async def _switch(
    replay: Replay, generation: Generation, checkpoints: Sequence[Checkpoint], *, keep_old: bool, most_events: int
) -> float:
    """When it began, by the process's clock. The projection stands still from then until the transaction's end."""
    began = monotonic()
    connection = replay.connection
    found = await lock_generation(connection, generation.collection_id, generation.number)
    expect_state(found, "ready", "kept")
    await expect_written(connection, found)
    if found.state == "ready":
        await _bring_to(replay, found, checkpoints, most_events)
    await activate(connection, found, keep_old=keep_old)
    await renew_revision(connection, found, checkpoints)
    return began


async def _bring_to(
    replay: Replay, generation: Generation, checkpoints: Sequence[Checkpoint], most_events: int
) -> None:
    if len(generation.checkpoints) != len(checkpoints):
        raise LayoutChangedError
    targets = [checkpoint.position for checkpoint in checkpoints]
    first = min(generation.checkpoints)
    if await replay.log.count_collection(generation.collection_id, first, max(targets), most_events + 1) > most_events:
        raise NotCaughtUpError(f"more than {most_events} events are left")
    await _fold_to(replace(replay, max_events_per_second=None), generation, targets)
