"""The change feed: the events of a tenant as server-sent events, from any position on, without a gap or a repetition.

Positions are gapless and in commit order, so the feed is an ordered read; where it stands is the id of its last
message. While nothing matches, heartbeats move that id along, so that who comes back does not read it all again.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from uuid import UUID

import orjson
import structlog

from query_service.errors import (
    BeyondTheHeadError,
    EventLogUnavailableError,
    TooManyFeedsError,
)
from query_service.event_reader import EventReader
from query_service.history import described
from query_service.parts import Include
from query_service.settings import QuerySettings
from shared.freshness import ForeignTokenError

_MESSAGE_ID = re.compile(r"(\d{1,18})(?:@([0-9a-f-]{36}))?\Z")
_RETRY_MILLISECONDS = 1000

_log = structlog.get_logger("feed")


@dataclass(frozen=True, slots=True)
class FeedPosition:
    """`log_id` None: of whichever log there is."""

    position: int
    log_id: UUID | None = None


def read_message_id(text: str) -> FeedPosition | None:
    """The position that a message's id names, `<position>` or `<position>@<log_id>`; None if it is none."""
    found = _MESSAGE_ID.match(text)
    if found is None:
        return None
    try:
        return FeedPosition(int(found[1]), UUID(found[2]) if found[2] else None)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Selection:
    """Whose events: of one collection, of some types, or all of the tenant's."""

    tenant: str
    collection_id: UUID | None
    event_types: Sequence[str] | None
    include: Include


class Feeds:
    """All open feeds of this process. One poll of the head serves all that wait."""

    def __init__(self, events: EventReader, settings: QuerySettings) -> None:
        self._events = events
        self._max_feeds = settings.max_feeds
        self._poll_interval_seconds = settings.feed_poll_interval_seconds
        self._heartbeat_seconds = settings.feed_heartbeat_seconds
        self._open = 0
        self._moved = asyncio.Condition()
        self._head = 0
        self._polling: asyncio.Task[None] | None = None
        self._ended = False

    async def open(self, selection: Selection, start: FeedPosition | None, parameter: str) -> AsyncIterator[bytes]:
        """The feed's messages, as bytes of `text/event-stream`. `start` None: from now on.

        Raises:
            BeyondTheHeadError, ForeignTokenError, TooManyFeedsError, EventLogUnavailableError
        """
        if self._open >= self._max_feeds:
            raise TooManyFeedsError(self._open)
        head, log_id = await self._events.head()
        if start is not None and start.log_id not in (None, log_id):
            raise ForeignTokenError("the feed was read from another event log, perhaps from before a restore")
        if start is not None and start.position > head:
            raise BeyondTheHeadError(parameter, start.position, head)
        return self._messages(selection, head if start is None else start.position, log_id)

    async def stop(self) -> None:
        """Ends all feeds, so that their readers come back to another process."""
        self._ended = True
        if self._polling is not None:
            self._polling.cancel()
        async with self._moved:
            self._moved.notify_all()

    async def _messages(self, selection: Selection, position: int, log_id: UUID) -> AsyncIterator[bytes]:
        self._open += 1
        try:
            yield f"retry: {_RETRY_MILLISECONDS}\nid: {position}@{log_id}\n\n".encode()
            told_at = time.monotonic()
            while not self._ended:
                window = await self._events.window(
                    position, selection.tenant, selection.collection_id, selection.event_types
                )
                if window.log_id != log_id:
                    return
                for event in window.events:
                    data = orjson.dumps(described(event, selection.include), option=orjson.OPT_SERIALIZE_NUMPY).decode()
                    yield f"id: {event.position}@{log_id}\nevent: {event.event_type}\ndata: {data}\n\n".encode()
                    told_at = time.monotonic()
                position = window.through
                if position >= window.head:
                    await self._beyond(position, told_at + self._heartbeat_seconds)
                if time.monotonic() - told_at >= self._heartbeat_seconds:
                    yield f": at {position}\nid: {position}@{log_id}\n\n".encode()
                    told_at = time.monotonic()
        except EventLogUnavailableError as error:
            _log.warning("a feed ends; its reader may come back", error=str(error))
        finally:
            self._open -= 1

    async def _beyond(self, position: int, until: float) -> None:
        """Waits until the head is beyond the position, but not longer than until this monotonic time."""
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + until - time.monotonic()), self._moved:
                while self._head <= position and not self._ended:
                    if self._polling is None or self._polling.done():
                        self._polling = asyncio.create_task(self._poll_forever(), name="feed poll")
                    await self._moved.wait()
        except TimeoutError:
            pass

    async def _poll_forever(self) -> None:
        """As long as there are feeds."""
        while self._open and not self._ended:
            try:
                head, _log_id = await self._events.head()
            except EventLogUnavailableError:
                head = self._head + 1  # who waits finds out
            if head != self._head:
                async with self._moved:
                    self._head = head
                    self._moved.notify_all()
            await asyncio.sleep(self._poll_interval_seconds)
