"""L1 and L2; L3 passes the same contract where its table is."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from aindusdb.local_stack.ports import free_port
from shared.embedding import caches
from shared.embedding.caches import MemoryCache, RedisCache, text_digest
from shared.redis import SideCache, open_redis
from tests.embedding.cache_contract import A, B, EmbeddingCacheContract, embedding, scope


class TestMemoryCache(EmbeddingCacheContract):
    @pytest.fixture
    def cache(self) -> MemoryCache:
        return MemoryCache()

    async def test_it_holds_a_thousand_for_five_minutes(
        self, cache: MemoryCache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert (cache._entries.maxsize, cache._entries.ttl) == (1_000, 300)


class TestRedisCache(EmbeddingCacheContract):
    @pytest_asyncio.fixture
    async def cache(self, redis_url: str) -> AsyncIterator[RedisCache]:
        side = SideCache(open_redis(redis_url))
        yield RedisCache(side)
        await side.close()

    async def test_entries_end_after_an_hour(self, cache: RedisCache, redis_url: str) -> None:
        of = scope()
        await cache.keep(of, {A: embedding(1, 2, 3)})
        redis = Redis.from_url(redis_url)
        assert 3_590 <= await redis.ttl(caches._key(of, A)) <= 3_600
        await redis.aclose()

    @pytest.mark.parametrize("damage", [b"", b"x", b"x" * 21])
    async def test_damaged_entry_is_none(self, cache: RedisCache, redis_url: str, damage: bytes) -> None:
        of = scope()
        await cache.keep(of, {A: embedding(1, 2, 3), B: embedding(1, 2, 3)})
        redis = Redis.from_url(redis_url)
        await redis.set(caches._key(of, A), damage)
        await redis.aclose()
        assert (await cache.find(of, [A, B])).keys() == {B}


async def test_redis_that_is_away_is_a_miss_and_is_left_alone_for_a_second() -> None:
    side = SideCache(open_redis(f"redis://127.0.0.1:{free_port()}"))
    cache = RedisCache(side)
    assert await cache.find(scope(), [A]) == {}
    assert side.is_away
    started = time.monotonic()
    for _ in range(100):
        await cache.keep(scope(), {A: embedding(1, 2, 3)})
        assert await cache.find(scope(), [A]) == {}
    assert time.monotonic() - started < 1
    await side.close()


def test_the_same_text_has_another_digest_for_another_purpose() -> None:
    assert text_digest("a", "content") != text_digest("a", "query")
