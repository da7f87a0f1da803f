"""How every client of Kafka is made."""

from __future__ import annotations

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


def create_producer(settings: KafkaSettings, **options: Any) -> AIOKafkaProducer:
    """Not yet connected; `options` are aiokafka's."""
    return AIOKafkaProducer(**_connection(settings), **options)


def create_consumer(settings: KafkaSettings, **options: Any) -> AIOKafkaConsumer:
    """Of the topic; not yet connected. `options` are aiokafka's."""
    return AIOKafkaConsumer(settings.kafka_topic, **_connection(settings), **options)


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
