"""Kafka is expendable: the topic wiped, dealt out otherwise, moved to another cluster, while clients write and read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from shared.event_log import read_log_id
from shared.kafka.clients import opened_admin
from shared.kafka.topic import delete_topic, partition_count
from shared.tokens import ConsistencyToken, Signer
from tests.projector.log_writer import TENANT, LogWriter
from tests.projector.projecting import until
from tests.query.conftest import SIGNING_KEY, running_service
from tests.servers import connected, own_kafka
from tests.transport.snapshots import watched
from tests.transport.test_reset import aindusdb, projected_by
from tests.transport.topic import pieces
from tests.transport.transporting import Load, Transport


@asynccontextmanager
async def _believing(way: Transport) -> AsyncIterator[list[int]]:
    """Writes a number and reads it with the token of the write, again and again: it is there, or the answer is 503. The
    numbers that were read."""
    read: list[int] = []
    signer = Signer([SIGNING_KEY.encode()])

    async def write_and_read() -> None:
        async with (
            connected(way.databases.events_dsn) as connection,
            running_service(way.databases.read_reader_dsn, events_dsn=way.databases.events_reader_dsn) as service,
        ):
            log, number = LogWriter(connection), 0
            counted = await log.create_collection("counted")
            position = await log.create(counted, "counter", content="0")
            log_id = await read_log_id(connection)
            while True:
                token = signer.sign_token(ConsistencyToken(log_id, TENANT, position, position))
                answer = await service.get(
                    "/api/v1/collections/counted/vectors/counter",
                    params={"timeout_ms": 2_000}, headers={"X-Consistency-Token": token},
                )  # fmt: skip
                if answer.status_code == 200:
                    assert int(answer.json()["content"]) == number
                    read.append(number)
                    number += 1
                    position = await log.update(counted, "counter", content=str(number))
                else:
                    assert answer.status_code == 503, answer.text
                await asyncio.sleep(0.02)

    task = asyncio.create_task(write_and_read())
    try:
        yield read
    finally:
        task.cancel()
        await asyncio.wait({task})
    assert task.cancelled(), task.exception()


@pytest.mark.long
@pytest.mark.usefixtures("kafka_installed")
async def test_the_topic_is_wiped_and_moved_to_another_cluster_and_tokens_stay_honest(way: Transport) -> None:
    load = Load(way.log)
    async with own_kafka() as (server, _), AsyncExitStack() as relay, AsyncExitStack() as projector:
        elsewhere = server.bootstrap
        await relay.enter_async_context(way.relay())
        await projector.enter_async_context(way.projector())
        await until(way.published, "nothing is published")
        async with watched(way), load.running(), _believing(way) as read:

            async def read_on() -> None:
                seen = len(read)
                await until(lambda: len(read) > seen + 3, "what is written is not found any more")

            await read_on()
            async with opened_admin(way.relay_settings()) as admin:
                assert await delete_topic(admin, way.topic)
                await read_on()
                await aindusdb(way, "relay", "reset", "--partitions", "3")
                await until(projected_by(way, 2, 3), "the projector does not go over to it")
                await read_on()
                assert await partition_count(admin, way.topic) == 3
            # The relay goes first; a projector that hears of nothing any more reads the log.
            await relay.aclose()
            await relay.enter_async_context(way.relay("moved", kafka_bootstrap=elsewhere))
            await read_on()
            async with way.projector(kafka_bootstrap=elsewhere):
                await projector.aclose()
                await read_on()
                said = await aindusdb(way, "relay", "republish", "--from", "1", AINDUSDB_KAFKA_BOOTSTRAP=elsewhere)
                assert "Feed 3 begins" in said
                await until(projected_by(way, 3, 3), "the projector does not go over to it")
                await read_on()
        async with way.projector(kafka_bootstrap=elsewhere):
            await way.settle()
            await until(way.published, "not everything is published")
        there = {piece.to for chain in (await pieces(way, elsewhere)).values() for piece in chain if piece.event}
        assert there == set(range(1, await way.projection.head() + 1))
