"""L3, on a real event database, with the rights that the command service has there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest
import pytest_asyncio

from command_service.embedding_table import EmbeddingTable
from shared.embedding.caches import text_digest
from shared.postgres import Pool, create_pool
from tests.command.conftest import command_settings
from tests.embedding.cache_contract import SPEC, A, B, EmbeddingCacheContract, embedding, scope
from tests.servers import Databases


@pytest_asyncio.fixture(scope="module")
async def pool(databases: Databases) -> AsyncIterator[Pool]:
    async with await create_pool(databases.events_dsn, command_settings(databases), max_size=4) as opened:
        yield opened


def table(pool: Pool, *, max_rows: int = 1_000_000) -> EmbeddingTable:
    return EmbeddingTable(lambda: pool, max_age=timedelta(days=30), max_rows=max_rows)


class TestEmbeddingTable(EmbeddingCacheContract):
    @pytest.fixture
    def cache(self, pool: Pool) -> EmbeddingTable:
        return table(pool)


async def test_what_was_not_used_for_a_month_is_forgotten_and_what_was_used_is_not(
    pool: Pool, log: asyncpg.Connection[asyncpg.Record]
) -> None:
    of, kept = scope(), table(pool)
    await kept.keep(of, {A: embedding(1, 2, 3), B: embedding(4, 5, 6)})
    await log.execute("UPDATE text_embeddings SET used_at = used_at - interval '31 days' WHERE tenant = $1", of.tenant)
    assert (await kept.find(of, [A])).keys() == {A}
    assert await kept.forget() == 1
    assert (await kept.find(of, [A, B])).keys() == {A}


async def test_reading_writes_at_most_once_a_day(pool: Pool, log: asyncpg.Connection[asyncpg.Record]) -> None:
    of, kept = scope(), table(pool)
    await kept.keep(of, {A: embedding(1, 2, 3)})
    before = await log.fetchval("SELECT xmin::text || ctid::text FROM text_embeddings WHERE tenant = $1", of.tenant)
    await kept.find(of, [A])
    after = await log.fetchval("SELECT xmin::text || ctid::text FROM text_embeddings WHERE tenant = $1", of.tenant)
    assert after == before


async def test_beyond_so_many_rows_those_not_used_for_longest_are_forgotten(
    pool: Pool, log: asyncpg.Connection[asyncpg.Record]
) -> None:
    await log.execute("DELETE FROM text_embeddings")
    of, kept = scope(), table(pool, max_rows=10)
    digests = [text_digest(str(number), "content") for number in range(30)]
    for age, digest in enumerate(digests):
        await kept.keep(of, {digest: embedding(age, 0, 0)})
        await log.execute(
            "UPDATE text_embeddings SET used_at = used_at - make_interval(mins => $2) WHERE content_hash = $1",
            digest, age,
        )  # fmt: skip
    assert await kept.forget() == 20
    assert (await kept.find(of, digests)).keys() == set(digests[:10])


async def test_table_that_is_not_there_is_a_miss(databases: Databases) -> None:
    settings = command_settings(databases)
    async with await create_pool(databases.read_admin_dsn, settings, max_size=1) as elsewhere:
        kept = table(elsewhere)
        await kept.keep(scope(), {A: embedding(1, 2, 3)})
        assert await kept.find(scope(), [A]) == {}


async def test_embedding_of_another_length_than_its_spec_says_is_a_miss(
    pool: Pool, log: asyncpg.Connection[asyncpg.Record]
) -> None:
    of, kept = scope(), table(pool)
    await kept.keep(of, {A: embedding(1, 2, 3)})
    await log.execute("UPDATE text_embeddings SET embedding = '\\x00' WHERE tenant = $1", of.tenant)
    assert SPEC.dimension == 3
    assert await kept.find(of, [A]) == {}
