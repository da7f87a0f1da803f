"""One relay publishes at a time, whatever happens to it, and nothing is missing from the topic."""

from __future__ import annotations

import asyncio
import signal
import time
from uuid import UUID

import pytest
from aiokafka.admin import NewTopic

from command_service import relaying
from command_service.publisher import Publisher, create_publishing_producer
from command_service.relay_lease import LeadershipLostError, Lease, keep, open_next_feed, read_relay_status, take
from shared.event_log import read_event_rows, read_log_id
from shared.kafka.clients import opened_admin
from shared.kafka.partitions import partitions_of
from shared.kafka.topic import delete_topic, partition_count
from shared.postgres import read_server_started
from tests.projector.projecting import until
from tests.projector.read_model import read_log
from tests.servers import DatabaseFactory, connected, own_kafka
from tests.transport.topic import pieces
from tests.transport.transporting import Load, Transport, transport


async def assert_complete(way: Transport, first: int) -> None:
    """The records of each partition are a chain without a hole, from `first` to the head, and have every event."""
    events = await read_log(way.projection.log)
    of_partition: dict[int, set[UUID]] = {}
    partitions = partitions_of([event.aggregate_id for event in events], 6)
    for event, partition in zip(events, partitions, strict=True):
        if event.position > first:
            of_partition.setdefault(partition, set()).add(event.event_id)
    for partition, chain in (await pieces(way)).items():
        at = first
        for piece in chain:
            assert piece.after <= at
            at = max(at, piece.to)
        assert at == events[-1].position
        published = {piece.event_id for piece in chain if piece.event is not None}
        assert published == of_partition.get(partition, set())


async def test_the_topic_holds_every_event_and_says_so_in_every_partition(way: Transport) -> None:
    load = Load(way.log)
    await load.some(20)
    first = await way.projection.head()
    async with way.relay() as relay:
        await until(way.published, "nothing was published")
        await load.some(150)
        await until(way.published, "not everything was published")

        async def told() -> bool:
            return min((await way.relay_status()).partition_positions) == await way.projection.head()

        await until(told, "idle partitions were not told")
        assert relay.fault is None
    await assert_complete(way, first)


async def test_a_topic_made_anew_says_in_every_partition_what_it_does_not_hold(way: Transport) -> None:
    await Load(way.log).some(50)
    async with opened_admin(way.relay_settings()) as admin, way.relay():
        await Load(way.log, 8).some(5)
        await until(way.published, "nothing was published")
        await delete_topic(admin, way.topic)

        async def made_anew() -> bool:
            return await partition_count(admin, way.topic) == 6 and all((await pieces(way)).values())

        await until(made_anew, "the topic is not made anew")
        head = await way.projection.head()
        assert {piece.after for chain in (await pieces(way)).values() for piece in chain[:1]} == {head}


async def test_an_orderly_end_hands_over_at_once(way: Transport) -> None:
    load = Load(way.log)
    await load.some(10)
    async with way.relay("first"):
        await until(way.published, "nothing was published")
    started = time.monotonic()
    await load.some(10)
    async with way.relay("second"):
        await until(way.published, "the second relay does not publish")
    assert time.monotonic() - started < relaying.LEASE_SECONDS
    status = await way.relay_status()
    assert (status.epoch, status.holder) == (2, None)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_leader_that_is_killed_or_frozen_is_succeeded_within_five_seconds(
    way: Transport, how: signal.Signals
) -> None:
    load = Load(way.log)
    async with way.process("command_service.relay") as first, way.process("command_service.relay") as second:
        await load.some(5)
        leader, epoch = await leader_of(way, [first, second])
        head = await way.projection.head()
        async with load.running():
            leader.send_signal(how)
            lost_at = time.monotonic()

            async def succeeded() -> bool:
                status = await way.relay_status()
                return status.epoch > epoch and status.position > head

            await until(succeeded, "nobody took over")
            assert time.monotonic() - lost_at < 5
            if how is signal.SIGSTOP:
                leader.send_signal(signal.SIGCONT)
                await asyncio.sleep(1)
        await until(way.published, "the successor does not publish")
        status = await way.relay_status()
        assert status.epoch > epoch
        assert not (status.holder or "").endswith(f":{leader.pid}")
    await assert_complete(way, 0 if head == 0 else await first_position(way))


async def leader_of(way: Transport, relays: list[asyncio.subprocess.Process]) -> tuple[asyncio.subprocess.Process, int]:
    """Who has published everything and still leads, and its epoch."""
    found: list[tuple[asyncio.subprocess.Process, int]] = []

    async def led() -> bool:
        status = await read_relay_status(way.projection.log)
        if status is not None and status.backlog == 0 and status.holder is not None:
            found.extend((relay, status.epoch) for relay in relays if status.holder.endswith(f":{relay.pid}"))
        return bool(found)

    await until(led, "nobody leads")
    return found[0]


