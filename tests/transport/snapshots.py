"""Looks at the read model while it is written.

Exactly once means that each of its snapshots is, partition by partition, the fold of the log up to that partition's
checkpoint. Honest tokens mean that the least checkpoint never goes back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from events_schema.base import RecordedEvent
from shared.kafka.partitions import partitions_of
from tests.projector.read_model import ReadModel, fold, read_log, stored
from tests.servers import connected
from tests.transport.transporting import Transport

_INTERVAL_SECONDS = 0.1
_CHECKPOINTS = "SELECT partition, position FROM projection_checkpoints ORDER BY partition"


@dataclass(frozen=True)
class Snapshot:
    positions: list[int]
    """By partition."""
    model: ReadModel


async def take(read: asyncpg.Connection) -> Snapshot:
    async with read.transaction(isolation="repeatable_read", readonly=True):
        rows = await read.fetch(_CHECKPOINTS)
        assert [row["partition"] for row in rows] == list(range(len(rows)))
        return Snapshot([row["position"] for row in rows], await stored(read))


def assert_exact(snapshot: Snapshot, log: list[RecordedEvent]) -> None:
    """Collections may be in the catalogue ahead of their turn; vectors never are."""
    if not snapshot.positions:
        assert not snapshot.model
        return
    partitions = partitions_of([event.aggregate_id for event in log], len(snapshot.positions))
    expected = fold(
        [
            event
            for event, partition in zip(log, partitions, strict=True)
            if event.aggregate_type == "collection" or event.position <= snapshot.positions[partition]
        ]
    )
    for collection_id, collection in expected.items():
        found = snapshot.model.get(collection_id)
        assert (found.vectors if found else {}) == collection.vectors, f"at {snapshot.positions}"


@asynccontextmanager
async def watched(way: Transport) -> AsyncIterator[list[Snapshot]]:
    """Takes snapshots meanwhile, and judges them at the end. No collection may be deleted meanwhile."""
    taken: list[Snapshot] = []

    async def watch() -> None:
        async with connected(way.databases.read_dsn) as read:
            while True:
                taken.append(await take(read))
                await asyncio.sleep(_INTERVAL_SECONDS)

    watching = asyncio.create_task(watch())
    try:
        yield taken
    finally:
        watching.cancel()
        await asyncio.wait({watching})
    assert watching.cancelled(), watching.exception()
    log = await read_log(way.projection.log)
    for snapshot in taken:
        assert_exact(snapshot, log)
    watermarks = [min(snapshot.positions, default=0) for snapshot in taken]
    assert watermarks == sorted(watermarks)
