"""Tells Redis which collections changed and up to which position. A hint: it only hastens what readers poll for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from uuid import UUID

import orjson
import structlog
from redis.exceptions import RedisError

from shared.redis import CHANGES_CHANNEL, open_redis

_RETRY_SECONDS = 1.0

_log = structlog.get_logger("announcer")


class ChangeAnnouncer:
    """Publishes beside the projection, never in its way. What piles up meanwhile goes out as one message."""

    def __init__(self, redis_url: str | None) -> None:
        self._redis_url = redis_url
        self._changed: set[UUID] = set()
        self._position = 0
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def announce(self, collection_ids: Iterable[UUID], position: int) -> None:
        """Returns at once."""
        if self._redis_url is not None:
            self._changed.update(collection_ids)
            self._position = position
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
                changed, self._changed = self._changed, set()
                message = {"collection_ids": sorted(map(str, changed)), "position": self._position}
                try:
                    await redis.publish(CHANGES_CHANNEL, orjson.dumps(message))
                    away = False
                except (RedisError, OSError) as error:
                    if not away:
                        _log.warning("changes are not announced for now; readers poll", error=repr(error))
                    away = True
                    await asyncio.sleep(_RETRY_SECONDS)
        finally:
            await redis.aclose()