async def first_position(way: Transport) -> int:
    """Where the feed began."""
    return min(piece.after for chain in (await pieces(way)).values() for piece in chain)


async def test_what_a_former_leader_still_sends_does_no_harm(way: Transport) -> None:
    """The zombie sends everything once more, beside its successor, with the watermarks that it believes in."""
    load = Load(way.log)
    await load.some(5)
    begin = await way.projection.head()
    async with connected(way.databases.events_dsn) as connection, way.relay("new") as relay, way.projector():
        await until(way.published, "nothing was published")
        old = Lease(1, 0, begin, None, [begin] * 6, await read_server_started(connection))
        log_id = await read_log_id(connection)
        producer = create_publishing_producer(way.relay_settings())
        await producer.start()
        zombie = Publisher(producer, way.topic, log_id, old)
        for _ in range(30):
            await load.some(5)
            rows = await read_event_rows(connection, zombie.position, limit=4)
            await zombie.publish(rows)
        await producer.stop()
        with pytest.raises(LeadershipLostError):
            await keep(connection, old, zombie.position, zombie.event_id, zombie.partition_positions, 1)
        await way.settle()
        assert relay.fault is None


async def test_an_unreachable_broker_is_named_and_the_backlog_shows(way: Transport) -> None:
    load = Load(way.log)
    async with way.relay(kafka_bootstrap="127.0.0.1:9") as relay:
        await until(lambda: "Kafka at 127.0.0.1:9" in (relay.fault or ""), "it does not say that Kafka is away")
        await load.some(5)
        assert (await way.relay_status()).backlog == await way.projection.head() >= 5
    async with way.relay():
        await until(way.published, "it does not catch up")


async def test_a_topic_with_another_number_of_partitions_is_refused(way: Transport) -> None:
    async with opened_admin(way.relay_settings()) as admin:
        await admin.create_topics([NewTopic(way.topic, 3, 1)])
        await Load(way.log).some(3)
        async with way.relay() as relay, way.projector() as projector:
            await until(lambda: "has 3 partitions, but its feed has 6" in (relay.fault or ""), "it is not refused")
            await until(lambda: "has 3 partitions, but its feed has 6" in (projector.fault or ""), "nor here")
            await Load(way.log, 8).some(3)
            assert not any((await pieces(way)).values())
            async with connected(way.databases.events_dsn) as connection:
                position = (await way.relay_status()).position
                assert await open_next_feed(connection, 3, position) == 2
            await way.settle()
            assert (await way.relay_status()).feed == 2


@pytest.mark.usefixtures("kafka_installed")
async def test_a_broker_that_makes_topics_by_itself_gets_no_occasion_to(database_factory: DatabaseFactory) -> None:
    """As Kafka is delivered: a topic that anybody asks about comes into being, with one partition."""
    async with (
        own_kafka({"auto.create.topics.enable": "true"}) as (server, _process),
        transport(database_factory, server.bootstrap) as way,
        way.projector(),
        way.relay() as relay,
    ):
        load = Load(way.log)
        await load.some(5)
        await way.settle()
        async with opened_admin(way.relay_settings()) as admin:
            assert await partition_count(admin, way.topic) == 6
            async with load.running():
                for _ in range(3):
                    await delete_topic(admin, way.topic)
                    await asyncio.sleep(2.5)
        await way.settle()
        await until(way.published, "the topic is not filled anew")
        assert relay.fault is None


async def test_a_log_that_is_not_the_published_one_is_refused(way: Transport) -> None:
    load = Load(way.log)
    await load.some(3)
    async with way.relay():
        await load.some(3)
        await until(way.published, "nothing was published")
    await way.projection.log.execute("UPDATE relay_leases SET event_id = gen_random_uuid()")
    async with way.relay() as relay:
        await until(lambda: "it was restored or rewritten" in (relay.fault or ""), "it is not refused")


async def test_only_the_holder_of_the_current_feed_moves_its_checkpoint(way: Transport) -> None:
    async with connected(way.databases.events_dsn) as connection:
        async with way.relay():
            await until(way.published, "nothing was published")
        lease = await take(connection, "test", 60)
        assert lease is not None
        assert await take(connection, "other", 60) is None
        await keep(connection, lease, lease.position, lease.event_id, lease.partition_positions, 60)
        await open_next_feed(connection, 2, 0)
        with pytest.raises(LeadershipLostError):
            await keep(connection, lease, lease.position, lease.event_id, lease.partition_positions, 60)
        with pytest.raises(LookupError):
            await open_next_feed(connection, 2, 10**9)
