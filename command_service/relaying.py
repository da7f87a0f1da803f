"""The relay's work: committed events to Kafka, in order, by one leader at a time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import asyncpg
import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from prometheus_client import CollectorRegistry, Counter, Gauge

from command_service.publisher import Publisher, create_publishing_producer
from command_service.relay_lease import (
    LeadershipLostError,
    Lease,
    LeaseMismatchError,
    keep,
    open_first_feed,
    release,
    take,
)
from command_service.settings import RelaySettings
from command_service.standbys import StandbyAwayError, confirm
from shared.appends import woken_by_appends
from shared.event_log import LogCorruptionError, read_event_ids, read_event_rows, read_log_id
from shared.kafka.clients import is_told_to_end, opened_admin
from shared.kafka.ends import TopicAheadError, check_ends, read_ends
from shared.kafka.topic import TopicMismatchError, TopicMissingError, check_topic, ensure_topic
from shared.postgres import CONNECTION_LOST, connect

LEASE_SECONDS = 2.5
"""A relay that has not been heard of for so long is succeeded."""

_HEARTBEAT_SECONDS = 0.8
_CHECKPOINT_SECONDS = 0.1
_STANDBY_SECONDS = 0.5
_TOPIC_CHECK_SECONDS = 2.0
_LAST_BATCH_SECONDS = 5.0
_RECHECK_SECONDS = 3.0
_FIRST_RETRY_SECONDS = 0.2
_LAST_RETRY_SECONDS = 5.0
_BATCH_EVENTS = 2_000
_BATCH_BYTES = 4 * 1024 * 1024

_log = structlog.get_logger("relay")


class RelayMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.leading = Gauge("aindusdb_relay_leading", "1 while this relay publishes.", registry=registry)
        self.position = Gauge(
            "aindusdb_relay_position", "All events up to this position are published.", registry=registry
        )
        self.published = Counter("aindusdb_relay_events_published_total", "Events acknowledged.", registry=registry)
        self.failures = Counter(
            "aindusdb_relay_failures_total", "Publications begun anew from the checkpoint.", registry=registry
        )


class Relay:
    """Publishes, or waits to succeed who does, until it is stopped. `fault` says in a sentence why it does neither."""

    def __init__(self, settings: RelaySettings, holder: str, metrics: RelayMetrics) -> None:
        self.fault: str | None = "nothing is published yet"
        self._settings = settings
        self._holder = holder
        self._metrics = metrics
        self._retry_seconds = _FIRST_RETRY_SECONDS
        self._stopping = asyncio.Event()
        self._discarded: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        while not self._stopping.is_set():
            try:
                await self._lead_when_possible()
            except LeadershipLostError:
                _log.warning("the lease is another relay's now")
            except TopicMissingError as error:
                _log.warning("publishing anew from the checkpoint", reason=str(error))
            except (LogCorruptionError, LeaseMismatchError, TopicAheadError, TopicMismatchError) as error:
                self._report(str(error))
                await self._pause(_RECHECK_SECONDS)
            except KafkaError as error:
                self._report(
                    f"Kafka at {self._settings.kafka_bootstrap} takes no events ({error}); "
                    "they wait in the log, and it is tried again"
                )
                await self._back_off()
            except StandbyAwayError as error:
                self._report(f"{error}; what only the primary has is not published, and it is tried again")
                await self._back_off()
            except CONNECTION_LOST as error:
                self._report(f"the event database or Kafka is away ({type(error).__name__}: {error}); trying again")
                await self._back_off()
            except asyncio.CancelledError:
                if is_told_to_end():
                    raise
                self._report("the connection to Kafka ended itself; trying again")
                await self._back_off()
            except Exception as error:
                _log.exception("publication failed")
                self._report(f"publication failed ({type(error).__name__}: {error}); trying again")
                await self._back_off()
        await asyncio.gather(*self._discarded, return_exceptions=True)

    async def _lead_when_possible(self) -> None:
        dsn = self._settings.events_dsn.get_secret_value()
        connection = await connect(dsn, self._settings)
        try:
            await open_first_feed(connection, self._settings.kafka_partitions)
            lease = await take(connection, self._holder, LEASE_SECONDS)
            while lease is None:
                self._well()
                await self._pause(_STANDBY_SECONDS)
                if self._stopping.is_set():
                    return
                lease = await take(connection, self._holder, LEASE_SECONDS)
            _log.info("leading", feed=lease.feed, epoch=lease.epoch, position=lease.position)
            try:
                await self._lead(connection, lease)
            finally:
                self._metrics.leading.set(0)
                with suppress(*CONNECTION_LOST):
                    await release(connection, lease)
        finally:
            connection.terminate()

    async def _lead(self, keeping: asyncpg.Connection[asyncpg.Record], lease: Lease) -> None:
        progress: list[Publisher] = []
        watched = asyncio.Event()
        tasks: list[asyncio.Task[None]] = [
            asyncio.create_task(self._watch_topic(lease, watched), name="watching"),
            asyncio.create_task(self._publish(lease, watched, progress), name="publishing"),
            asyncio.create_task(self._keep(keeping, lease, progress), name="keeping"),
        ]
        stopping = asyncio.create_task(self._stopping.wait(), name="stopping")
        try:
            await asyncio.wait((*tasks, stopping), return_when=asyncio.FIRST_COMPLETED)
            if stopping.done():
                await asyncio.wait({tasks[1]}, timeout=_LAST_BATCH_SECONDS)
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            stopping.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, stopping, return_exceptions=True)
        for publisher in progress:
            await keep(
                keeping, lease, publisher.position, publisher.event_id, publisher.partition_positions, LEASE_SECONDS
            )

    async def _keep(
        self, connection: asyncpg.Connection[asyncpg.Record], lease: Lease, progress: list[Publisher]
    ) -> None:
        """Beside the publication, so that the checkpoint costs it nothing; what a crash takes from it is sent twice."""
        kept: tuple[object, ...] = ()
        silent_seconds = 0.0
        while True:
            state: Publisher | Lease = progress[0] if progress else lease
            now = (state.position, state.event_id, state.partition_positions)
            if now != kept or silent_seconds >= _HEARTBEAT_SECONDS:
                await keep(connection, lease, *now, LEASE_SECONDS)
                self._metrics.position.set(state.position)
                kept, silent_seconds = now, 0.0
            await asyncio.sleep(_CHECKPOINT_SECONDS)
            silent_seconds += _CHECKPOINT_SECONDS

    async def _watch_topic(self, lease: Lease, watched: asyncio.Event) -> None:
        """Makes the topic if need be; one that goes later is gone with all that a producer knows of it."""
        settings, partitions = self._settings, len(lease.partition_positions)
        async with opened_admin(settings) as admin:
            await ensure_topic(admin, settings.kafka_topic, partitions)
            watched.set()
            while True:
                await asyncio.sleep(_TOPIC_CHECK_SECONDS)
                await check_topic(admin, settings.kafka_topic, partitions)

    async def _publish(self, lease: Lease, watched: asyncio.Event, progress: list[Publisher]) -> None:
        settings = self._settings
        await watched.wait()
        ends = await read_ends(settings)
        connection = await connect(settings.events_dsn.get_secret_value(), settings)
        try:
            log_id = await read_log_id(connection)
            check_ends(settings.kafka_topic, ends, log_id, await read_event_ids(connection, [one.to for one in ends]))
            async with (
                woken_by_appends(settings.events_listen_address(), settings) as woken,
                self._opened_producer() as producer,
            ):
                publisher = Publisher(producer, settings.kafka_topic, log_id, lease)
                progress.append(publisher)
                self._metrics.leading.set(1)
                await self._follow(connection, lease, publisher, woken)
        finally:
            connection.terminate()

    async def _follow(
        self,
        connection: asyncpg.Connection[asyncpg.Record],
        lease: Lease,
        publisher: Publisher,
        woken: asyncio.Event,
    ) -> None:
        async def read(after: int) -> list[asyncpg.Record]:
            rows = await read_event_rows(
                connection,
                after,
                limit=_BATCH_EVENTS,
                max_bytes=_BATCH_BYTES,
                server_started=lease.server_started,
            )
            if rows:
                await confirm(connection)
            return rows

        await publisher.publish_watermarks()
        rows = await read(publisher.position)
        while not self._stopping.is_set():
            self._well()
            if rows:
                # The next events are read while these are sent.
                following = asyncio.create_task(read(rows[-1]["position"]))
                try:
                    await publisher.publish(rows)
                    self._metrics.published.inc(len(rows))
                    rows = await following
                finally:
                    following.cancel()
                continue
            seconds = publisher.seconds_to_watermarks()
            wait_seconds = self._settings.poll_interval_seconds if seconds is None else seconds
            if not await self._woken_within(woken, wait_seconds) and seconds is not None:
                await publisher.publish_watermarks()
                continue
            rows = await read(publisher.position)

    async def _woken_within(self, woken: asyncio.Event, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await woken.wait()
        except TimeoutError:
            return False
        woken.clear()
        return True

    @asynccontextmanager
    async def _opened_producer(self) -> AsyncIterator[AIOKafkaProducer]:
        """Discarded in the end, whatever it still holds: the checkpoint says where its successor begins."""
        producer = create_publishing_producer(self._settings)
        try:
            await producer.start()
            yield producer
        finally:
            # Its last records may take their time to fail; nobody needs to wait for that.
            discarding = asyncio.create_task(producer.stop())
            self._discarded.add(discarding)
            discarding.add_done_callback(self._discarded.discard)

    def _well(self) -> None:
        self.fault = None
        self._retry_seconds = _FIRST_RETRY_SECONDS

    def _report(self, fault: str) -> None:
        self._metrics.failures.inc()
        if fault != self.fault:
            _log.error("nothing is published", reason=fault)
        self.fault = fault

    async def _back_off(self) -> None:
        # Not in step with other relays, one of which may be better off.
        await self._pause(self._retry_seconds * (0.5 + random.random()))  # noqa: S311
        self._retry_seconds = min(self._retry_seconds * 2, _LAST_RETRY_SECONDS)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
