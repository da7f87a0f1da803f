"""Indexes that need rows: made beside the projection, once, whatever dies meanwhile."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from events_schema.collections import IndexSpec
from projector.generations import read_active
from projector.indexes import index_name
from projector.indexing import make_index, parallel_workers
from shared.read_model.tables import embeddings_table
from tests.projector.log_writer import LogWriter, NewCollection
from tests.projector.projecting import Projection, projector_settings, running_consumer, running_upkeep, until
from tests.servers import connected

_IVFFLAT = IndexSpec(kind="ivfflat", m=None, ef_construction=None, lists=None)
ENOUGH_ROWS = 30


async def _generation(projection: Projection, collection: NewCollection) -> asyncpg.Record:
    row = await projection.read.fetchrow(
        """SELECT g.*, s.revision, s.position
           FROM generations g JOIN collection_state s USING (collection_id, generation) WHERE collection_id = $1""",
        collection.collection_id,
    )
    assert row is not None
    return row


async def _indexes(projection: Projection, collection: NewCollection) -> dict[str, bool]:
    """The indexes over the collection's embeddings besides the key, and whether searches may use them."""
    rows = await projection.read.fetch(
        """SELECT indexrelid::regclass::text AS name, indisvalid FROM pg_index
           WHERE indrelid = to_regclass($1) AND NOT indisprimary""",
        embeddings_table(collection.collection_id, 1),
    )
    return {row["name"]: row["indisvalid"] for row in rows}


async def _indexed(projection: Projection, collection: NewCollection) -> bool:
    return bool((await _generation(projection, collection))["indexed"])


def _name(collection: NewCollection) -> str:
    return index_name(embeddings_table(collection.collection_id, 1), "ivfflat")


async def test_an_ivfflat_index_is_made_once_there_are_enough_rows(projection: Projection, log: LogWriter) -> None:
    articles = await log.create_collection(index=_IVFFLAT)
    await log.create_many(articles, (f"v{number}" for number in range(ENOUGH_ROWS - 1)))
    settings = projector_settings(projection.databases, ivfflat_min_rows=ENOUGH_ROWS)
    async with running_consumer(settings), running_upkeep(settings):
        await until(projection.caught_up, "the projector did not catch up")
        await asyncio.sleep(0.3)
        before = await _generation(projection, articles)
        assert not before["indexed"]
        assert await _indexes(projection, articles) == {}
        await log.create(articles, "the last one that was missing")
        await until(lambda: _indexed(projection, articles), "the index was not made")
        await log.create_many(articles, (f"w{number}" for number in range(10)))
        await log.delete(articles, "v1")
        await until(projection.caught_up, "the projector did not go on")
    after = await _generation(projection, articles)
    assert (after["lists"], after["indexed_rows"]) == (10, ENOUGH_ROWS)
    assert after["revision"] != before["revision"]
    assert after["position"] >= ENOUGH_ROWS + 1  # a reader that polled before learns of it
    assert await _indexes(projection, articles) == {_name(articles): True}
    assert await projection.stored() == await projection.expected()
    await projection.assert_projected()


async def test_a_build_that_was_cut_off_is_done_again(projection: Projection, log: LogWriter) -> None:
    articles = await log.create_collection(index=_IVFFLAT)
    await log.create_many(articles, (f"v{number}" for number in range(ENOUGH_ROWS)))
    await projection.catch_up()
    await _cut_off_build(projection, articles)
    assert await _indexes(projection, articles) == {_name(articles): False}
    settings = projector_settings(projection.databases, ivfflat_min_rows=ENOUGH_ROWS)
    async with running_upkeep(settings):
        await until(lambda: _indexed(projection, articles), "the index was not made")
    assert await _indexes(projection, articles) == {_name(articles): True}


async def _cut_off_build(projection: Projection, collection: NewCollection) -> None:
    """An index whose making was ended from outside while it waited for an older transaction."""
    table = embeddings_table(collection.collection_id, 1)
    async with connected(projection.databases.read_dsn) as writer, connected(projection.databases.read_dsn) as builder:
        await writer.execute(f"BEGIN; DELETE FROM {table} WHERE false")
        building = asyncio.create_task(
            builder.execute(
                f"CREATE INDEX CONCURRENTLY {_name(collection)} ON {table} USING ivfflat (embedding vector_cosine_ops)"
            )
        )

        async def begun() -> bool:
            return bool(await _indexes(projection, collection))

        await until(begun, "the build did not begin")
        await projection.read.execute("SELECT pg_cancel_backend($1)", builder.get_server_pid())
        with pytest.raises(asyncpg.QueryCanceledError):
            await building


