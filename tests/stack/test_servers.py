"""The fixtures themselves: what each role of a test's databases may and may not do."""

from __future__ import annotations

import os

import asyncpg
import pytest
from redis.asyncio import Redis

from tests.servers import DatabaseFactory, Databases, connected


async def test_both_databases_are_migrated_and_empty(databases: Databases) -> None:
    async with connected(databases.events_dsn) as events, connected(databases.read_dsn) as read:
        assert await events.fetchval("SELECT count(*) FROM events") == 0
        assert await read.fetchval("SELECT count(*) FROM projection_checkpoints") == 0
        assert await read.fetchval("SELECT '[1,2]'::vector <-> '[1,3]'::vector") == 1.0


async def test_each_role_may_do_its_own_work_only(databases: Databases) -> None:
    async with connected(databases.read_dsn) as projector, connected(databases.read_reader_dsn) as query:
        await projector.execute("CREATE TABLE made_later (id int)")
        assert await query.fetch("SELECT * FROM made_later") == []
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await query.execute("INSERT INTO made_later VALUES (1)")
    async with connected(databases.projector_events_dsn) as projector:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await projector.execute("DELETE FROM events")
    async with connected(databases.command_read_dsn) as command:
        assert await command.fetch("SELECT * FROM collections") == []


async def test_no_more_processes_make_an_index_than_there_are_processors(databases: Databases) -> None:
    async with connected(databases.read_dsn) as read:
        assert int(await read.fetchval("SHOW max_parallel_maintenance_workers")) < (os.cpu_count() or 1)


async def test_every_pair_has_a_log_of_its_own(databases: Databases, database_factory: DatabaseFactory) -> None:
    read_identity = "SELECT log_id FROM log_identity"
    async with (
        database_factory.pair() as other,
        connected(databases.events_dsn) as ours,
        connected(other.events_dsn) as theirs,
    ):
        assert await ours.fetchval(read_identity) != await theirs.fetchval(read_identity)


async def test_redis_answers(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as client:
        assert await client.ping()
