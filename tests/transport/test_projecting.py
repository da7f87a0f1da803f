"""Through Kafka each event takes effect once, whatever Kafka, projectors and relays go through."""

from __future__ import annotations

import asyncio
import signal
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import RecordsToDelete

from command_service import publisher
from command_service.relay_lease import open_next_feed
from events_schema.streams import vector_stream
from projector import kafka_source
from shared.kafka.clients import opened_admin
from shared.kafka.records import feed_headers, watermark_headers
from shared.kafka.topic import delete_topic
from shared.status import read_status
from tests.projector.histories import History, long_history
from tests.projector.moving import THERE_AND_BACK, MovingHistory, is_settled
from tests.projector.projecting import projector_settings, running_consumer, running_upkeep, until, watermark
from tests.projector.read_model import empty
from tests.replay.commanding import answer, pass_over
from tests.servers import DatabaseFactory, connected, own_kafka
from tests.transport.snapshots import watched
from tests.transport.transporting import Load, Transport, metric, transport


async def send(way: Transport, partition: int, headers: list[tuple[str, bytes]], value: bytes = b"null") -> None:
    producer = AIOKafkaProducer(bootstrap_servers=way.bootstrap)
    await producer.start()
    await producer.send_and_wait(way.topic, value=value, key=None, partition=partition, headers=headers)
    await producer.stop()


@pytest.mark.parametrize("batch", [3, 1000])
async def test_the_read_model_is_the_fold_of_the_log(way: Transport, batch: int) -> None:
    async with way.relay(), way.projector(batch_max_events=batch) as projector:
        await History(way.log, "").play(long_history(250))
        await way.settle()
        assert projector.fault is None
    await empty(way.projection.read)
    async with way.relay(), way.projector(batch_max_events=batch):
        await way.settle()


async def test_a_collection_that_moved_there_and_back_comes_back_from_nothing(way: Transport) -> None:
    articles = await way.log.create_collection()
    await MovingHistory(way.log, articles).play(THERE_AND_BACK)
    chosen = way.projector_settings(batch_max_events=5)
    async with way.relay(), way.projector(batch_max_events=5), running_upkeep(chosen):
        await until(is_settled(way.projection, articles), "searches do not read the spec that is complete")
    await way.settle()


async def test_poison_is_parked_in_its_partition_with_its_followers(way: Transport) -> None:
    async with way.relay(), way.projector(parking_window_seconds=0.5):
        articles = await way.log.create_collection()
        await way.log.create_many(articles, (f"v{number}" for number in range(20)))
        poison = await way.log.update(articles, "never created", content="x")
        follower = await way.log.update(articles, "never created", content="y")
        await way.log.create_many(articles, (f"w{number}" for number in range(20)))
        await until(way.projection.caught_up, "the projector did not catch up")
        assert await way.projection.stored() == await way.projection.expected(without={poison, follower})
        assert set(await way.projection.parked()) == {poison, follower}


async def test_what_the_projector_does_not_know_stops_its_aggregate_and_shows_until_it_is_passed_over(
    way: Transport,
) -> None:
    log, projection = way.log, way.projection
    fast = {"AINDUSDB_PARKING_ATTEMPTS": "2", "AINDUSDB_PARKING_WINDOW_SECONDS": "0.2"}
    async with way.relay(), way.served("projector", **fast) as projector:
        articles = await log.create_collection()
        await log.create_many(articles, (f"v{number}" for number in range(12)))
        faults, followers = set(), set()
        for number, (event_type, version) in enumerate([("VectorPraised", 1), ("VectorUpdated", 7)]):
            stream = vector_stream(articles.collection_id, f"v{number}")
            faults.add(
                await log.append(
                    articles.collection_id, stream, "vector", event_type, {"id": f"v{number}"}, schema_version=version
                )
            )
            followers.add(await log.update(articles, f"v{number}", content="waits"))
        faults.add(await log.append(articles.collection_id, uuid4(), "ship", "ShipLaunched", {}))
        await log.create_many(articles, (f"w{number}" for number in range(12)))
        await until(projection.caught_up, "the projector did not catch up")
        assert set(await projection.parked()) == faults | followers
        assert await projection.stored() == await projection.expected(without=faults | followers)
        reasons = [one["reason"] for one in (await answer(way.databases, "events", "parked", "list"))["parked"]]
        for said in ("'VectorPraised' is unknown", "VectorUpdated has schema version 7", "'ship' is unknown"):
            assert sum(said in reason for reason in reasons) == 1, reasons

        async def shown() -> bool:
            return await metric(projector, "aindusdb_projector_parked_events") == len(faults | followers)

        await until(shown, "the metric does not show them")
        assert (await read_status(way.databases.events_dsn, way.databases.read_dsn)).parked_events == 5
        assert (await projector.get("/ready")).status_code == 200
        for fault in sorted(faults):
            await pass_over(way.databases, fault)
        await until(projection.caught_up, "the projector did not catch up")
        assert await projection.stored() == await projection.expected(without=faults)
        assert await projection.parked() == {}
    await empty(projection.read)
    async with way.relay(), way.projector():
        await until(projection.caught_up, "the projector did not catch up")
        assert await projection.stored() == await projection.expected(without=faults)
        assert await projection.parked() == {}


