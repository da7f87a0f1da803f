"""Answers that are kept: L1 in this process, L2 in Redis.

An entry says in which snapshot it was found. Whether it still holds is decided anew for each request, by a poll: so
nothing depends on an invalidation that may be lost, and a stale replica or an old Redis dump cannot put anything wrong
here, only something useless.
"""

from __future__ import annotations

import asyncio
import hashlib
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import UUID

from cachetools import TTLCache

from query_service.catalogue import LiveCollection
from query_service.metrics import QueryMetrics
from shared.redis import SideCache

L1_ENTRIES = 1_000
L1_BYTES = 64 * 1024 * 1024
LIFETIME_SECONDS = 300
MAX_ENTRY_BYTES = 256 * 1024
"""A larger answer is not kept."""

_MAX_PUTS_UNDER_WAY = 32
_FORMAT = 2
_HEAD = struct.Struct(">BQQq8s")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FOR_EVER = -1


Layer = Literal["l1", "l2"]


@dataclass(frozen=True, slots=True)
class Entry:
    """An answer, and the snapshot that it was found in. `vouched_at` is the last monotonic time at which a statement
    or poll of this process confirmed it. From `valid_until` on it says what is not so any more, whatever confirms it:
    something that it shows has expired then, by the clock of the databases."""

    low: int
    high: int
    payload: bytes
    valid_until: datetime | None
    vouched_at: float = float("-inf")


def entry_key(log_id: UUID, collection: LiveCollection, query: bytes) -> bytes:
    """`query` tells the query from all others over the same tables."""
    digest = hashlib.blake2b(digest_size=20)
    for part in (
        log_id.bytes,
        collection.tenant.encode(),
        collection.collection_id.bytes,
        collection.generation.to_bytes(8),
        collection.revision.bytes,
        repr(collection.retention_seconds).encode(),
        b"" if collection.past is None else collection.past.time.isoformat().encode(),
        query,
    ):
        digest.update(len(part).to_bytes(4))
        digest.update(part)
    return digest.digest()


class AnswerCache:
    """Without `redis` there is only L1."""

    def __init__(self, redis: SideCache | None, metrics: QueryMetrics) -> None:
        self._redis = redis
        self._metrics = metrics
        # A size of at least a thousandth for each bounds both the bytes and the number of entries.
        self._l1: TTLCache[bytes, Entry] = TTLCache(L1_BYTES, LIFETIME_SECONDS, timer=time.monotonic, getsizeof=_weight)
        self._puts: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        for task in self._puts:
            task.cancel()
        await asyncio.gather(*self._puts, return_exceptions=True)
        if self._redis is not None:
            await self._redis.close()

    async def find(self, key: bytes, holds: Callable[[Entry], bool]) -> tuple[Layer, Entry] | None:
        entry = self._l1.get(key)
        if entry is not None and holds(entry):
            self._metrics.cache.labels("l1").inc()
            return "l1", entry
        entry = await self._find_in_redis(key)
        if entry is not None and holds(entry):
            self._metrics.cache.labels("l2").inc()
            self._l1[key] = entry
            return "l2", entry
        self._metrics.cache.labels("none").inc()
        return None

    def keep(self, key: bytes, entry: Entry) -> None:
        """In L1 at once, in Redis beside."""
        if len(entry.payload) > MAX_ENTRY_BYTES:
            return
        present = self._l1.get(key)
        if present is not None and present.low > entry.low:
            return  # another server was ahead
        self._l1[key] = entry
        if self._redis is not None and not self._redis.is_away and len(self._puts) < _MAX_PUTS_UNDER_WAY:
            head = _HEAD.pack(
                _FORMAT, entry.low, entry.high, _microseconds(entry.valid_until), _checksum(entry.payload)
            )
            value = head + entry.payload
            task = asyncio.create_task(self._redis.put(_redis_key(key), value, LIFETIME_SECONDS))
            self._puts.add(task)
            task.add_done_callback(self._puts.discard)

    def vouch(self, key: bytes, entry: Entry, at: float) -> None:
        """Notes in L1 that the entry was confirmed by a poll of this monotonic time."""
        if entry.vouched_at < at:
            self._l1[key] = replace(entry, vouched_at=at)

    async def _find_in_redis(self, key: bytes) -> Entry | None:
        if self._redis is None:
            return None
        value = await self._redis.get(_redis_key(key))
        if value is None or len(value) < _HEAD.size:
            return None
        version, low, high, valid_until, checksum = _HEAD.unpack_from(value)
        payload = value[_HEAD.size :]
        if version != _FORMAT or checksum != _checksum(payload):
            return None
        return Entry(low, high, payload, _instant(valid_until))


def _microseconds(instant: datetime | None) -> int:
    return _FOR_EVER if instant is None else (instant - _EPOCH) // timedelta(microseconds=1)


def _instant(microseconds: int) -> datetime | None:
    return None if microseconds == _FOR_EVER else _EPOCH + timedelta(microseconds=microseconds)


def _checksum(payload: bytes) -> bytes:
    return hashlib.blake2b(payload, digest_size=8).digest()


def _weight(entry: Entry) -> int:
    return max(len(entry.payload), L1_BYTES // L1_ENTRIES)


def _redis_key(key: bytes) -> bytes:
    return b"aindusdb:answer:" + key.hex().encode()
