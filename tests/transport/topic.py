"""What is in a topic."""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer

from shared.kafka.records import Piece, piece_of
from tests.transport.transporting import Transport


async def pieces(way: Transport, bootstrap: str | None = None) -> dict[int, list[Piece]]:
    """Everything that is in the topic, by partition; `bootstrap` is that of another cluster."""
    consumer = AIOKafkaConsumer(way.topic, bootstrap_servers=bootstrap or way.bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        ends = await consumer.end_offsets(list(consumer.assignment()))
        found: dict[int, list[Piece]] = {tp.partition: [] for tp in ends}
        while [tp for tp, end in ends.items() if await consumer.position(tp) < end]:
            for tp, records in (await consumer.getmany(timeout_ms=200)).items():
                found[tp.partition] += [
                    piece_of(tp.partition, record.offset, record.key, record.value, record.headers)
                    for record in records
                ]
    finally:
        await consumer.stop()
    return found
