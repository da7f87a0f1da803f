"""A collection's events on their way into a generation: which come next, and each batch made ready while the one before
it is written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from events_schema.base import RecordedEvent
from projector.errors import POISON
from projector.event_log import EventLog
from projector.generations import Generation
from projector.loading import Load, prepare
from projector.versions import folded
from shared.kafka.partitions import partitions_of

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class Batch:
    """A collection's next events, all that there are up to the last of them; none: there are none any more. Of these,
    `within` are those of vectors that the generation is to have, and `load` is what they make of it if none of them is
    parked; None: one of them is at fault."""

    events: Sequence[RecordedEvent]
    within: Sequence[RecordedEvent]
    load: Load | None


def between(events: Sequence[RecordedEvent], after: Sequence[int], targets: Sequence[int]) -> list[RecordedEvent]:
    """The vectors' events that are beyond their partition's `after` and not beyond its target."""
    partitions = partitions_of([event.aggregate_id for event in events], len(after))
    return [
        event
        for event, partition in zip(events, partitions, strict=True)
        if event.aggregate_type == "vector" and after[partition] < event.position <= targets[partition]
    ]


def left(reached: Sequence[int], targets: Sequence[int]) -> tuple[int, int] | None:
    """The positions (after, to] that some partition still lacks."""
    behind = [(at, to) for at, to in zip(reached, targets, strict=True) if at < to]
    return (min(at for at, _ in behind), max(to for _, to in behind)) if behind else None


def moved(reached: Sequence[int], targets: Sequence[int], events: Sequence[RecordedEvent]) -> tuple[int, ...]:
    """Where each partition is once these events, the next ones, are applied."""
    to = events[-1].position if events else max(targets)
    return tuple(max(at, min(target, to)) for at, target in zip(reached, targets, strict=True))


async def ahead(items: AsyncGenerator[ItemT]) -> AsyncGenerator[ItemT]:
    """The same items; while one is worked on, the next is made."""
    async with aclosing(items):
        coming = asyncio.ensure_future(anext(items, None))
        try:
            while (item := await coming) is not None:
                coming = asyncio.ensure_future(anext(items, None))
                yield item
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)


def batches(log: EventLog, generation: Generation, targets: Sequence[int], max_events: int) -> AsyncGenerator[Batch]:
    """All that the generation lacks of `targets`, in order. At most three batches are in memory: one is written, one is
    ready, one is read. To be closed by whoever does not come to the end."""
    return ahead(_prepared(generation, targets, ahead(events_of(log, generation, targets, max_events))))


async def events_of(
    log: EventLog, generation: Generation, targets: Sequence[int], max_events: int
) -> AsyncGenerator[list[RecordedEvent]]:
    reached: Sequence[int] = generation.checkpoints
    while (span := left(reached, targets)) is not None:
        events = await log.read_collection(generation.collection_id, *span, max_events)
        yield events
        reached = moved(reached, targets, events)


async def _prepared(
    generation: Generation, targets: Sequence[int], read: AsyncGenerator[list[RecordedEvent]]
) -> AsyncGenerator[Batch]:
    async with aclosing(read):
        async for events in read:
            within = between(events, generation.checkpoints, targets)
            yield Batch(events, within, _load(generation, within))


def _load(generation: Generation, within: Sequence[RecordedEvent]) -> Load | None:
    try:
        return prepare(generation, folded(generation, within))
    except POISON:
        return None
