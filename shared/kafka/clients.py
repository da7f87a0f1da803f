"""How every client of Kafka is made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import aiokafka.admin.client
import aiokafka.client
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.metadata import MetadataRequest

from shared.kafka.settings import KafkaSettings

_ADMIN_TIMEOUT_MS = 10_000
_STOP_TIMEOUT_SECONDS = 5.0


def create_producer(settings: KafkaSettings, **options: Any) -> AIOKafkaProducer:
    """Not yet connected; `options` are aiokafka's."""
    return AIOKafkaProducer(**_connection(settings), **options)


@asynccontextmanager
async def opened_consumer(settings: KafkaSettings, **options: Any) -> AsyncIterator[AIOKafkaConsumer]:
    """Of the topic; `options` are aiokafka's.

    Raises:
        KafkaError: no broker answers; UnknownTopicOrPartitionError: it has no such topic.
    """
    consumer = AIOKafkaConsumer(settings.kafka_topic, **_connection(settings), **options)
    try:
        await consumer.start()
        yield consumer
    finally:
        await _close(consumer)


async def _close(consumer: AIOKafkaConsumer) -> None:
    """As `stop` should. Where a fetch waits to try again, aiokafka lets the cancellation of that task out, and leaves
    its connections to a broker that is away open for good."""
    stopping = asyncio.create_task(consumer.stop())
    await asyncio.wait({stopping}, timeout=_STOP_TIMEOUT_SECONDS)
    stopping.cancel()
    await asyncio.gather(stopping, return_exceptions=True)
    await consumer._client.close()  # noqa: SLF001


def is_told_to_end() -> bool:
    """Whether somebody has cancelled the current task. Else it is one of aiokafka's own cancellations that came out."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


@asynccontextmanager
async def opened_admin(settings: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    """
    Raises:
        KafkaError: no broker answers.
    """
    admin = AIOKafkaAdminClient(**_connection(settings), request_timeout_ms=_ADMIN_TIMEOUT_MS)
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


def _connection(settings: KafkaSettings) -> dict[str, Any]:
    _ask_without_making_topics()
    return {"bootstrap_servers": settings.kafka_bootstrap}


def _ask_without_making_topics() -> None:
    """As Kafka is delivered, a broker makes a topic that it is asked about and does not have, with as many partitions
    as it sees fit, unless the question forbids it. aiokafka's questions do not, and it has no setting for that."""
    asking = partial(MetadataRequest, allow_auto_topic_creation=False)
    aiokafka.client.MetadataRequest = aiokafka.admin.client.MetadataRequest = asking
