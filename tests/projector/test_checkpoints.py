"""The checkpoint: made first, moved with the rows, and never used on another log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from projector.consumer import Consumer
from projector.emptying import empty_read_model
from shared.event_log import read_log_id
from tests.projector.log_writer import LogWriter
from tests.projector.projecting import Projection, projector_settings, running_consumer, until, watermark
from tests.projector.read_model import empty
from tests.servers import connected


@asynccontextmanager
async def _stopped_projector(projection: Projection, sentence: str) -> AsyncIterator[Consumer]:
    """A projector that refuses to apply and says why."""
    async with running_consumer(projector_settings(projection.databases)) as consumer:
        await until(lambda: sentence in (consumer.fault or ""), f"the projector did not say {sentence!r}")
        yield consumer


async def test_an_empty_log_gets_a_checkpoint_before_the_first_event(projection: Projection) -> None:
    async with running_consumer(projector_settings(projection.databases)) as consumer:
        await until(lambda: consumer.fault is None, "the projector did not start")
    row = await projection.read.fetchrow("SELECT * FROM projection_checkpoints")
    assert row is not None
    assert (row["position"], row["event_id"], row["partition"], row["partition_count"]) == (0, None, 0, 1)
    assert row["log_id"] == await projection.log.fetchval("SELECT log_id FROM log_identity")


async def test_a_log_of_another_identity_stops_it_until_the_right_one_is_back(
    projection: Projection, log: LogWriter
) -> None:
    articles = await log.create_collection()
    await projection.catch_up()
    async with connected(projection.databases.events_admin_dsn) as admin:
        log_id = await admin.fetchval("SELECT log_id FROM log_identity")
        await admin.execute("UPDATE log_identity SET log_id = gen_random_uuid()")
        async with _stopped_projector(projection, f"was built from event log {log_id}") as consumer:
            position = await log.create(articles, "a")
            assert await watermark(projection.read) == position - 1
            await admin.execute("UPDATE log_identity SET log_id = $1", log_id)
            await until(projection.caught_up, "the projector did not go on")
            assert consumer.fault is None
    await projection.assert_projected()


async def test_another_event_at_the_checkpoint_stops_it(projection: Projection, log: LogWriter) -> None:
    await log.create_collection()
    await projection.catch_up()
    await projection.read.execute("UPDATE projection_checkpoints SET event_id = gen_random_uuid()")
    async with _stopped_projector(projection, "the log was restored or rewritten"):
        pass


async def test_a_checkpoint_beyond_the_head_stops_it(projection: Projection, log: LogWriter) -> None:
    await log.create_collection()
    await projection.catch_up()
    await projection.read.execute("UPDATE projection_checkpoints SET position = 1000")
    async with _stopped_projector(projection, "the event log ends at 1"):
        pass


async def test_checkpoints_that_are_incomplete_stop_it(projection: Projection, log: LogWriter) -> None:
    await log.create_collection()
    await projection.catch_up()
    await projection.read.execute("UPDATE projection_checkpoints SET partition_count = 6")
    async with _stopped_projector(projection, "checkpoints of 1 partitions where 6 belong"):
        pass


async def test_a_read_model_that_was_emptied_half_way_stops_it_until_the_rest_is_done(
    projection: Projection, log: LogWriter
) -> None:
    await log.create(await log.create_collection(), "a")
    await projection.catch_up()
    await projection.read.execute("UPDATE projection_checkpoints SET position = 0, partition_count = 0")
    async with _stopped_projector(projection, "`aindusdb replay anew`"):
        assert await empty_read_model(projection.read, await read_log_id(projection.log)) == 2
        await until(projection.caught_up, "the projector did not build it anew")
    await projection.assert_projected()


async def test_a_read_database_without_a_schema_stops_it_until_it_has_one(
    projection: Projection, log: LogWriter
) -> None:
    await log.create_collection()
    await projection.read.execute("ALTER TABLE projection_checkpoints RENAME TO elsewhere")
    async with _stopped_projector(projection, "has no schema yet; run `aindusdb schema upgrade`") as consumer:
        await projection.read.execute("ALTER TABLE elsewhere RENAME TO projection_checkpoints")
        await until(projection.caught_up, "the projector did not begin")
        assert consumer.fault is None


@pytest.mark.parametrize("another_was_quicker", [False, True])
async def test_an_idle_projector_notices_that_the_read_model_was_emptied(
    projection: Projection, log: LogWriter, another_was_quicker: bool
) -> None:
    await log.create(await log.create_collection(), "a")
    async with running_consumer(projector_settings(projection.databases)) as consumer:
        await until(projection.caught_up, "the projector did not catch up")
        # Once it has looked at the read model while there was nothing to do.
        await until(lambda: consumer._seen == {0: 2}, "the projector is not idle")
        if another_was_quicker:
            async with projection.read.transaction():
                await projection.read.execute("CREATE TABLE before AS SELECT * FROM projection_checkpoints")
                await empty(projection.read)
                await projection.read.execute(
                    "UPDATE before SET position = 0, event_id = NULL;"
                    "INSERT INTO projection_checkpoints SELECT * FROM before; DROP TABLE before"
                )
        else:
            assert await empty_read_model(projection.read, await read_log_id(projection.log)) == 2
        await until(projection.caught_up, "the projector did not build it anew")
    assert await projection.stored() == await projection.expected()


async def test_a_gap_in_the_log_stops_it(projection: Projection, log: LogWriter) -> None:
    await log.create_collection()
    async with connected(projection.databases.events_admin_dsn) as admin:
        await admin.execute("ALTER TABLE events DISABLE TRIGGER ALL; UPDATE events SET position = 2")
    async with _stopped_projector(projection, "position 1 is missing"):
        assert await watermark(projection.read) == 0


async def test_an_idle_holder_of_the_checkpoint_is_ended(projection: Projection, log: LogWriter) -> None:
    await log.create_collection()
    await projection.catch_up()
    async with connected(projection.databases.read_dsn) as frozen:
        await frozen.execute("BEGIN; SELECT * FROM projection_checkpoints FOR UPDATE")
        await log.update_collection(await log.create_collection("books"), "new")
        await projection.catch_up()
        assert frozen.is_closed()
    await projection.assert_projected()


@pytest.mark.parametrize("database", ["events_admin_dsn", "read_admin_dsn"])
async def test_lost_connections_are_made_anew(projection: Projection, log: LogWriter, database: str) -> None:
    articles = await log.create_collection()
    async with (
        connected(getattr(projection.databases, database)) as admin,
        running_consumer(projector_settings(projection.databases)),
    ):
        for number in range(5):
            await log.create(articles, f"v{number}")
            await admin.fetch(
                """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE datname = current_database() AND application_name = 'aindusdb_core'"""
            )
            await until(projection.caught_up, "the projector did not go on")
    await projection.assert_projected()
    assert await projection.parked() == {}


async def test_an_append_wakes_it_long_before_its_next_poll(projection: Projection, log: LogWriter) -> None:
    articles = await log.create_collection()
    settings = projector_settings(projection.databases, poll_interval_seconds=60)
    async with running_consumer(settings) as consumer:
        await until(lambda: consumer.fault is None, "the projector did not start")
        await until(projection.caught_up, "the projector did not catch up")
        await log.create(articles, "a")

        async def woken() -> bool:
            await projection.log.execute("NOTIFY aindusdb_events")
            return await projection.caught_up()

        await until(woken, "the notification did not wake the projector")
