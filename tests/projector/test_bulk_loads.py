"""Imports that are large against their collection: its index is set aside, and made once, in bulk."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from math import ceil, inf
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from events_schema.collections import IndexSpec
from projector import bulk_loads, upkeep
from projector.bulk_loads import index_unless_outrun, outrun, seconds_left, seconds_loading, set_aside
from projector.claims import claimed
from projector.errors import GenerationGoneError, LayoutChangedError
from projector.event_log import opened_event_log
from projector.generations import Generation, read_active
from projector.indexing import index_in_place
from projector.settings import ProjectorSettings
from shared.postgres import CONNECTION_LOST, create_pool
from shared.read_model.tables import embeddings_table
from tests.projector.log_writer import LogWriter, NewCollection
from tests.projector.mortal import Mortality
from tests.projector.projecting import (
    Projection,
    projector_settings,
    running_bulk_loads,
    running_consumer,
    running_upkeep,
    until,
)
from tests.projector.rebuilding import rebuilt, replaying, shape_of
from tests.query.conftest import running_service as running_query_service
from tests.servers import connected

MUCH = 40
_NO_INDEX = IndexSpec(kind="none", m=None, ef_construction=None, lists=None)


def _settings(projection: Projection, **changed: Any) -> ProjectorSettings:
    return projector_settings(projection.databases, **{"bulk_load_min_events": MUCH, **changed})


async def _active(projection: Projection, collection: NewCollection) -> Generation:
    [generation] = await read_active(projection.read, [collection.collection_id])
    return generation


async def _indexes(projection: Projection, collection: NewCollection) -> list[bool]:
    """Of those over the collection's embeddings besides the key: whether searches may use it."""
    rows = await projection.read.fetch(
        "SELECT indisvalid FROM pg_index WHERE indrelid = to_regclass($1) AND NOT indisprimary",
        embeddings_table(collection.collection_id, 1),
    )
    return [row["indisvalid"] for row in rows]


async def _outrun(projection: Projection, settings: ProjectorSettings) -> list[Generation]:
    async with opened_event_log(settings) as log:
        return await outrun(projection.read, log, settings)


async def _many(log: LogWriter, collection: NewCollection, count: int, name: str = "v") -> None:
    for number in range(count):
        await log.create(collection, f"{name}{number}", (1, number, 0, 0))


