"""What the topic ends with. Nothing is published that the log does not have, so where a partition ends with something
else, the log was restored or has lost events, and the topic tells of what did not happen."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from uuid import UUID

from aiokafka import TopicPartition
from aiokafka.errors import KafkaTimeoutError

from shared.kafka.clients import opened_consumer
from shared.kafka.records import ForeignRecordError, Piece, piece_of
from shared.kafka.settings import KafkaSettings

_PATIENCE_SECONDS = 10.0

FILL_ANEW = (
    "Either point AINDUSDB_EVENTS_DSN at the log that fills this topic, or stop all processes, run `aindusdb log "
    "restored`, so that no position is taken for a lost one, and `aindusdb relay reset --new-topic`, which fills the "
    "topic anew from this log"
)


class TopicAheadError(Exception):
    """The topic holds an event that the log does not have at its position."""

    def __init__(self, topic: str, end: Piece, found: UUID | None) -> None:
        super().__init__(
            f"the topic {topic} speaks of event {end.event_id} at position {end.to}, but the event log has "
            f"{found or 'nothing'} there: it was restored, or has lost events. {FILL_ANEW}"
        )


async def read_ends(settings: KafkaSettings) -> Sequence[Piece]:
    """The last record of each partition that has any; without those that are none of a relay's.

    Raises:
        KafkaError: they cannot be read.
    """
    ends: list[Piece] = []
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS), opened_consumer(settings, enable_auto_commit=False) as consumer:
            numbers = consumer.partitions_for_topic(settings.kafka_topic) or ()
            partitions = [TopicPartition(settings.kafka_topic, number) for number in numbers]
            first, behind = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
            left = {partition for partition in partitions if first[partition] < behind[partition]}
            for partition in left:
                consumer.seek(partition, behind[partition] - 1)
            while left:
                for partition, records in (await consumer.getmany(*left, timeout_ms=1000)).items():
                    last = records[-1]
                    with suppress(ForeignRecordError):
                        ends.append(piece_of(partition.partition, last.offset, last.key, last.value, last.headers))
                    left.discard(partition)
    except TimeoutError as error:
        raise KafkaTimeoutError(f"the end of {settings.kafka_topic} was not read in {_PATIENCE_SECONDS:g} s") from error
    return ends


def check_ends(topic: str, ends: Sequence[Piece], log_id: UUID, event_ids: Mapping[int, UUID]) -> None:
    """`event_ids` are the log's at the ends' positions, read after them. Records of another log are another matter.

    Raises:
        TopicAheadError
    """
    for end in ends:
        found = event_ids.get(end.to)
        if end.log_id == log_id and found != end.event_id:
            raise TopicAheadError(topic, end, found)
