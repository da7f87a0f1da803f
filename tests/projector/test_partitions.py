"""Tables divided by month: every vector has one place, in a partition that is made when it is needed."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events_schema.collections import IndexSpec
from projector.generations import Generation, read_generations
from projector.indexing import tables_of_embeddings
from projector.partitions import MAX_PARTITIONS, Month, Span, make_partitions
from projector.retirement import drop_retired_tables
from shared.read_model.tables import embeddings_table, records_table
from tests.projector.log_writer import LogWriter, NewCollection
from tests.projector.projecting import Projection, projector_settings, running_consumer, running_upkeep, until
from tests.servers import connected

_IVFFLAT = IndexSpec(kind="ivfflat", m=None, ef_construction=None, lists=None)

_moments = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001


@given(began=st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)), moment=_moments)  # noqa: DTZ001
def test_every_moment_lies_within_the_bounds_of_its_place_and_places_are_few(began: datetime, moment: datetime) -> None:
    span = Span(Month.of(began))
    low, high = span.bounds(span.place(Month.of(moment)))
    said = f"'{moment.year:04}-{moment:%m-%dT%H:%M:%SZ}'"
    assert low == "MINVALUE" or low <= said
    assert high == "MAXVALUE" or said < high
    places = {span.place(span.first.later(months)) for months in range(-30, 3 * MAX_PARTITIONS)}
    assert len(places) == MAX_PARTITIONS
    in_order = sorted(places)
    for before, after in pairwise(in_order):
        assert span.bounds(before)[1] == span.bounds(after)[0]


@pytest.fixture
def by_month(log: LogWriter) -> LogWriter:
    log.month_partitions = True
    return log


async def _generation(projection: Projection, collection: NewCollection) -> Generation:
    [found] = await read_generations(projection.read, collection.collection_id)
    return found


async def _indexes(connection: asyncpg.Connection, table: str) -> list[int | None]:
    """The lists of the search indexes over this one."""
    rows = await connection.fetch(
        """SELECT (SELECT option_value::int FROM pg_options_to_table(c.reloptions) WHERE option_name = 'lists') AS lists
           FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
           WHERE i.indrelid = to_regclass($1) AND a.amname IN ('hnsw', 'ivfflat') AND i.indisvalid""",
        table,
    )
    return [row["lists"] for row in rows]


async def test_a_batch_over_more_months_than_have_partitions_is_projected_at_once(
    projection: Projection, by_month: LogWriter
) -> None:
    articles = await by_month.create_collection()
    by_month.pace = timedelta(days=31)
    await by_month.create_many(articles, (f"v{number}" for number in range(MAX_PARTITIONS + 10)))
    await projection.catch_up()
    tables = await tables_of_embeddings(projection.read, await _generation(projection, articles))
    assert MAX_PARTITIONS - 10 < len(tables) <= MAX_PARTITIONS
    assert await projection.stored() == await projection.expected()
    last = await projection.read.fetchval(f"SELECT count(*) FROM {tables[-1]}")
    assert last > 10
    assert all([await _indexes(projection.read, table) == [None] for table in tables])


async def test_a_vector_that_comes_again_in_another_month_is_there_once(
    projection: Projection, by_month: LogWriter
) -> None:
    articles = await by_month.create_collection()
    by_month.pace = timedelta(days=40)
    await by_month.create(articles, "a")
    await by_month.create(articles, "b")
    await projection.catch_up()
    # Both ways: a deletion and a creation in one batch, and each in its own.
    await by_month.delete(articles, "a")
    await by_month.create(articles, "a", content="again")
    await by_month.delete(articles, "b")
    await projection.catch_up()
    await by_month.create(articles, "b", content="again")
    await by_month.update(articles, "a", embedding=(4, 3, 2, 1))
    await projection.assert_projected()
    for table in (records_table, embeddings_table):
        rows = await projection.read.fetch(f"SELECT id FROM {table(articles.collection_id, 1)} ORDER BY id")
        assert [row["id"] for row in rows] == ["a", "b"]


async def test_two_who_meet_a_month_at_once_make_its_partition_once(
    projection: Projection, by_month: LogWriter
) -> None:
    articles = await by_month.create_collection()
    await projection.catch_up()
    generation = await _generation(projection, articles)
    moments = [datetime.now(UTC) + timedelta(days=31 * months) for months in range(5)]

    async def make() -> list[Month]:
        async with connected(projection.databases.read_dsn) as connection, connection.transaction():
            made = await make_partitions(connection, generation, moments)
            await asyncio.sleep(0.05)
            return made

    made = await asyncio.gather(make(), make(), make())
    assert sorted(map(len, made)) == [0, 0, 5]
    tables = [generation.embeddings + month.suffix for months in made for month in months]
    assert await tables_of_embeddings(projection.read, generation) == tables


async def test_a_search_under_way_does_not_hold_up_a_new_month(projection: Projection, by_month: LogWriter) -> None:
    articles = await by_month.create_collection()
    await by_month.create(articles, "a")
    await projection.catch_up()
    by_month.pace = timedelta(days=40)
    async with connected(projection.databases.read_reader_dsn) as reader, reader.transaction():
        await reader.fetch(f"SELECT * FROM {embeddings_table(articles.collection_id, 1)}")
        await by_month.create(articles, "b")
        await projection.catch_up()
    assert await projection.stored() == await projection.expected()


async def test_each_month_gets_its_ivfflat_index_once_it_has_the_rows_and_again_when_it_has_outgrown_it(
    projection: Projection, by_month: LogWriter
) -> None:
    articles = await by_month.create_collection(index=_IVFFLAT)
    chosen = projector_settings(projection.databases, ivfflat_min_rows=10)
    async with running_consumer(chosen), running_upkeep(chosen):
        await by_month.create_many(articles, (f"v{number}" for number in range(12)))
        await until(projection.caught_up, "the projector did not catch up")

        async def lists() -> list[list[int | None]]:
            tables = await tables_of_embeddings(projection.read, await _generation(projection, articles))
            return [await _indexes(projection.read, table) for table in tables]

        async def first_has_it() -> bool:
            return await lists() == [[10]] and (await _generation(projection, articles)).indexed

        await until(first_has_it, "the first month was not indexed")
        by_month.pace = timedelta(days=40 / 14)
        await by_month.create_many(articles, (f"w{number}" for number in range(3)))
        await until(projection.caught_up, "the projector did not go on")
        await asyncio.sleep(0.3)
        assert await lists() == [[10], []]
        await by_month.create_many(articles, (f"x{number}" for number in range(8)))

        async def second_has_it() -> bool:
            return (await lists())[1] == [10]

        await until(second_has_it, "the second month was not indexed")
        # As if 20,000 rows had come to the first one.
        [first, *_] = await tables_of_embeddings(projection.read, await _generation(projection, articles))
        await projection.read.execute(
            f"INSERT INTO {first} SELECT 'more ' || n, '[1,2,3,4]', (SELECT min(created_at) FROM {first})"
            " FROM generate_series(1, 20000) n"
        )
        await projection.read.execute(f"ANALYZE {first}")

        async def made_anew() -> bool:
            return (await lists())[0] == [20]

        await until(made_anew, "the first month's index was not made anew")

        async def told() -> bool:
            return (await _generation(projection, articles)).lists == 20

        await until(told, "nobody was told of it")


async def test_tables_of_a_deleted_collection_go_with_their_partitions(
    projection: Projection, by_month: LogWriter
) -> None:
    articles = await by_month.create_collection()
    by_month.pace = timedelta(days=40)
    await by_month.create_many(articles, "abc")
    await projection.catch_up()
    await by_month.delete_collection(articles)
    await projection.catch_up()
    assert len(await drop_retired_tables(projection.read, grace_seconds=0)) == 2
    left = await projection.read.fetch("SELECT relname FROM pg_class WHERE relname ~ '^(records|embeddings)_'")
    assert left == []
