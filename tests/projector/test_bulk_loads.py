"""Imports that are large against their collection: its index is set aside, and made once, in bulk."""

from __future__ import annotations

from typing import Any

import pytest

from events_schema.collections import IndexSpec
from projector.bulk_loads import is_loading, outrun, set_aside
from projector.claims import claimed
from projector.event_log import opened_event_log
from projector.generations import Generation, read_active
from projector.indexing import index_in_place
from projector.settings import ProjectorSettings
from shared.postgres import CONNECTION_LOST
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
    projection: Projection, log: LogWriter
) -> None:
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
        async with running_bulk_loads(settings), running_upkeep(settings):
            await until(lambda: _gone(projection, articles), "the index was not set aside")
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
            return await is_loading(projection.read, events, articles.collection_id, chosen)

    await _many(log, articles, MUCH - 2)
    assert not await loading()
    await log.create(articles, "one more", (1, 0, 0, 0))
    assert await loading()  # waits
    await projection.catch_up()
    assert await loading()  # came a moment ago
    assert not await loading(bulk_load_min_events=0)

    async def quiet() -> bool:
        return not await loading()

    await until(quiet, "what came is still coming")


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