@pytest.mark.parametrize(("asked_for", "found"), [(None, "7"), (3, "3"), (0, "0")])
async def test_the_database_says_how_many_processes_make_an_index_unless_a_setting_does(
    projection: Projection, log: LogWriter, asked_for: int | None, found: str
) -> None:
    articles = await log.create_collection(index=_IVFFLAT)
    await log.create(articles, "v", (1, 0, 0, 0))
    await projection.catch_up()
    [generation] = await read_active(projection.read, [articles.collection_id])
    settings = projector_settings(projection.databases, index_parallel_workers=asked_for)
    await projection.read.execute("SET max_parallel_maintenance_workers = 7")
    await make_index(projection.read, generation, settings, concurrently=False)
    assert await projection.read.fetchval("SHOW max_parallel_maintenance_workers") == found
    assert await parallel_workers(projection.read, settings) == int(found)


async def test_an_index_that_nobody_was_told_of_is_taken_as_it_is(projection: Projection, log: LogWriter) -> None:
    articles = await log.create_collection(index=_IVFFLAT)
    await log.create_many(articles, (f"v{number}" for number in range(ENOUGH_ROWS)))
    await projection.catch_up()
    table = embeddings_table(articles.collection_id, 1)
    await projection.read.execute(
        f"CREATE INDEX {_name(articles)} ON {table} USING ivfflat (embedding vector_cosine_ops) WITH (lists = 3)"
    )
    oid = await projection.read.fetchval("SELECT to_regclass($1)::oid", _name(articles))
    settings = projector_settings(projection.databases, ivfflat_min_rows=ENOUGH_ROWS)
    async with running_upkeep(settings):
        await until(lambda: _indexed(projection, articles), "the index was not found")
    assert (await _generation(projection, articles))["lists"] == 3
    assert await projection.read.fetchval("SELECT to_regclass($1)::oid", _name(articles)) == oid


async def test_of_several_projectors_one_makes_the_index(projection: Projection, log: LogWriter) -> None:
    articles = await log.create_collection(index=_IVFFLAT)
    await log.create_many(articles, (f"v{number}" for number in range(ENOUGH_ROWS)))
    await projection.catch_up()
    async with connected(projection.databases.read_admin_dsn) as admin:
        await admin.execute(
            """CREATE TABLE made (command text);
               CREATE FUNCTION count_indexes() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS
               $$ BEGIN INSERT INTO made SELECT command_tag FROM pg_event_trigger_ddl_commands(); END $$;
               CREATE EVENT TRIGGER count_indexes ON ddl_command_end WHEN TAG IN ('CREATE INDEX')
               EXECUTE FUNCTION count_indexes()"""
        )
        settings = projector_settings(projection.databases, ivfflat_min_rows=ENOUGH_ROWS)
        async with running_upkeep(settings), running_upkeep(settings), running_upkeep(settings):
            await until(lambda: _indexed(projection, articles), "the index was not made")
            await asyncio.sleep(0.3)
        assert await admin.fetchval("SELECT count(*) FROM made") == 1


async def test_a_collection_that_is_deleted_while_it_is_indexed_is_left_alone(
    projection: Projection, log: LogWriter
) -> None:
    articles, books = [await log.create_collection(name, index=_IVFFLAT) for name in ("articles", "books")]
    for collection in (articles, books):
        await log.create_many(collection, (f"v{number}" for number in range(ENOUGH_ROWS)))
    await projection.catch_up()
    settings = projector_settings(projection.databases, ivfflat_min_rows=ENOUGH_ROWS)
    async with connected(projection.databases.read_dsn) as writer, running_upkeep(settings):
        await writer.execute(f"BEGIN; DELETE FROM {embeddings_table(articles.collection_id, 1)} WHERE false")

        async def begun() -> bool:
            return bool(await _indexes(projection, articles))

        await until(begun, "the build did not begin")
        await log.delete_collection(articles)
        await projection.catch_up()
        await writer.execute("COMMIT")
        await until(lambda: _indexed(projection, books), "the other collection was not indexed")
    await projection.assert_projected()
