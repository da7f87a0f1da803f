"""Behind the pooler frozen holders of locks are ended; what needs a session is not done there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
import structlog.testing
from pydantic import SecretStr

from command_service.append_lock import APPEND_LOCK
from command_service.outcomes import VectorsOutcome
from events_schema.collections import IndexSpec
from shared.postgres import connect_uncached, is_pooled
from tests.command.test_event_store import create, make_collection, running_bus, write
from tests.pooler.leftovers import leftovers
from tests.pooler.pooling import UNCACHED, Pooled, uncached
from tests.projector.log_writer import LogWriter
from tests.projector.projecting import Projection, projector_settings, running_consumer, running_upkeep, until
from tests.servers import connected


@asynccontextmanager
async def frozen_holder(dsn: str, lock: str, table: str, how: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection that took the lock and then says nothing more, within a COPY or between two statements."""
    holder = await connect_uncached(dsn)
    await holder.execute(f"BEGIN; {lock}")
    stuck: asyncio.Task[Any] | None = None
    if how == "inside COPY":

        async def never() -> AsyncIterator[tuple[Any, ...]]:
            await asyncio.sleep(3600)
            yield ()

        stuck = asyncio.create_task(holder.copy_records_to_table(table, records=never()))
    try:
        yield holder
    finally:
        if stuck is not None:
            stuck.cancel()
            await asyncio.gather(stuck, return_exceptions=True)
        holder.terminate()


@pytest.mark.parametrize("how", ["idle", "inside COPY"])
async def test_a_frozen_holder_of_the_append_lock_is_ended(pooled: Pooled, how: str) -> None:
    async with (
        running_bus(pooled.through, **UNCACHED) as bus,
        frozen_holder(pooled.through.events_dsn, f"SELECT pg_advisory_xact_lock({APPEND_LOCK})", "events", how) as one,
        asyncio.timeout(20),
    ):
        collection = await make_collection(bus)
        assert isinstance(await bus.execute(write(collection, create())), VectorsOutcome)
        await until(one.is_closed, "the pooler did not pass on that the holder was ended")
    assert await leftovers(pooled.through.events_dsn) == []


@pytest.fixture
async def projection(pooled: Pooled) -> AsyncIterator[Projection]:
    """Its projectors go through the pooler, what the tests look at does not."""
    async with connected(pooled.direct.events_dsn) as log, connected(pooled.direct.read_dsn) as read:
        yield Projection(pooled.through, log, read)


@pytest.mark.parametrize("how", ["idle", "inside COPY"])
async def test_a_frozen_holder_of_the_checkpoint_is_ended(pooled: Pooled, projection: Projection, how: str) -> None:
    log = LogWriter(projection.log)
    await log.create_collection(how)
    await projection.catch_up(**UNCACHED)
    lock = "SELECT * FROM projection_checkpoints FOR UPDATE"
    async with frozen_holder(pooled.through.read_dsn, lock, "projection_checkpoints", how) as holder:
        await log.update_collection(await log.create_collection(f"{how} books"), "new")
        await projection.catch_up(**UNCACHED)
        await until(holder.is_closed, "the pooler did not pass on that the holder was ended")
    assert await projection.stored() == await projection.expected()


async def test_nothing_is_listened_to_through_a_pooler_and_the_log_is_polled(
    pooled: Pooled, projection: Projection
) -> None:
    async with running_consumer(projector_settings(pooled.through, **UNCACHED)) as consumer:
        await until(lambda: consumer.fault is None, "the projector did not start")
        await LogWriter(projection.log).create_collection("polled")
        await until(projection.caught_up, "the log is not polled")
        assert await leftovers(pooled.through.projector_events_dsn) == []


async def test_an_index_that_needs_a_session_is_made_on_the_database_itself_or_not_at_all(
    pooled: Pooled, projection: Projection
) -> None:
    log = LogWriter(projection.log)
    ivfflat = IndexSpec(kind="ivfflat", m=None, ef_construction=None, lists=None)
    collection = await log.create_collection("lists", index=ivfflat)
    await log.create_many(collection, (f"v{number}" for number in range(30)))
    await projection.catch_up(**UNCACHED)

    async def indexed() -> bool:
        return bool(
            await projection.read.fetchval(
                "SELECT indexed FROM generations WHERE collection_id = $1", collection.collection_id
            )
        )

    through = projector_settings(pooled.through, ivfflat_min_rows=30, **UNCACHED)
    with structlog.testing.capture_logs() as entries:
        async with running_upkeep(through):
            await until(lambda: any("AINDUSDB_READ_DIRECT_DSN" in str(entry) for entry in entries), "nothing is said")
    assert not await indexed()
    assert await leftovers(pooled.through.read_dsn) == []
    async with running_upkeep(through.model_copy(update={"read_direct_dsn": SecretStr(pooled.direct.read_dsn)})):
        await until(indexed, "the index was not made")


async def test_a_pooler_is_told_from_a_server(pooled: Pooled) -> None:
    for dsn, through_the_pooler in ((pooled.direct.events_dsn, False), (pooled.through.events_dsn, True)):
        async with uncached(dsn) as connection:
            assert await is_pooled(connection) is through_the_pooler
