"""Sends the log's events to their partitions, in order, each record with what it covers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import asyncpg
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaTimeoutError

from command_service.relay_lease import Lease
from shared.kafka.clients import create_producer
from shared.kafka.partitions import partitions_of
from shared.kafka.records import event_headers, feed_headers, watermark_headers
from shared.kafka.settings import KafkaSettings

REQUEST_TIMEOUT_SECONDS = 5
_SEND_TIMEOUT_SECONDS = 2 * REQUEST_TIMEOUT_SECONDS
WATERMARK_INTERVAL_SECONDS = 0.02
"""The least time between two watermarks of a partition."""

_MAX_BATCH_BYTES = 1_000_000
"""An event has at most 900 kB; a broker's default limit is 1 MiB."""


def create_publishing_producer(settings: KafkaSettings) -> AIOKafkaProducer:
    """One that the broker keeps from repeating or reordering records."""
    return create_producer(
        settings,
        acks="all",
        enable_idempotence=True,
        linger_ms=0,
        max_batch_size=_MAX_BATCH_BYTES,
        request_timeout_ms=REQUEST_TIMEOUT_SECONDS * 1000,
    )


class Publisher:
    """Publishes one feed from a lease's checkpoint on. After any error it knows nothing any more: make a new one,
    with a new producer, from the checkpoint."""

    def __init__(self, producer: AIOKafkaProducer, topic: str, log_id: UUID, lease: Lease) -> None:
        self._producer = producer
        self._topic = topic
        self._common = feed_headers(log_id, lease.feed)
        self._covered = list(lease.partition_positions)
        self._watermarks_at = 0.0
        self._introduced = False
        self.position = lease.position
        self.event_id = lease.event_id
        self.partition_positions: Sequence[int] = tuple(lease.partition_positions)

    async def publish(self, rows: Sequence[asyncpg.Record]) -> None:
        """The events that follow `position`, in order; then they are acknowledged by all replicas in sync.

        Raises:
            KafkaError: some of them may not be.
        """
        await self._send(rows, rows[-1]["position"], rows[-1]["event_id"])

    def seconds_to_watermarks(self) -> float | None:
        """When the partitions are to be told how far they are complete; None if they all know."""
        if min(self._covered) == self.position:
            return None
        return max(0.0, self._watermarks_at + WATERMARK_INTERVAL_SECONDS - time.monotonic())

    async def publish_watermarks(self) -> None:
        """Tells the partitions that do not know how far they are complete; the first time all of them, so that what is
        no more in the topic, because it expired or the topic was made anew, is missed at once."""
        if self.event_id is not None:
            await self._send((), self.position, self.event_id)

    async def _send(self, rows: Sequence[asyncpg.Record], to: int, event_id: UUID) -> None:
        batches = _Batches(self._producer, self._topic)
        partitions = partitions_of([row["aggregate_id"] for row in rows], len(self._covered))
        for row, partition in zip(rows, partitions, strict=True):
            batches.append(
                partition,
                int(row["timestamp"].timestamp() * 1000),
                str(row["aggregate_id"]).encode(),
                row["event_data"].encode(),
                event_headers(row, self._common, self._covered[partition]),
            )
            self._covered[partition] = row["position"]
        now = time.monotonic()
        if now >= self._watermarks_at + WATERMARK_INTERVAL_SECONDS:
            self._watermarks_at = now
            for partition, covered in enumerate(self._covered):
                if covered < to or not self._introduced:
                    headers = watermark_headers(self._common, covered, to, event_id)
                    batches.append(partition, None, None, None, headers)
                    self._covered[partition] = to
        try:
            async with asyncio.timeout(_SEND_TIMEOUT_SECONDS):
                await batches.send()
        except TimeoutError as error:
            raise KafkaTimeoutError(f"nothing acknowledged within {_SEND_TIMEOUT_SECONDS} s") from error
        self._introduced = True
        self.position, self.event_id = to, event_id
        self.partition_positions = tuple(self._covered)


class _Batches:
    """Records on their way, by partition."""

    def __init__(self, producer: AIOKafkaProducer, topic: str) -> None:
        self._producer = producer
        self._topic = topic
        self._open: dict[int, Any] = {}
        self._full: list[tuple[int, Any]] = []

    def append(
        self,
        partition: int,
        timestamp: int | None,
        key: bytes | None,
        value: bytes | None,
        headers: list[tuple[str, bytes]],
    ) -> None:
        batch = self._open.get(partition)
        if batch is None:
            batch = self._open[partition] = self._producer.create_batch()
        if batch.append(timestamp=timestamp, key=key, value=value, headers=headers) is None:
            self._full.append((partition, batch))
            del self._open[partition]
            self.append(partition, timestamp, key, value, headers)

    async def send(self) -> None:
        sent = []
        for partition, batch in (*self._full, *self._open.items()):
            batch.close()
            sent.append(await self._producer.send_batch(batch, self._topic, partition=partition))
        await asyncio.gather(*sent)
