"""Another server behind the pooler, whose clients stay connected."""

from __future__ import annotations

from uuid import uuid4

from query_service.polls import take_poll
from shared.postgres import read_server_started
from tests.pooler.pooling import UNCACHED, Pooled, pooled_way, uncached
from tests.projector.log_writer import LogWriter
from tests.projector.projecting import Projection, projector_settings, running_consumer, until
from tests.query.conftest import running_service
from tests.query.read_model import TENANT, ReadModel, Row
from tests.servers import Databases, connected
from tests.transport.transporting import Load


async def same_server(*dsns: str) -> bool:
    started = set()
    for dsn in dsns:
        async with uncached(dsn) as connection:
            started.add(await read_server_started(connection))
    return len(started) == 1


async def test_the_query_service_notices_another_server(switched: Pooled, successor: Databases) -> None:
    async with (
        connected(switched.direct.read_dsn) as before,
        connected(successor.read_dsn) as after,
        running_service(switched.through.read_reader_dsn, **UNCACHED) as client,
        uncached(switched.through.read_reader_dsn) as polled,
    ):
        old, new = ReadModel(before), ReadModel(after)
        new.log_id = old.log_id
        for model, name in ((old, "old"), (new, "new")):
            await model.start()
            await model.put(await model.create(name, 2), [Row("a", [1.0, 0.0])])
        await new.advance(10)

        async def found(name: str) -> bool:
            query = {"embedding": [1, 0], "include": ["embedding"]}
            answer = await client.post(f"/api/v1/collections/{name}/vectors/search", json=query)
            return [hit["embedding"] for hit in answer.json().get("hits", [])] == [[1, 0]]

        assert await found("old")
        poll = await take_poll(polled, None, 5)
        switched.switch(switched.direct.read_dsn, successor.read_dsn)
        await until(lambda: found("new"), "what was known of the old server is taken for the new one's")
        assert [one.name for one in (await take_poll(polled, poll, 5)).catalogue.of_tenant(TENANT)] == ["new"]


async def test_the_projector_looks_anew_at_another_read_database(switched: Pooled, successor: Databases) -> None:
    direct = switched.direct
    async with (
        connected(direct.events_dsn) as log,
        connected(direct.read_dsn) as old,
        connected(successor.read_dsn) as new,
    ):
        before, after = Projection(direct, log, old), Projection(direct, log, new)
        writer = LogWriter(log)
        articles = await writer.create_collection()
        await writer.create(articles, "a")
        async with running_consumer(projector_settings(direct, read_dsn=successor.read_dsn)):
            await until(after.caught_up, "the successor was not built")
        async with running_consumer(projector_settings(switched.through, parking_attempts=1, **UNCACHED)):
            await until(before.caught_up, "the projector did not catch up")
            switched.switch(direct.read_dsn, successor.read_dsn)
            await until(lambda: same_server(switched.through.read_dsn, successor.read_dsn), "it was not switched")
            await writer.create(articles, "b")
            await until(after.caught_up, "the projector did not go on")
        assert await after.parked() == {}
        assert await after.stored() == await after.expected()


async def test_the_projector_applies_nothing_of_another_log(switched: Pooled, successor: Databases) -> None:
    async with (
        connected(switched.direct.events_dsn) as log,
        connected(successor.events_dsn) as other_log,
        connected(switched.direct.read_dsn) as read,
    ):
        projection = Projection(switched.through, log, read)
        await LogWriter(log).create_collection("known")
        for name in ("unknown", "foreign", "strange"):
            await LogWriter(other_log).create_collection(name)
        async with running_consumer(projector_settings(switched.through, **UNCACHED)) as consumer:
            await until(projection.caught_up, "the projector did not catch up")
            switched.switch(switched.direct.projector_events_dsn, successor.projector_events_dsn)
            await until(lambda: "was built from event log" in (consumer.fault or ""), "it does not notice")
        assert await projection.stored() == await projection.expected()


async def test_the_relay_publishes_nothing_of_another_log(
    switched: Pooled, successor: Databases, kafka_bootstrap: str
) -> None:
    async with (
        pooled_way(switched, kafka_bootstrap) as way,
        connected(successor.events_owner_dsn) as other_log,
        way.relay(statement_cache_size=0) as relay,
    ):
        await Load(way.log).some(5)
        await until(way.published, "nothing was published")
        status = await way.relay_status()
        await Load(LogWriter(other_log), 8).some(20)
        await other_log.execute(
            "INSERT INTO relay_leases (feed, epoch, position, event_id, partition_positions)"
            " VALUES ($1, $2, $3, $4, $5)",
            status.feed, status.epoch, status.position, uuid4(), status.partition_positions,
        )  # fmt: skip
        switched.switch(switched.direct.events_dsn, successor.events_dsn)
        await until(lambda: "it was restored or rewritten" in (relay.fault or ""), "it does not notice")
