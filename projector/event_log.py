"""What the projector asks the event log for, whatever way its events come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from uuid import UUID

import asyncpg

from events_schema.base import RecordedEvent
from projector.settings import ProjectorSettings
from projector.skips import Skips
from shared.event_log import (
    Appended,
    Extent,
    Gaps,
    Head,
    count_collection_events,
    read_aggregates_near,
    read_alias_events,
    read_clock,
    read_collection_events,
    read_collection_stream,
    read_creations,
    read_deleted,
    read_event_ids,
    read_events,
    read_events_at,
    read_extent,
    read_gaps,
    read_head,
    read_log_id,
    read_newest,
    read_position_at,
    read_skips,
    read_streams,
    read_timestamp_at,
    read_whole_stream,
)
from shared.kafka.feeds import Feed, read_feed
from shared.postgres import ServerChangedError, connect, read_server_started


class EventLog:
    """One connection, one question at a time: the next batch may be read while the current one is written, which may
    need a collection's stream. All answers come from the server that `server_started` names. `known_skips` are the
    decisions to pass over events that stood in the log when it was last read in order."""

    def __init__(
        self, connection: asyncpg.Connection[asyncpg.Record], server_started: datetime, max_bytes: int
    ) -> None:
        self._connection = connection
        self._server_started = server_started
        self._max_bytes = max_bytes
        self._turn = asyncio.Lock()
        self.known_skips = Skips()

    async def read(self, after: int, limit: int) -> list[RecordedEvent]:
        """
        Raises:
            LogCorruptionError: a position is missing.
            ServerChangedError: the checkpoints have not been compared with this server's log.
        """
        async with self._turn:
            events = await read_events(
                self._connection,
                after,
                limit=limit,
                max_bytes=self._max_bytes,
                server_started=self._server_started,
            )
            await self._learn_skips()
            return events

    async def skips(self) -> Skips:
        """All decisions to pass over events that the log holds now. An event that was parked and is not any more was
        passed over if it is among them, so whoever leaves out what is parked looks there first."""
        async with self._turn:
            await self._learn_skips()
            return self.known_skips

    async def _learn_skips(self) -> None:
        self.known_skips.learn(await read_skips(self._connection, after=self.known_skips.position))

    async def read_collection(self, collection_id: UUID, after: int, to: int, limit: int) -> list[RecordedEvent]:
        """The next events of a collection and its vectors in (after, to]; none only if there are none."""
        async with self._turn:
            return await read_collection_events(
                self._connection, collection_id, after, to, limit=limit, max_bytes=self._max_bytes
            )

    async def count_collection(self, collection_id: UUID, after: int, to: int, limit: int) -> int:
        """How many such events there are, counted no further than `limit`."""
        async with self._turn:
            return await count_collection_events(self._connection, collection_id, after, to, limit=limit)

    async def newest(self, collection_id: UUID, numbers: Sequence[int]) -> dict[int, Appended]:
        """Number -> the event of a collection and its vectors that `number` - 1 others follow; those that there are,
        and how old they were at one moment."""
        async with self._turn:
            return await read_newest(self._connection, collection_id, numbers)

    async def stream(self, aggregate_id: UUID) -> list[RecordedEvent]:
        async with self._turn:
            return await read_whole_stream(self._connection, aggregate_id)

    async def log_id(self) -> UUID:
        async with self._turn:
            return await read_log_id(self._connection)

    async def head(self) -> Head:
        async with self._turn:
            return await read_head(self._connection)

    async def now(self) -> datetime:
        """By the clock that events are stamped with."""
        async with self._turn:
            return await read_clock(self._connection)

    async def timestamp_at(self, position: int) -> datetime:
        """
        Raises:
            LogCorruptionError: the log has no such position.
        """
        async with self._turn:
            return await read_timestamp_at(self._connection, position)

    async def position_at(self, time: datetime) -> int:
        """Of the last event that is not later than `time`; 0 if there is none."""
        async with self._turn:
            return await read_position_at(self._connection, time)

    async def extent(self, collection_id: UUID, to: int, timeout_seconds: float) -> Extent:
        """How much the log has of a collection and its vectors up to position `to`."""
        async with self._turn:
            return await read_extent(self._connection, collection_id, to, timeout_seconds=timeout_seconds)

    async def gaps(self, to: int, timeout_seconds: float) -> Gaps:
        """What is missing of the positions 1 to `to`."""
        async with self._turn:
            return await read_gaps(self._connection, to, timeout_seconds=timeout_seconds)

    async def streams(self, aggregate_ids: Sequence[UUID], after: int, limit: int | None = None) -> list[RecordedEvent]:
        """The next events of these aggregates beyond position `after`, in order of position; none only if there are
        none. Without a limit all of them."""
        async with self._turn:
            return await read_streams(self._connection, aggregate_ids, after=after, limit=limit)

    async def at(self, positions: Sequence[int]) -> list[RecordedEvent]:
        """The events at these positions, in order."""
        async with self._turn:
            return await read_events_at(self._connection, positions)

    async def near(self, collection_id: UUID, positions: Sequence[int]) -> list[UUID]:
        """For each position the aggregate of the next event of the collection's vectors, if there is one; each once."""
        async with self._turn:
            return await read_aggregates_near(self._connection, collection_id, positions)

    async def feed(self) -> Feed | None:
        """
        Raises:
            ServerChangedError
        """
        async with self._turn:
            feed = await read_feed(self._connection)
            if await read_server_started(self._connection) != self._server_started:
                raise ServerChangedError
            return feed

    async def event_ids(self, positions: Sequence[int]) -> dict[int, UUID]:
        async with self._turn:
            return await read_event_ids(self._connection, positions)

    async def creations(self, timeout_seconds: float) -> list[RecordedEvent]:
        """The first event of each collection, in order of position."""
        async with self._turn:
            return await read_creations(self._connection, timeout_seconds=timeout_seconds)

    async def deleted_of(self, aggregate_ids: Sequence[UUID]) -> set[UUID]:
        """The collections that were deleted, of those that have their events in these streams."""
        async with self._turn:
            return await read_deleted(self._connection, aggregate_ids)

    async def alias_events(self, timeout_seconds: float) -> list[RecordedEvent]:
        """Of all aliases, in order of position."""
        async with self._turn:
            return await read_alias_events(self._connection, timeout_seconds=timeout_seconds)

    async def collection_stream(self, collection_id: UUID) -> list[RecordedEvent]:
        async with self._turn:
            return await read_collection_stream(self._connection, collection_id)


@asynccontextmanager
async def opened_event_log(settings: ProjectorSettings) -> AsyncIterator[EventLog]:
    """
    Raises:
        One of `CONNECTION_LOST`: the event database cannot be reached.
    """
    connection = await connect(settings.events_dsn.get_secret_value(), settings)
    try:
        yield EventLog(connection, await read_server_started(connection), settings.batch_max_bytes)
    finally:
        connection.terminate()
