"""Rebuilds inside the test, over connections that may die, and projections whose partitions are apart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from events_schema.collections import IndexSpec
from projector import rebuild
from projector.event_log import EventLog, opened_event_log
from projector.generations import Generation, Shape, read_generations
from projector.rebuild import Replay
from projector.runs import Layout, Run, runs_of_log
from projector.settings import ProjectorSettings
from shared.postgres import Connection
from tests.projector.log_writer import NewCollection
from tests.projector.mortal import Mortality
from tests.projector.projecting import Projection, projector_settings


def shape_of(collection: NewCollection, **changed: Any) -> Shape:
    given: dict[str, Any] = {
        "spec": collection.spec,
        "metric": "cosine",
        "type": "vector",
        "index": IndexSpec(kind="hnsw", m=None, ef_construction=None, lists=None),
    }
    return Shape(**(given | changed))


@asynccontextmanager
async def replaying(
    projection: Projection, mortality: Mortality | None = None, *, report: Any = None, pace: float | None = None,
    **settings: Any,
) -> AsyncIterator[Replay]:  # fmt: skip
    chosen = projector_settings(projection.databases, **settings)
    connection = await (mortality or Mortality([])).connect(projection.databases.read_dsn, chosen, vectors=True)
    try:
        async with opened_event_log(chosen) as log:
            yield Replay(connection, log, chosen, report or (lambda _progress: None), pace)
    finally:
        connection.terminate()


async def rebuilt(replay: Replay, collection_id: UUID, shape: Shape, *, keep_old: bool) -> Generation:
    """All steps."""
    generation = await rebuild.begin(replay, collection_id, shape, automatic=False)
    generation = await rebuild.build(replay, generation)
    generation = await rebuild.index(replay, generation)
    await rebuild.promote(replay, generation, keep_old=keep_old)
    return generation


async def states(projection: Projection, collection: NewCollection) -> dict[int, str]:
    """Of the collection's generations, by number."""
    found = await read_generations(projection.read, collection.collection_id)
    return {generation.number: generation.state for generation in found}


async def generation(projection: Projection, collection: NewCollection, number: int) -> Generation:
    found = await read_generations(projection.read, collection.collection_id)
    return next(one for one in found if one.number == number)


class PartitionedSource:
    """The log as several partitions, each handed out only up to its ceiling."""

    def __init__(self, log: EventLog, layout: Layout, ceilings: dict[int, int]) -> None:
        self.log = log
        self.layout = layout
        self.ceilings = ceilings
        self._positions = dict.fromkeys(range(layout.partition_count), 0)

    async def read(self, connection: Connection, limit: int) -> Sequence[Run]:
        del connection
        holes = {
            partition: (position, self.ceilings[partition])
            for partition, position in self._positions.items()
            if position < self.ceilings[partition]
        }
        if not holes:
            await asyncio.sleep(0.01)
            return []
        events = await self.log.read(min(after for after, _ in holes.values()), limit)
        return runs_of_log(events, holes, self.layout.partition_count)

    def moved(self, positions: Mapping[int, int]) -> None:
        self._positions |= positions

    def hold(self, partitions: Collection[int], seconds: float) -> None:
        pass

    def wake(self) -> None:
        pass


@asynccontextmanager
async def open_partitioned(
    settings: ProjectorSettings, partitions: int, ceilings: dict[int, int]
) -> AsyncIterator[PartitionedSource]:
    async with opened_event_log(settings) as log:
        yield PartitionedSource(log, Layout(await log.log_id(), 1, partitions), ceilings)
