"""What an operator does about the topic, with the command line, under load."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewPartitions

from shared.kafka.clients import opened_admin
from shared.kafka.topic import partition_count
from tests.projector.projecting import until, watermark
from tests.transport.snapshots import watched
from tests.transport.topic import pieces
from tests.transport.transporting import Load, Transport, says

_LAYOUT = "SELECT DISTINCT feed, partition_count FROM projection_checkpoints"


async def aindusdb(way: Transport, *arguments: str, exit_code: int = 0, **environment: str) -> str:
    """What the command says, or complains of."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "aindusdb", *arguments,
        env={
            **os.environ,
            "AINDUSDB_EVENTS_DSN": way.databases.events_dsn,
            "AINDUSDB_KAFKA_BOOTSTRAP": way.bootstrap,
            "AINDUSDB_KAFKA_TOPIC": way.topic,
            **environment,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, complained = await process.communicate()
    assert process.returncode == exit_code, complained.decode()
    return (complained if exit_code else said).decode()


async def status(way: Transport) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(await aindusdb(way, "relay", "status", "--json"))
    return found


def projected_by(way: Transport, feed: int, partitions: int) -> Callable[[], Awaitable[bool]]:
    async def projected() -> bool:
        rows = await way.projection.read.fetch(_LAYOUT)
        return [tuple(row) for row in rows] == [(feed, partitions)]

    return projected


async def test_the_number_of_partitions_is_changed_under_load(way: Transport) -> None:
    load = Load(way.log)
    async with (
        way.process("command_service.relay"),
        way.process("projector"),
        way.process("projector"),
        opened_admin(way.relay_settings()) as admin,
        watched(way),
        load.running(),
    ):
        await until(way.caught_up_with(20), "nothing is projected")
        for feed, partitions in ((2, 9), (3, 2)):
            assert f"Feed {feed} begins" in await aindusdb(way, "relay", "reset", "--partitions", str(partitions))
            head = await way.projection.head()
            await until(projected_by(way, feed, partitions), "the projectors do not go over to it")
            await until(way.caught_up_with(head + 1), "nothing is projected any more")
            assert await partition_count(admin, way.topic) == partitions
            found = await status(way)
            assert (found["feed"], len(found["partition_positions"])) == (feed, partitions)
    async with way.relay(), way.projector():
        await way.settle()


async def test_the_log_is_published_again_under_load(way: Transport) -> None:
    load = Load(way.log)
    await load.some(10)
    async with way.relay(), way.projector(), watched(way):
        async with load.running():
            await until(way.caught_up_with(20), "nothing is projected")
            planned = json.loads(await aindusdb(way, "relay", "republish", "--from", "4", "--dry-run", "--json"))
            assert (planned["feed"], planned["from_position"], planned["new_topic"]) == (2, 4, False)
            assert (await way.relay_status()).feed == 1
            assert "Feed 2 begins" in await aindusdb(way, "relay", "republish", "--from", "4")
            await until(projected_by(way, 2, 6), "the projector does not go over to it")
        await way.settle()
        await until(way.published, "not everything is published")
    again = {piece.to for chain in (await pieces(way)).values() for piece in chain if piece.event and piece.feed == 2}
    assert again == set(range(4, await way.projection.head() + 1))
    said = await aindusdb(way, "relay", "republish", "--from", "1000000", exit_code=1)
    assert "there is nothing from 1,000,000 on" in said
    assert (await way.relay_status()).feed == 2


async def test_a_new_topic_is_filled_also_where_the_log_ends_before_what_was_published(way: Transport) -> None:
    load = Load(way.log)
    async with way.relay():
        await load.some(5)
        await until(way.published, "nothing was published")
    # As after the restore of a backup.
    await way.projection.log.execute("UPDATE relay_leases SET position = position + 1000, event_id = gen_random_uuid()")
    async with way.relay() as relay, way.projector():
        await until(lambda: "`aindusdb relay reset --new-topic`" in (relay.fault or ""), "it does not say what to do")
        await aindusdb(way, "relay", "reset", "--new-topic")
        await load.some(5)
        await way.settle()


async def test_a_topic_that_somebody_else_wrote_to_is_made_anew(way: Transport) -> None:
    load = Load(way.log)
    async with way.relay(), way.projector() as projector, opened_admin(way.relay_settings()) as admin:
        await load.some(20)
        await way.settle()
        producer = AIOKafkaProducer(bootstrap_servers=way.bootstrap)
        await producer.start()
        await producer.send_and_wait(way.topic, b"hello", partition=0)
        await producer.stop()
        await until(
            lambda: "`aindusdb relay reset --new-topic`" in (projector.fault or ""), "it does not say what to do"
        )
        await aindusdb(way, "relay", "reset", "--new-topic")
        await load.some(20)
        await way.settle()
        assert await partition_count(admin, way.topic) == 6


async def test_a_broker_that_is_away_is_named_in_one_sentence(way: Transport) -> None:
    async with way.relay():
        await until(way.published, "nothing was published")
    said = await aindusdb(way, "relay", "reset", exit_code=1, AINDUSDB_KAFKA_BOOTSTRAP="127.0.0.1:9")
    assert said.startswith("Kafka cannot be reached")
    assert len(said.splitlines()) == 1
    assert (await way.relay_status()).feed == 1


@pytest.mark.long
async def test_partitions_that_somebody_else_added_are_refused_until_the_operator_decides(way: Transport) -> None:
    load = Load(way.log)
    async with (
        way.served("command_service.relay") as relay,
        way.served("projector") as projector,
        opened_admin(way.relay_settings()) as admin,
        watched(way),
    ):
        for feed, (added, decided) in enumerate([(8, 8), (9, 6)], start=1):
            await load.some(20)
            await until(way.caught_up_with(await way.projection.head()), "nothing is projected")
            await admin.create_partitions({way.topic: NewPartitions(added)})
            why = f"has {added} partitions, but its feed has {[6, 8][feed - 1]}"
            await until(says(relay, 503, why), "the relay does not refuse them")
            await load.some(20)
            await until(says(projector, 503, why), "the projector does not refuse them")
            assert await watermark(way.projection.read) <= await way.projection.head() - 20
            await aindusdb(way, "relay", "reset", "--partitions", str(decided))
            await until(projected_by(way, feed + 1, decided), "the decision has no effect")
            await until(says(relay, 200), "the relay does not go on")
        await way.settle()
