"""Being told of changes by the projector, through Redis. A hint: a poll that does not show them yet is replaced before
its time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
from pydantic import ValidationError
from redis.exceptions import RedisError

from events_schema.notifications import CHANGES_CHANNEL, ChangeNotification
from shared.redis import open_redis

_RESUBSCRIBE_SECONDS = 1.0

_log = structlog.get_logger("changes")


async def follow_changes(url: str, changed: Callable[[int], None]) -> None:
    """Calls `changed` with the position of each announced change, until it is cancelled."""
    redis = open_redis(url, timeout_seconds=None)
    away = False
    try:
        while True:
            try:
                async with redis.pubsub(ignore_subscribe_messages=True) as subscription:
                    await subscription.subscribe(CHANGES_CHANNEL)
                    away = False
                    async for message in subscription.listen():
                        if (notification := _notification(message["data"])) is not None:
                            changed(notification.position)
            except (RedisError, OSError) as error:
                if not away:
                    _log.warning("no changes are heard of for now; reads poll", error=repr(error))
                away = True
            await asyncio.sleep(_RESUBSCRIBE_SECONDS)
    finally:
        await redis.aclose()


def _notification(data: bytes) -> ChangeNotification | None:
    try:
        return ChangeNotification.model_validate_json(data)
    except ValidationError:
        return None