async def test_a_large_import_is_searched_exactly_until_its_index_is_made_once_in_bulk(
    projection: Projection, log: LogWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    async def watched(*asked: Any) -> float:
        nonlocal looks
        looks += 1
        return await seconds_loading(*asked)

    monkeypatch.setattr(upkeep, "seconds_loading", watched)
    articles = await log.create_collection()
    await _many(log, articles, 5, "before")
    await projection.catch_up()
    before = await _active(projection, articles)
    settings = _settings(projection, batch_max_events=10)
    async with (
        connected(projection.databases.read_admin_dsn) as admin,
        running_query_service(projection.databases.read_reader_dsn) as query,
    ):

        async def search() -> dict[str, Any]:
            body = {"embedding": [1, 17, 0, 0], "k": 3, "explain": True, "max_staleness_ms": 0}
            answer = await query.post("/api/v1/collections/articles/vectors/search", json=body)
            assert answer.status_code == 200, answer.text
            return dict(answer.json())

        async def indexed() -> bool:
            return (await _active(projection, articles)).indexed

        assert before.indexed
        assert (await search())["explain"]["scan"] == "index"
        await admin.execute(
            """CREATE TABLE made (command text);
               CREATE FUNCTION count_indexes() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS
               $$ BEGIN INSERT INTO made SELECT command_tag FROM pg_event_trigger_ddl_commands(); END $$;
               CREATE EVENT TRIGGER count_indexes ON ddl_command_end WHEN TAG IN ('CREATE INDEX')
               EXECUTE FUNCTION count_indexes()"""
        )
        await _many(log, articles, 2 * MUCH)
        async with running_bulk_loads(settings):
            await until(lambda: _gone(projection, articles), "the index was not set aside")
            # It looks again when the load may be over, and not after an hour.
            looking_rarely = settings.model_copy(update={"upkeep_interval_seconds": 3600.0})
            async with running_upkeep(looking_rarely):
                await until(lambda: looks > 2, "nobody looks at what is still to come")
                assert await admin.fetchval("SELECT count(*) FROM made") == 0
                async with running_consumer(settings):
                    await until(projection.caught_up, "the projector did not catch up")
                    meanwhile = await search()
                    assert meanwhile["explain"]["scan"] == "exact"
                    assert meanwhile["hits"][0]["id"] == "v17"
                    await until(indexed, "the index was not made")
                    await until(lambda: _uses_index(search), "searches do not use the index")
                    assert (await search())["hits"] == meanwhile["hits"]
        assert await admin.fetchval("SELECT count(*) FROM made") == 1
    assert await _indexes(projection, articles) == [True]
    assert (await _active(projection, articles)).indexed_rows == 2 * MUCH + 5
    await projection.assert_projected()


async def _gone(projection: Projection, collection: NewCollection) -> bool:
    return not await _indexes(projection, collection)


async def _uses_index(search: Any) -> bool:
    return bool((await search())["explain"]["scan"] == "index")


async def test_what_is_not_large_leaves_the_index_alone(projection: Projection, log: LogWriter) -> None:
    articles = await log.create_collection()
    plain = await log.create_collection("plain", index=_NO_INDEX)
    settings = _settings(projection)
    await _many(log, articles, MUCH)
    assert await _outrun(projection, settings) == []  # the read model does not know it yet
    await projection.catch_up()
    assert await _outrun(projection, settings) == []
    await _many(log, plain, MUCH)
    await _many(log, articles, MUCH - 1, "w")
    assert await _outrun(projection, settings) == []
    await log.create(articles, "the one that makes them many", (1, 0, 0, 0))
    [found] = await _outrun(projection, settings)
    assert found.collection_id == articles.collection_id
    assert await _outrun(projection, _settings(projection, bulk_load_max_rows=MUCH - 1)) == []
    await projection.catch_up()
    await _many(log, articles, MUCH, "x")
    await projection.catch_up()
    # There are 120 by now, and what waits of others does not count.
    await _many(log, plain, 20, "w")
    await _many(log, articles, 59, "y")
    assert await _outrun(projection, settings) == []
    await _many(log, articles, 1, "z")
    assert len(await _outrun(projection, settings)) == 1
    async with connected(projection.databases.events_owner_dsn) as owner:
        await owner.execute("UPDATE log_identity SET log_id = gen_random_uuid()")
    assert await _outrun(projection, settings) == []


async def test_what_comes_lately_is_still_coming(projection: Projection, log: LogWriter) -> None:
    articles = await log.create_collection()
    settings = _settings(projection)

    async def loading(**changed: Any) -> bool:
        async with opened_event_log(settings) as events:
            chosen = _settings(projection, **changed)
            return await seconds_loading(projection.read, events, articles.collection_id, chosen) > 0

    async def quiet() -> bool:
        return not await loading()

    await _many(log, articles, MUCH - 2)
    assert not await loading()
    await log.create(articles, "one more", (1, 0, 0, 0))
    assert await loading()  # waits
    await projection.catch_up()
    await until(quiet, "what came is still coming")
    log.pace = timedelta(hours=1)
    await _many(log, articles, MUCH, "w")
    await projection.catch_up()
    assert await loading()  # came this moment, as it seems
    assert not await loading(bulk_load_min_events=0)


@example(batch=2_500, slowness=1.0, passed=0.95)
@given(batch=st.integers(1, 2_500), slowness=st.floats(0.01, 1), passed=st.floats(0, 1, exclude_max=True))
def test_a_load_is_not_over_between_its_batches(batch: int, slowness: float, passed: float) -> None:
    """At 2,000 events a second or more. `passed` is the share of the time from one batch to the next."""
    interval = slowness * batch / 2_000

    def age(number: int) -> float:
        return (passed + ceil(number / batch) - 1) * interval

    assert seconds_left(age(500), age(2_000), age(5_000)) > 0


@given(few=st.floats(0, 1), much=st.floats(0, 1), many=st.floats(0, 1) | st.just(inf))
def test_what_is_left_of_a_load_passes_like_time(few: float, much: float, many: float) -> None:
    few, much, many = few, few + much, few + much + many
    left = seconds_left(few, much, many)
    assert left <= 2
    assert seconds_left(few + 1, much + 1, many + 1) == pytest.approx(left - 1)


def test_a_fast_load_is_over_after_half_a_second() -> None:
    assert seconds_left(0.03, 0.1, 0.27) == pytest.approx(0.47)
    assert seconds_left(0.53, 0.6, 0.77) < 0
    # Of those of which there is nothing to be told from, and of slow ones, it is waited for two.
    assert seconds_left(0.53, 0.6, inf) == pytest.approx(1.4)
    assert seconds_left(0.6, 1.5, 3.5) == pytest.approx(0.5)


async def test_each_load_is_waited_for_as_long_as_the_settings_say(projection: Projection, log: LogWriter) -> None:
    articles = await log.create_collection()
    settings = _settings(projection, bulk_load_max_seconds=600.0)
    one = upkeep.Upkeep(settings)

    async def waits() -> bool:
        return await one._waits(projection.read, articles.collection_id)

    await _many(log, articles, MUCH)
    assert await waits()
    one._due_since[articles.collection_id] -= 601
    assert not await waits()
    await projection.catch_up()
    pool = await create_pool(settings.read_dsn.get_secret_value(), settings, max_size=1)
    assert await one._due(pool) == []  # The index is there.
    pool.terminate()
    await _many(log, articles, MUCH, "w")
    assert await waits()


@pytest.mark.parametrize("dies_before", [True, False])
async def test_whatever_dies_while_an_index_is_set_aside_the_next_goes_on(
    projection: Projection, log: LogWriter, dies_before: bool
) -> None:
    articles = await log.create_collection()
    await _many(log, articles, 3)
    await projection.catch_up()
    settings = _settings(projection)
    generation = await _active(projection, articles)
    deaths = 0
    while True:
        mortality = Mortality([(deaths + 1, dies_before)])
        connection = await mortality.connect(projection.databases.read_dsn, settings, vectors=True)
        try:
            await set_aside(connection, generation, settings)
        except CONNECTION_LOST:
            deaths += 1
            # Else nobody would make it again, should nothing more come.
            assert not (await _active(projection, articles)).indexed or await _indexes(projection, articles)
            await log.create(articles, f"after death {deaths}", (1, deaths, 0, 0))
            await projection.catch_up()
        else:
            break
        finally:
            connection.terminate()
    assert deaths > 4
    aside = await _active(projection, articles)
    assert (aside.indexed, await _indexes(projection, articles)) == (False, [])
    async with claimed(articles.collection_id, settings) as session:
        assert session is not None
        await index_in_place(session, aside, settings)
    assert await _indexes(projection, articles) == [True]
    await projection.assert_projected()


async def test_after_its_time_an_index_is_made_whatever_comes(projection: Projection, log: LogWriter) -> None:
    articles = await log.create_collection()
    await projection.catch_up()
    await projection.read.execute("UPDATE generations SET indexed = false")
    await _many(log, articles, MUCH)

    async def indexed() -> bool:
        return (await _active(projection, articles)).indexed

    async with running_upkeep(_settings(projection, bulk_load_max_seconds=0.2)):
        await until(indexed, "the index was not made")
    assert not await projection.caught_up()


async def test_an_index_is_given_up_when_the_load_goes_on_while_it_is_made(
    projection: Projection, log: LogWriter
) -> None:
    articles = await log.create_collection()
    await _many(log, articles, MUCH)
    await projection.catch_up()
    settings = _settings(projection)
    asked = 0
    may_give_up = True

    def ask() -> bool:
        nonlocal asked
        asked += 1
        return may_give_up

    async def goes_on_for(times: int) -> None:
        enough = asked + times
        await until(lambda: asked >= enough or making.done(), "nobody looks whether more comes")
        assert not making.done()
        assert await _is_making(projection)

    async def given_up() -> bool:
        return not await _is_making(projection)

    log.pace = timedelta(hours=1)  # what comes has come this moment, as it seems
    async with (
        claimed(articles.collection_id, settings) as session,
        connected(projection.databases.read_dsn) as writer,
    ):
        assert session is not None
        await set_aside(session, await _active(projection, articles), settings)
        aside = await _active(projection, articles)
        transaction = writer.transaction()
        await transaction.start()
        await writer.execute(f"LOCK TABLE {aside.embeddings} IN ROW EXCLUSIVE MODE")
        making = asyncio.create_task(index_unless_outrun(session, aside, settings, ask))
        await until(lambda: _is_making(projection), "the index was not begun")
        await _many(log, articles, MUCH - 1, "w")
        await goes_on_for(3)
        may_give_up = False
        await goes_on_for(1)  # whoever was told before has looked
        await _many(log, articles, 1, "the one that makes them many")
        await goes_on_for(3)
        may_give_up = True
        await until(given_up, "the index was not given up")
        await transaction.rollback()
        await making
        assert (await _active(projection, articles)).indexed is False
        assert await _indexes(projection, articles) == []
        await index_unless_outrun(session, aside, settings, ask)
    assert (await _active(projection, articles)).indexed
    assert await _indexes(projection, articles) == [True]
    await projection.assert_projected()


async def _is_making(projection: Projection) -> bool:
    """CONCURRENTLY waits for whoever has the table locked for writing."""
    making: bool = await projection.read.fetchval(
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'CREATE INDEX CONCURRENTLY%' "
        "AND datname = current_database()"
    )
    return making


async def test_an_index_that_was_left_behind_is_set_aside_too(projection: Projection, log: LogWriter) -> None:
    articles = await log.create_collection()
    await projection.catch_up()
    await projection.read.execute("UPDATE generations SET indexed = false")
    await _many(log, articles, MUCH)
    [found] = await _outrun(projection, settings := _settings(projection))
    async with claimed(articles.collection_id, settings) as session:
        assert session is not None
        await set_aside(session, found, settings)
    assert await _outrun(projection, settings) == []


async def test_only_the_index_of_the_active_generation_is_set_aside(projection: Projection, log: LogWriter) -> None:
    articles = await log.create_collection()
    await log.create(articles, "a")
    await projection.catch_up()
    before = await _active(projection, articles)
    async with replaying(projection) as replay:
        await rebuilt(replay, articles.collection_id, shape_of(articles), keep_old=True)
        with pytest.raises(GenerationGoneError):
            await set_aside(replay.connection, before, replay.settings)
    assert await _indexes(projection, articles) == [True]


async def test_an_index_that_cannot_be_set_aside_is_left_alone_for_a_while(
    projection: Projection, log: LogWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    articles = await log.create_collection()
    await projection.catch_up()
    await _many(log, articles, MUCH)
    looks = tries = 0

    async def watched(*asked: Any) -> list[Generation]:
        nonlocal looks
        looks += 1
        return await outrun(*asked)

    async def refused(*_asked: Any) -> None:
        nonlocal tries
        tries += 1
        raise LayoutChangedError

    monkeypatch.setattr(bulk_loads, "outrun", watched)
    monkeypatch.setattr(bulk_loads, "set_aside", refused)
    async with running_bulk_loads(_settings(projection)):
        await until(lambda: looks > 3, "nobody looks at what comes")
    assert tries == 1
