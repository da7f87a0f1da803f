"""Events through Kafka: several partitions, shared by all projectors of the group.

Kafka is transport, never truth. Offsets are hints, records may come twice or not at all; what counts is the chain of
`after` in the records against the checkpoint in the read database. A hole in the chain is filled from the event log.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NoReturn

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, KafkaTimeoutError, UnknownTopicOrPartitionError

from projector.checkpoints import read_positions
from projector.errors import CheckpointMismatchError, LayoutChangedError, NoFeedError
from projector.event_log import EventLog, opened_event_log
from projector.runs import Layout, Run, runs_of_log
from projector.settings import ProjectorSettings
from shared.kafka.clients import opened_consumer
from shared.kafka.ends import FILL_ANEW, check_ends, read_ends
from shared.kafka.records import ForeignRecordError, Piece, piece_of
from shared.kafka.topic import TopicMismatchError, TopicMissingError
from shared.postgres import Connection
from shared.read_model.tables import PROJECTION

SESSION_TIMEOUT_SECONDS = 6
"""A projector that has not been heard of for so long loses its partitions to the others."""

_STALLED_SECONDS = 5.0
_SILENCE_SECONDS = 5.0
_ASSIGNMENT_SECONDS = 1.0
_COMMIT_INTERVAL_SECONDS = 2.0
_COMMIT_TIMEOUT_SECONDS = 5.0
_METADATA_MAX_AGE_SECONDS = 3
_MAX_FETCH_BYTES = 2 * 1024 * 1024
_REQUEST_TIMEOUT_SECONDS = 10

_log = structlog.get_logger("kafka_source")


@dataclass(slots=True)
class _Partition:
    """`position`: where the checkpoint will be once all that was handed out is applied. The log is known to have
    events up to `known`, so beyond `position` these are missing. `pieces` are behind such a hole."""

    position: int
    known: int = 0
    pieces: deque[Piece] = field(default_factory=deque)
    next_offset: int | None = None
    held_until: float = 0.0
    seen_position: int = -1

    def chained(self, partition: int) -> Run | None:
        """What follows the position without a hole, taken from the pieces."""
        after = self.position
        events = []
        event_id = None
        while self.pieces and self.pieces[0].after <= self.position:
            piece = self.pieces.popleft()
            if piece.to <= self.position:
                continue
            if piece.event is not None:
                events.append(piece.event)
            self.position, event_id = piece.to, piece.event_id
        if self.pieces:
            self.known = max(self.known, self.pieces[0].after)
        return None if event_id is None else Run(partition, after, events, self.position, event_id)


class KafkaSource:
    def __init__(self, consumer: AIOKafkaConsumer, log: EventLog, layout: Layout, settings: ProjectorSettings) -> None:
        self.log = log
        self.layout = layout
        self._consumer = consumer
        self._topic = settings.kafka_topic
        self._poll_interval_seconds = settings.poll_interval_seconds
        self._partitions: dict[int, _Partition] = {}
        self._compared_at = self._heard_at = time.monotonic()
        self._committed: dict[int, int] = {}

    async def read(self, connection: Connection, limit: int) -> Sequence[Run]:
        """
        Raises:
            ForeignRecordError, CheckpointMismatchError, TopicMismatchError: the topic is not this log's.
            LayoutChangedError: a new feed began.
        """
        await self._know_assignment(connection)
        await self._compare_with_relay()
        runs = await self._from_log(limit) or self._from_pieces() or await self._from_topic(limit)
        if runs:
            # What the log itself hands out it hands out with these; records of a topic say nothing of them.
            await self.log.skips()
        return runs

    def moved(self, positions: Mapping[int, int]) -> None:
        for number, position in positions.items():
            if partition := self._partitions.get(number):
                partition.known = max(partition.known, partition.position)
                partition.position = position

    def hold(self, partitions: Collection[int], seconds: float) -> None:
        for number in partitions:
            if partition := self._partitions.get(number):
                partition.held_until = time.monotonic() + seconds

    def wake(self) -> None:
        """Reading waits no longer than the poll interval."""

    async def commit_forever(self) -> None:
        """Offsets spare the next reader what is applied already; losing them costs nothing else."""
        while True:
            await asyncio.sleep(_COMMIT_INTERVAL_SECONDS)
            assigned = {tp.partition for tp in self._consumer.assignment()}
            moved = {
                number: partition.next_offset
                for number, partition in self._partitions.items()
                if partition.next_offset is not None
                and number in assigned
                and self._committed.get(number) != partition.next_offset
            }
            if not moved:
                continue
            try:
                async with asyncio.timeout(_COMMIT_TIMEOUT_SECONDS):
                    await self._consumer.commit({TopicPartition(self._topic, n): offset for n, offset in moved.items()})
                self._committed |= moved
            except (KafkaError, TimeoutError) as error:
                _log.debug("offsets are not kept for now", error=repr(error))

    async def _know_assignment(self, connection: Connection) -> None:
        assigned = {tp.partition for tp in self._consumer.assignment()}
        if assigned == self._partitions.keys():
            return
        found = len(self._consumer.partitions_for_topic(self._topic) or ())
        if found not in (0, self.layout.partition_count):
            raise TopicMismatchError(self._topic, expected=self.layout.partition_count, got=found)
        added = assigned - self._partitions.keys()
        positions = await read_positions(connection) if added else {}
        if added - positions.keys():
            raise LayoutChangedError
        self._partitions = {
            number: self._partitions.get(number) or _Partition(positions[number]) for number in sorted(assigned)
        }
        _log.info("partitions are assigned", partitions=sorted(assigned))

    async def _compare_with_relay(self) -> None:
        """What the relay has published and what has not come here after a while never will: records expire, topics
        are deleted, brokers lose data."""
        now = time.monotonic()
        if now - self._compared_at < _STALLED_SECONDS:
            return
        self._compared_at = now
        feed = await self.log.feed()
        if feed is None or feed.number != self.layout.feed:
            raise LayoutChangedError
        for number, partition in self._partitions.items():
            if partition.position == partition.seen_position and partition.position < feed.position:
                _log.warning("records never came; reading the event log", partition=number, up_to=feed.position)
                partition.known = max(partition.known, feed.position)
            partition.seen_position = partition.position

    def _open(self) -> dict[int, _Partition]:
        now = time.monotonic()
        return {n: partition for n, partition in self._partitions.items() if partition.held_until <= now}

    async def _from_log(self, limit: int) -> list[Run]:
        holes = {n: (one.position, one.known) for n, one in self._open().items() if one.position < one.known}
        if not holes:
            return []
        first = min(position for position, _known in holes.values())
        events = await self.log.read(first, limit)
        if not events:
            known = max(known for _position, known in holes.values())
            raise CheckpointMismatchError(
                f"the topic {self._topic} speaks of position {known}, but the event log ends at {first}: the log has "
                f"lost events or is another one. {FILL_ANEW}"
            )
        runs = runs_of_log(events, holes, self.layout.partition_count)
        for run in runs:
            self._partitions[run.partition].position = run.to
        return runs

    def _from_pieces(self) -> list[Run]:
        chained = (partition.chained(number) for number, partition in self._open().items())
        return [run for run in chained if run is not None]

    async def _from_topic(self, limit: int) -> list[Run]:
        readable = [TopicPartition(self._topic, n) for n, one in self._open().items() if not one.pieces]
        assigned = self._consumer.assignment()
        readable = [tp for tp in readable if tp in assigned]
        if not readable:
            await asyncio.sleep(min(self._poll_interval_seconds, 0.1))
            await self._ask_broker()
            return []
        records = await self._records(readable, limit)
        if not records:
            await self._ask_broker()
        for tp, of_partition in records.items():
            await self._accept(tp.partition, of_partition)
        return self._from_pieces()

    async def _records(
        self, readable: Sequence[TopicPartition], limit: int
    ) -> Mapping[TopicPartition, Sequence[ConsumerRecord]]:
        seconds = self._poll_interval_seconds
        try:
            # Between two assignments aiokafka waits longer than it was told, without a broker for ever.
            async with asyncio.timeout(seconds + _ASSIGNMENT_SECONDS):
                records: Mapping[TopicPartition, Sequence[ConsumerRecord]] = await self._consumer.getmany(
                    *readable, timeout_ms=int(seconds * 1000), max_records=limit
                )
        except TimeoutError:
            return {}
        if records:
            self._heard_at = time.monotonic()
        return records

    async def _ask_broker(self) -> None:
        """A consumer waits for a broker that is away as it waits for records. After a silence this one asks.

        Raises:
            KafkaError: nobody answers.
        """
        if time.monotonic() - self._heard_at < _SILENCE_SECONDS:
            return
        try:
            async with asyncio.timeout(_SILENCE_SECONDS):
                await self._consumer.end_offsets([TopicPartition(self._topic, 0)])
        except TimeoutError as error:
            raise KafkaTimeoutError(f"no answer within {_SILENCE_SECONDS:g} s") from error
        self._heard_at = time.monotonic()

    async def _accept(self, number: int, records: Sequence[ConsumerRecord]) -> None:
        partition = self._partitions[number]
        for record in records:
            piece = piece_of(number, record.offset, record.key, record.value, record.headers)
            if piece.feed < self.layout.feed:
                continue
            if piece.log_id != self.layout.log_id:
                raise ForeignRecordError(
                    number, record.offset, f"it is of event log {piece.log_id}, but ours is {self.layout.log_id}"
                )
            if piece.feed > self.layout.feed:
                await self._follow_feed(number, record.offset, piece.feed)
            partition.pieces.append(piece)
        if records:
            partition.next_offset = records[-1].offset + 1

    async def _follow_feed(self, number: int, offset: int, feed: int) -> NoReturn:
        opened = await self.log.feed()
        if opened is not None and opened.number >= feed:
            raise LayoutChangedError
        raise ForeignRecordError(
            number, offset, f"it is of feed {feed}, and the event database has none after {self.layout.feed}"
        )


@asynccontextmanager
async def open_kafka_source(settings: ProjectorSettings) -> AsyncIterator[KafkaSource]:
    """
    Raises:
        One of `CONNECTION_LOST`: the event database cannot be reached.
        KafkaError: no broker can be reached.
        NoFeedError, TopicMissingError: there is nothing to read yet.
        TopicAheadError: the topic tells of what this log does not have.
    """
    async with opened_event_log(settings) as log:
        feed = await log.feed()
        if feed is None:
            raise NoFeedError(
                "no relay has opened a feed yet; start `python -m command_service.relay` with AINDUSDB_KAFKA_BOOTSTRAP"
            )
        layout = Layout(await log.log_id(), feed.number, feed.partition_count)
        try:
            ends = await read_ends(settings)
            check_ends(settings.kafka_topic, ends, layout.log_id, await log.event_ids([one.to for one in ends]))
            async with opened_consumer(
                settings,
                group_id=f"{settings.kafka_topic}.{PROJECTION}",
                enable_auto_commit=False,
                auto_offset_reset="earliest",  # where the group's offset is none of the topic's
                session_timeout_ms=SESSION_TIMEOUT_SECONDS * 1000,
                heartbeat_interval_ms=SESSION_TIMEOUT_SECONDS * 1000 // 4,
                metadata_max_age_ms=_METADATA_MAX_AGE_SECONDS * 1000,
                max_partition_fetch_bytes=_MAX_FETCH_BYTES,
                request_timeout_ms=_REQUEST_TIMEOUT_SECONDS * 1000,
            ) as consumer:
                source = KafkaSource(consumer, log, layout, settings)
                committing = asyncio.create_task(source.commit_forever(), name="offsets")
                try:
                    yield source
                finally:
                    committing.cancel()
                    await asyncio.gather(committing, return_exceptions=True)
        except UnknownTopicOrPartitionError as error:
            raise TopicMissingError(settings.kafka_topic) from error
