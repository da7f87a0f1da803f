"""What collections' events do to the catalogue and to the collections' tables."""

from __future__ import annotations

import pytest

from projector.event_log import opened_event_log
from projector.projection import project
from projector.retirement import drop_retired_tables
from shared.postgres import connect
from shared.read_model.tables import embeddings_table, records_table
from tests.projector.log_writer import LogWriter
from tests.projector.projecting import Projection, open_redelivering, projector_settings, running_consumer, until
from tests.projector.read_model import read_log
from tests.servers import connected

_WATCH_CHECKPOINTS = """
CREATE TABLE checkpoint_moves (before bigint, after bigint);
CREATE FUNCTION watch_checkpoints() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO checkpoint_moves VALUES (OLD.position, NEW.position);
    RETURN NEW;
END $$;
CREATE TRIGGER watch_checkpoints AFTER UPDATE ON projection_checkpoints
    FOR EACH ROW EXECUTE FUNCTION watch_checkpoints();
"""


async def test_a_deleted_and_recreated_name_starts_empty(projection: Projection, log: LogWriter) -> None:
    before = await log.create_collection("articles")
    await log.create(before, "a", content="old")
    await log.delete_collection(before)
    after = await log.create_collection("articles")
    await projection.assert_projected()
    await projection.assert_projected(batch_max_events=1)
    model = await projection.stored()
    assert model[after.collection_id].vectors == {}
    assert model[before.collection_id].deleted_at is not None


async def test_a_changed_description_is_projected(projection: Projection, log: LogWriter) -> None:
    articles = await log.create_collection()
    await log.update_collection(articles, "news")
    await log.update_collection(articles, None)
    await log.update_collection(articles, "old news")
    await projection.assert_projected(batch_max_events=2)


async def test_events_of_a_deleted_collection_are_dropped(projection: Projection, log: LogWriter) -> None:
    articles, books = await log.create_collection("articles"), await log.create_collection("books")
    await log.create(articles, "a")
    await log.delete_collection(articles)
    await log.create(articles, "late")
    await log.create(books, "b")
    await projection.assert_projected()
    await projection.assert_projected(batch_max_events=1)


@pytest.mark.parametrize("newest_first", [False, True])
async def test_vectors_that_come_before_their_collections_find_them_in_the_log(
    projection: Projection, log: LogWriter, newest_first: bool
) -> None:
    early, gone = await log.create_collection("early"), await log.create_collection("gone")
    await log.create(early, "a", content="early")
    await log.create(gone, "b")
    await log.update_collection(early, "described later")
    await log.delete_collection(gone)
    reborn = await log.create_collection("gone")
    await log.create(reborn, "c")
    events = await read_log(projection.log)
    vectors = sorted(
        (event for event in events if event.aggregate_type == "vector"),
        key=lambda event: event.position,
        reverse=newest_first,
    )
    of_collections = [event for event in events if event.aggregate_type == "collection"]
    settings = projector_settings(projection.databases)
    connection = await connect(projection.databases.read_dsn, settings, vectors=True)
    async with opened_event_log(settings) as event_log:
        for event in (*vectors, *of_collections):
            await project(connection, [event], event_log)
    await connection.close()
    expected = await projection.expected()
    for collection in expected.values():
        collection.last_changed = None  # recorded with the checkpoint only
    assert await projection.stored() == expected
    retired = await projection.read.fetch("SELECT table_name FROM retired_tables ORDER BY table_name")
    tables = [embeddings_table(gone.collection_id, 1), records_table(gone.collection_id, 1)]
    assert [row["table_name"] for row in retired] == ([] if newest_first else tables)


async def test_the_tables_of_a_deleted_collection_are_dropped_when_nobody_uses_them(
    projection: Projection, log: LogWriter
) -> None:
    articles = await log.create_collection()
    await log.create(articles, "a")
    await projection.catch_up()
    records, embeddings = records_table(articles.collection_id, 1), embeddings_table(articles.collection_id, 1)
    await log.delete_collection(articles)
    await projection.catch_up()
    assert await drop_retired_tables(projection.read, grace_seconds=60) == []
    async with connected(projection.databases.read_reader_dsn) as reader:
        async with reader.transaction():
            await reader.fetch(f"SELECT * FROM {records}")
            assert await drop_retired_tables(projection.read, grace_seconds=0) == [embeddings]
            await reader.fetch(f"SELECT * FROM {records}")
        assert await drop_retired_tables(projection.read, grace_seconds=0) == [records]
    assert await projection.read.fetchval("SELECT count(*) FROM retired_tables") == 0


async def test_two_projectors_at_once_neither_double_nor_lose(projection: Projection, log: LogWriter) -> None:
    articles, books = await log.create_collection("articles"), await log.create_collection("books")
    await projection.read.execute(_WATCH_CHECKPOINTS)
    settings = projector_settings(projection.databases, batch_max_events=3)
    async with running_consumer(settings), running_consumer(settings, lambda: open_redelivering(settings)):
        for number in range(60):
            collection = articles if number % 2 else books
            await log.create(collection, f"v{number}")
            await log.update(collection, f"v{number}", content=str(number))
            if number % 3 == 0:
                await log.delete(collection, f"v{number}")
        await until(projection.caught_up, "the projectors did not catch up")
    moves = await projection.read.fetch("SELECT * FROM checkpoint_moves ORDER BY before")
    assert all(row["before"] < row["after"] for row in moves)
    assert sum(row["after"] - row["before"] for row in moves) == await projection.head()
    assert await projection.stored() == await projection.expected()
    await projection.assert_projected()
