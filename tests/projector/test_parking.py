"""Events that cannot be applied are set aside with all that follows them; the others go on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest

from events_schema.embedding import EmbeddingSpec
from events_schema.streams import vector_stream
from events_schema.vectors import VectorCreated
from projector.emptying import empty_read_model
from projector.parking import FOLLOWS
from projector.runs import Run
from projector.source import EventSource, open_log_source
from shared.event_log import read_log_id
from shared.postgres import Connection
from tests.projector.log_writer import LogWriter, NewCollection, embedding
from tests.projector.projecting import Projection, projector_settings, running_consumer, until, watermark
from tests.projector.read_model import empty


async def _append_unknown(log: LogWriter, collection: NewCollection, vector_id: str) -> int:
    stream = vector_stream(collection.collection_id, vector_id)
    return await log.append(collection.collection_id, stream, "vector", "VectorPraised", {"id": vector_id})


@pytest.mark.parametrize("batch", [1, 4, 1000])
async def test_an_unknown_event_is_parked_with_its_followers_while_others_go_on(
    projection: Projection, log: LogWriter, batch: int
) -> None:
    articles = await log.create_collection()
    await log.create(articles, "a", content="before")
    await log.create(articles, "b")
    poison = await _append_unknown(log, articles, "a")
    await log.update(articles, "b", content="goes on")
    followers = {await log.update(articles, "a", content="after"), await log.delete(articles, "a")}
    await log.create(articles, "c")
    await projection.assert_projected({poison, *followers}, batch_max_events=batch)
    vectors = (await projection.stored())[articles.collection_id].vectors
    assert vectors["a"].content == "before"
    assert vectors["b"].content == "goes on"
    parked = await projection.parked()
    assert "VectorPraised" in parked[poison]
    assert {parked[position] for position in followers} == {FOLLOWS}


async def test_a_vector_of_another_dimension_is_parked(projection: Projection, log: LogWriter) -> None:
    articles = await log.create_collection()
    wide = EmbeddingSpec(provider="client", model=None, dimension=5)
    event = VectorCreated(id="wide", embeddings=embedding([1, 2, 3, 4, 5], wide), content=None, metadata={})
    await log.create(articles, "a")
    poison = await log.vector_event(articles, event)
    await log.create(articles, "b")
    await projection.assert_projected({poison})


async def test_an_embedding_shorter_than_its_spec_says_is_parked(projection: Projection, log: LogWriter) -> None:
    articles = await log.create_collection()
    poison = await log.create(articles, "short", values=(1, 2, 3))
    await log.create(articles, "b")
    await projection.assert_projected({poison})


async def test_an_embedding_that_postgres_refuses_is_parked(projection: Projection, log: LogWriter) -> None:
    articles = await log.create_collection(type="halfvec")
    await log.create(articles, "a")
    poison = await log.create(articles, "huge", values=(1e30, 0, 0, 0))
    nan = await log.create(articles, "nan", values=(float("nan"), 0, 0, 0))
    await projection.assert_projected({poison, nan})


async def test_an_update_of_a_vector_that_is_not_there_is_parked(projection: Projection, log: LogWriter) -> None:
    articles = await log.create_collection()
    poison = await log.update(articles, "never created", content="x")
    await log.create(articles, "b")
    await projection.assert_projected({poison})


@pytest.mark.parametrize("batch", [1, 1000])
async def test_an_update_of_nothing_is_parked_also_where_its_batch_goes_on_to_create_or_delete_the_vector(
    projection: Projection, log: LogWriter, batch: int
) -> None:
    articles = await log.create_collection()
    await log.create(articles, "a")
    poison = {
        await log.update(articles, "created later", content="x"),
        await log.create(articles, "created later"),
        await log.update(articles, "deleted later", content="x"),
        await log.delete(articles, "deleted later"),
    }
    await log.update(articles, "a", content="changed")
    await log.delete(articles, "a")
    await projection.assert_projected(poison, batch_max_events=batch)


async def test_a_poisonous_event_of_a_collection_parks_all_events_of_the_collection(
    projection: Projection, log: LogWriter
) -> None:
    articles, books = await log.create_collection("articles"), await log.create_collection("books")
    await log.create(articles, "a")
    poison = await log.append(articles.collection_id, articles.stream, "collection", "CollectionPraised", {})
    followers = {
        await log.update(articles, "a", content="after"),
        await log.create(articles, "b"),
        await log.delete_collection(articles),
    }
    reborn = await log.create_collection("articles")
    followers |= {await projection.head(), await log.create(reborn, "c")}
    await log.create(books, "d")
    await projection.assert_projected({poison, *followers}, batch_max_events=3)
    await projection.assert_projected({poison, *followers})


async def test_a_vector_of_a_collection_that_the_log_does_not_have_is_parked(
    projection: Projection, log: LogWriter
) -> None:
    articles = await log.create_collection()
    nowhere = uuid4()
    poison = await log.append(nowhere, uuid4(), "vector", "VectorDeleted", {"id": "a"})
    await log.create(articles, "a")
    await projection.assert_projected({poison})


async def test_a_collection_that_postgres_cannot_index_is_parked_with_its_vectors(
    projection: Projection, log: LogWriter
) -> None:
    articles = await log.create_collection("articles")
    too_wide = await log.create_collection("too-wide", dimension=2_001)
    poison = await projection.head()
    follower = await log.create(too_wide, "a", values=[1.0] * 2_001)
    await log.create(articles, "a")
    await projection.assert_projected({poison, follower})


async def test_nothing_stays_parked_of_a_deleted_collection(projection: Projection, log: LogWriter) -> None:
    articles = await log.create_collection()
    await _append_unknown(log, articles, "a")
    await projection.catch_up()
    assert len(await projection.parked()) == 1
    await log.create(articles, "a")
    await log.delete_collection(articles)
    await log.update(articles, "a", content="late")
    await projection.catch_up()
    assert await projection.parked() == {}
    await empty(projection.read)
    await projection.catch_up()
    assert await projection.parked() == {}


async def test_an_event_is_tried_as_often_as_the_settings_say_before_it_is_parked(
    projection: Projection, log: LogWriter
) -> None:
    articles = await log.create_collection()
    await log.create(articles, "a")
    poison = await _append_unknown(log, articles, "b")
    await log.create(articles, "c")
    settings = projector_settings(projection.databases, parking_attempts=3, parking_window_seconds=1.0)
    async with running_consumer(settings):

        async def before_it() -> bool:
            return await watermark(projection.read) == poison - 1

        await until(before_it, "what comes before the poison was not applied")
        assert await projection.parked() == {}
        await until(projection.caught_up, "the poison was not parked")
        assert await _attempts(projection, poison) == 3
        # What is parked is forgotten, so from the beginning on it is tried as often again.
        await empty_read_model(projection.read, await read_log_id(projection.log))
        await log.create(articles, "d")
        await until(projection.parked, "the poison was not parked again")
        assert await _attempts(projection, poison) == 3
    await projection.assert_projected({poison})


async def _attempts(projection: Projection, position: int) -> int:
    return await projection.read.fetchval("SELECT attempts FROM parked_events WHERE position = $1", position) or 0


async def test_between_two_tries_its_partition_waits(
    projection: Projection, log: LogWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    articles = await log.create_collection()
    poison = await _append_unknown(log, articles, "a")
    await log.create(articles, "b")
    settings = projector_settings(projection.databases, parking_attempts=2, parking_window_seconds=600.0)
    waits: list[float] = []
    reads = 0

    @asynccontextmanager
    async def open_watched() -> AsyncIterator[EventSource]:
        async with open_log_source(settings) as source:
            hold, read = source.hold, source.read

            def watched_hold(partitions: Collection[int], seconds: float) -> None:
                waits.append(seconds)
                hold(partitions, seconds)

            async def watched_read(connection: Connection, limit: int) -> Sequence[Run]:
                nonlocal reads
                reads += bool(waits)
                return await read(connection, limit)

            monkeypatch.setattr(source, "hold", watched_hold)
            monkeypatch.setattr(source, "read", watched_read)
            yield source

    async with running_consumer(settings, open_watched):
        await until(lambda: reads > 2, "its partition does not wait")
        assert waits[0] == 600.0
        assert (await projection.parked(), await watermark(projection.read)) == ({}, poison - 1)
