"""Redis as something that may be slow, away or emptied at any time: it only makes things faster."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

_TIMEOUT_SECONDS = 0.1
_AVOIDED_SECONDS = 1.0

_log = structlog.get_logger("redis")


def open_redis(url: str, *, timeout_seconds: float | None = _TIMEOUT_SECONDS) -> Redis:
    """A client that tries everything once. It connects when it is first used. `timeout_seconds` None: for reading what
    may not come for long."""
    return Redis.from_url(
        url,
        socket_connect_timeout=_TIMEOUT_SECONDS if timeout_seconds is None else timeout_seconds,
        socket_timeout=timeout_seconds,
        socket_keepalive=True,
        retry=Retry(NoBackoff(), 0),
    )


class SideCache:
    """What fails is a miss, and for a second nobody asks again."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._avoided_until = float("-inf")

    @property
    def is_away(self) -> bool:
        return time.monotonic() < self._avoided_until

    async def get(self, key: bytes) -> bytes | None:
        if self.is_away:
            return None
        try:
            found = await self._redis.get(key)
        except (RedisError, OSError) as error:
            self._avoid(error)
            return None
        return found if isinstance(found, bytes) else None

    async def put(self, key: bytes, value: bytes, lifetime_seconds: int) -> None:
        if self.is_away:
            return
        try:
            await self._redis.set(key, value, ex=lifetime_seconds)
        except (RedisError, OSError) as error:
            self._avoid(error)

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """One for each key, in their order."""
        if self.is_away or not keys:
            return [None] * len(keys)
        try:
            found = await self._redis.mget(keys)
        except (RedisError, OSError) as error:
            self._avoid(error)
            return [None] * len(keys)
        return [one if isinstance(one, bytes) else None for one in found]

    async def put_many(self, entries: Mapping[bytes, bytes], lifetime_seconds: int) -> None:
        if self.is_away or not entries:
            return
        try:
            async with self._redis.pipeline(transaction=False) as pipeline:
                for key, value in entries.items():
                    pipeline.set(key, value, ex=lifetime_seconds)
                await pipeline.execute()
        except (RedisError, OSError) as error:
            self._avoid(error)

    async def close(self) -> None:
        await self._redis.aclose()

    def _avoid(self, error: Exception) -> None:
        _log.warning("Redis is away; nothing is cached there for now", error=repr(error))
        self._avoided_until = time.monotonic() + _AVOIDED_SECONDS