async def test_a_record_lost_in_the_middle_is_filled_from_the_log(
    way: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = publisher._Batches.append
    records = 0

    def losing(batches: publisher._Batches, *record: object) -> None:
        nonlocal records
        is_event = record[2] is not None
        records += is_event
        if not is_event or records % 4:
            append(batches, *record)  # type: ignore[arg-type]

    monkeypatch.setattr(publisher._Batches, "append", losing)
    async with watched(way), way.relay(), way.projector():
        await Load(way.log).some(200)
        await way.settle()
    assert records > 40


async def test_a_deleted_topic_is_made_anew_and_filled_under_load(way: Transport) -> None:
    load = Load(way.log)
    async with watched(way), opened_admin(way.relay_settings()) as admin, way.relay(), way.projector():
        async with load.running():
            for _ in range(2):
                await asyncio.sleep(3)
                assert await delete_topic(admin, way.topic)
        await way.settle()
    assert load.written > 50


async def test_expired_records_are_read_from_the_log(way: Transport) -> None:
    load = Load(way.log)
    async with way.relay():
        await load.some(60)
        await until(way.published, "nothing was published")
        async with opened_admin(way.relay_settings()) as admin:
            everything = {TopicPartition(way.topic, n): RecordsToDelete(-1) for n in range(6)}
            await admin.delete_records(everything)
    async with way.projector():  # no relay runs, and no record comes
        await way.settle()


@pytest.mark.usefixtures("kafka_installed")
async def test_a_broker_that_is_killed_comes_back_to_everything(database_factory: DatabaseFactory) -> None:
    async with own_kafka() as (server, process), transport(database_factory, server.bootstrap) as way:
        load = Load(way.log)
        async with way.relay(), way.projector():
            await load.some(20)
            await way.settle()
            async with watched(way), load.running():
                await asyncio.sleep(0.5)
                process.kill()
                await asyncio.sleep(5)
            await until(way.published, "the relay does not go on")
            await way.settle()


@pytest.mark.timeout(300)
async def test_three_projectors_share_the_partitions_whatever_happens_to_them(way: Transport) -> None:
    load = Load(way.log)
    async with (
        way.relay(),
        way.process("projector") as killed,
        way.process("projector") as frozen,
        way.process("projector") as sound,
    ):
        await load.some(10)
        await until(way.projection.caught_up, "nobody projects")
        async with watched(way), load.running():
            await asyncio.sleep(3)
            killed.kill()
            frozen.send_signal(signal.SIGSTOP)
            await asyncio.sleep(kafka_source.SESSION_TIMEOUT_SECONDS + 2)
            await until(way.caught_up_with(await way.projection.head()), "the third one does not take over")
            frozen.send_signal(signal.SIGCONT)
            await asyncio.sleep(2)
        await way.settle()
        assert sound.returncode is None
        assert frozen.returncode is None


async def test_switching_between_log_and_kafka_and_numbers_of_partitions_loses_nothing(way: Transport) -> None:
    load = Load(way.log)

    async def progress() -> None:
        await until(way.caught_up_with(await way.projection.head() + 1), "the projector did not go on")

    from_log = projector_settings(way.databases)
    async with watched(way), way.relay(), load.running():
        for partitions in (2, 7):
            async with running_consumer(from_log):
                await progress()
            async with way.projector():
                await progress()
            async with opened_admin(way.relay_settings()) as admin, connected(way.databases.events_dsn) as connection:
                await open_next_feed(connection, partitions, (await way.relay_status()).position)
                await delete_topic(admin, way.topic)
            async with way.projector():
                await progress()
                layout = await way.projection.read.fetchrow(
                    "SELECT DISTINCT feed, partition_count FROM projection_checkpoints"
                )
                assert layout is not None
                assert layout["partition_count"] == partitions
    async with running_consumer(from_log):
        await way.settle()


async def test_projectors_that_disagree_about_the_source_do_no_harm(way: Transport) -> None:
    """As while they are restarted one by one, each with its own idea of where events come from."""
    load = Load(way.log)
    async with watched(way), way.relay(), way.projector():
        async with running_consumer(projector_settings(way.databases)), load.running():
            await asyncio.sleep(5)
            assert await watermark(way.projection.read) > 20
        await way.settle()


async def test_a_new_feed_under_a_running_projector_is_followed(way: Transport) -> None:
    load = Load(way.log)
    async with way.relay(), way.projector(), opened_admin(way.relay_settings()) as admin:
        await load.some(30)
        await way.settle()
        async with watched(way), load.running(), connected(way.databases.events_dsn) as connection:
            await open_next_feed(connection, 4, 0)
            await delete_topic(admin, way.topic)
            await asyncio.sleep(1)
        await way.settle()
        await until(way.published, "the new feed is not filled")


async def test_records_that_are_no_events_of_ours_are_refused_and_nothing_is_applied(way: Transport) -> None:
    load = Load(way.log)
    async with way.relay(), way.projector() as projector, opened_admin(way.relay_settings()) as admin:
        await load.some(10)
        await way.settle()
        for partition in range(6):
            await send(way, partition, [("who", b"somebody else")], b"hello")
        await until(lambda: "a record that is no event of ours" in (projector.fault or ""), "it is not refused")
        before = await watermark(way.projection.read)
        await load.some(10)
        await asyncio.sleep(1)
        assert await watermark(way.projection.read) == before
        await delete_topic(admin, way.topic)  # without the command
        await way.settle()


async def test_records_of_a_foreign_log_are_refused(way: Transport) -> None:
    load = Load(way.log)
    async with way.relay(), way.projector() as projector:
        await load.some(10)
        await way.settle()
        foreign = uuid4()
        headers = watermark_headers(feed_headers(foreign, 1), 0, 1000, uuid4())
        await send(way, 3, headers)
        await until(lambda: f"it is of event log {foreign}" in (projector.fault or ""), "it is not refused")


async def test_records_of_a_feed_that_was_never_opened_are_refused(way: Transport) -> None:
    """As after a restore of the event database: the topic is ahead of it."""
    load = Load(way.log)
    async with way.relay(), way.projector() as projector:
        await load.some(10)
        await way.settle()
        log_id = await way.projection.log.fetchval("SELECT log_id FROM log_identity")
        await send(way, 3, watermark_headers(feed_headers(log_id, 9), 0, 1000, uuid4()))
        await until(lambda: "it is of feed 9" in (projector.fault or ""), "it is not refused")


async def test_a_topic_that_knows_more_than_the_log_is_refused(way: Transport) -> None:
    load = Load(way.log)
    async with way.relay(), way.projector() as projector:
        await load.some(10)
        await way.settle()
        log_id = await way.projection.log.fetchval("SELECT log_id FROM log_identity")
        for after in (1000, 1001):
            await send(way, 3, watermark_headers(feed_headers(log_id, 1), after, after + 1, uuid4()))
        await until(lambda: "speaks of position 1000" in (projector.fault or ""), "it is not refused")


async def test_without_a_feed_it_says_what_to_start(way: Transport) -> None:
    async with way.projector() as projector:
        await until(lambda: "python -m command_service.relay" in (projector.fault or ""), "it does not say")
        async with way.relay():
            await Load(way.log).some(3)
            await way.settle()
