"""Tells Redis which collections changed, how, and up to which position. A hint: the log has it all."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from uuid import UUID

import structlog
from redis.exceptions import RedisError

from events_schema.base import RecordedEvent
from events_schema.notifications import CHANGES_CHANNEL, ChangeNotification, CollectionChange
from shared.redis import open_redis

MAX_PENDING = 10_000
"""Collections that are remembered while Redis is away; of more, nothing is told."""

_RETRY_SECONDS = 1.0

_log = structlog.get_logger("announcer")


class ChangeAnnouncer:
    """Publishes beside the projection, never in its way. What piles up meanwhile goes out as one message."""

    def __init__(self, redis_url: str | None) -> None:
        self._redis_url = redis_url
        self._pending: dict[UUID, CollectionChange] = {}
        self._log_id: UUID | None = None
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def announce(self, log_id: UUID, events: Iterable[RecordedEvent]) -> None:
        """Takes note of applied events and returns at once."""
        if self._redis_url is None:
            return
        if log_id != self._log_id:
            self._pending.clear()
            self._log_id = log_id
        for collection_id, change in changes_of(events).items():
            earlier = self._pending.get(collection_id)
            if earlier is not None or len(self._pending) < MAX_PENDING:
                self._pending[collection_id] = change if earlier is None else _merged(earlier, change)
        if self._pending:
            self._news.set()

    async def start(self) -> None:
        if self._redis_url is not None:
            self._task = asyncio.create_task(self._publish_forever(self._redis_url), name="announcer")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _publish_forever(self, url: str) -> None:
        redis = open_redis(url)
        away = False
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                notification = self._take()
                if notification is None:
                    continue
                try:
                    await redis.publish(CHANGES_CHANNEL, notification.model_dump_json())
                    away = False
                except (RedisError, OSError) as error:
                    if not away:
                        _log.warning("changes are not announced for now; readers poll", error=repr(error))
                    away = True
                    await asyncio.sleep(_RETRY_SECONDS)
        finally:
            await redis.aclose()

    def _take(self) -> ChangeNotification | None:
        changes, self._pending = tuple(self._pending.values()), {}
        if not changes or self._log_id is None:
            return None
        position = max(change.last_position for change in changes)
        return ChangeNotification(log_id=self._log_id, position=position, collections=changes)


def changes_of(events: Iterable[RecordedEvent]) -> dict[UUID, CollectionChange]:
    """What happened to each collection, its vectors included."""
    found: dict[UUID, list[RecordedEvent]] = {}
    for event in events:
        found.setdefault(event.collection_id, []).append(event)
    return {
        collection_id: CollectionChange(
            collection_id=collection_id,
            tenant=of_collection[0].tenant,
            first_position=min(event.position for event in of_collection),
            last_position=max(event.position for event in of_collection),
            kinds=tuple(sorted({event.event_type for event in of_collection})),
        )
        for collection_id, of_collection in found.items()
    }


def _merged(one: CollectionChange, other: CollectionChange) -> CollectionChange:
    return one.model_copy(
        update={
            "first_position": min(one.first_position, other.first_position),
            "last_position": max(one.last_position, other.last_position),
            "kinds": tuple(sorted({*one.kinds, *other.kinds})),
        }
    )
