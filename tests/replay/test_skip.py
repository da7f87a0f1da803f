"""`aindusdb events parked skip`: what somebody decided to pass over is passed over by every fold of the log."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest

from command_service.domain.skips import SkipEvent
from command_service.skipping import record_skip
from events_schema.base import EventMetadata
from events_schema.embedding import EmbeddingSpec
from events_schema.streams import vector_stream
from events_schema.vectors import VectorCreated
from projector import rebuild, unparking
from projector.errors import RebuildFailedError
from projector.parking import FOLLOWS
from projector.replay_session import opened_beside
from projector.skipping import NotAtFaultError, skip
from projector.unparking import read_parked
from shared.event_log import read_events_at
from tests.projector.log_writer import LogWriter, NewCollection, embedding
from tests.projector.parked_before import park_again
from tests.projector.projecting import Projection, projector_settings, running_consumer, running_upkeep, until
from tests.projector.read_model import empty
from tests.projector.rebuilding import replaying, shape_of, states
from tests.query.conftest import running_service
from tests.replay.commanding import answer, refusal
from tests.servers import connected

_WHY = ("--reason", "written by a release that was taken back", "--by", "grace")
_WIDE = EmbeddingSpec(provider="client", model=None, dimension=5)


def _appending(projection: Projection) -> dict[str, str]:
    return {"AINDUSDB_EVENTS_DSN": projection.databases.events_dsn}


async def _skip(projection: Projection, position: int, *more: str, exit_code: int = 0) -> dict[str, Any]:
    return await answer(
        projection.databases, "events", "parked", "skip", str(position), *_WHY, *more,
        exit_code=exit_code, **_appending(projection),
    )  # fmt: skip


async def _refused(projection: Projection, position: int, *why: str) -> str:
    arguments = ("events", "parked", "skip", str(position), *(why or _WHY))
    return await refusal(projection.databases, *arguments, exit_code=1, **_appending(projection))


async def _praised(log: LogWriter, collection: NewCollection, vector_id: str) -> int:
    stream = vector_stream(collection.collection_id, vector_id)
    return await log.append(collection.collection_id, stream, "vector", "VectorPraised", {"id": vector_id})


async def _create_wide(log: LogWriter, collection: NewCollection, vector_id: str) -> int:
    event = VectorCreated(id=vector_id, embeddings=embedding([1] * 5, _WIDE), content=None, metadata={})
    return await log.vector_event(collection, event)


async def _revision(projection: Projection, collection: NewCollection) -> UUID:
    revision: UUID = await projection.read.fetchval(
        "SELECT revision FROM collection_state WHERE collection_id = $1", collection.collection_id
    )
    return revision


async def _assert_passed_over(projection: Projection, passed_over: set[int]) -> None:
    """By the projection, when everything is delivered again, and by one that begins from zero."""
    expected = await projection.expected(without=passed_over)
    assert await projection.stored() == expected
    for from_zero in (False, True):
        if from_zero:
            await empty(projection.read)
        await projection.catch_up(redelivering=True, batch_max_events=7)
        assert await projection.stored() == expected
        assert await projection.parked() == {}


async def test_every_fold_passes_over_what_was_decided_and_goes_on_with_the_rest(
    projection: Projection, log: LogWriter
) -> None:
    databases = projection.databases
    articles = await log.create_collection()
    await log.create(articles, "a", content="first")
    praised = await _praised(log, articles, "a")
    waiting = [await log.update(articles, "a", content="second"), await log.update(articles, "a", metadata={"n": 1})]
    wide = await _create_wide(log, articles, "w")
    orphan = await log.update(articles, "w", content="of nothing")
    again = await log.create(articles, "w", content="again")
    await log.create(articles, "b")
    await projection.catch_up()
    assert len(await projection.parked()) == 6

    head, revision = await projection.head(), await _revision(projection, articles)
    assert "is not parked" in await _refused(projection, 1)
    assert "beyond the head" in await _refused(projection, 99)
    assert f"follows the event at position {praised}" in await _refused(projection, waiting[0])
    assert "1 to 1000 printable" in await _refused(projection, praised, "--reason", " ")
    assert "command service's role" in await refusal(databases, "events", "parked", "skip", str(praised), *_WHY)
    assert (await _skip(projection, praised, "--dry-run"))["waiting"] == 2
    assert await projection.head() == head
    assert await _revision(projection, articles) == revision

    done = await _skip(projection, praised)
    assert (done["decided_at"], done["applied"], done["left"]) == (head + 1, 2, 0)
    assert await _revision(projection, articles) != revision
    assert set(await projection.parked()) == {wide, orphan, again}
    repeated = await _skip(projection, praised)
    assert (repeated["decided_at"], repeated["applied"], await projection.head()) == (head + 1, 0, head + 1)

    stuck = await _skip(projection, wide, exit_code=3)
    assert (stuck["applied"], stuck["left"], stuck["position"]) == (0, 2, orphan)
    assert "does not have it" in stuck["reason"]
    parked = await projection.parked()
    assert "does not have it" in parked[orphan]
    assert parked[again] == FOLLOWS
    assert (await answer(databases, "verify"))["ok"]
    assert (await _skip(projection, orphan))["applied"] == 1
    await log.update(articles, "w", content="goes on")
    await projection.catch_up()
    passed_over = {praised, wide, orphan}
    await _assert_passed_over(projection, passed_over)

    for sampled in ((), ("--sample", "50")):
        [found] = (await answer(databases, "verify", *sampled))["collections"][0]["generations"]
        assert (found["skipped"], found["differing"], found["vectors"], found["expected_vectors"]) == (3, {}, 3, 3)
    [replayed] = (await answer(databases, "replay", "--collection", "articles"))["collections"]
    assert replayed["checks"]["skipped"] == 3
    assert await states(projection, articles) == {1: "kept", 2: "active"}
    assert await projection.stored() == await projection.expected(without=passed_over)
    await projection.read.execute(f"DELETE FROM records_{articles.collection_id.hex}_g2 WHERE id IN ('a', 'w')")
    assert (await answer(databases, "verify", "--repair"))["ok"]
    assert await projection.stored() == await projection.expected(without=passed_over)


async def test_history_shows_the_decision_and_versions_do_without_what_is_passed_over(
    projection: Projection, log: LogWriter
) -> None:
    databases = projection.databases
    articles = await log.create_collection()
    await log.create(articles, "a", content="first")
    praised = await _praised(log, articles, "a")
    await log.update(articles, "a", metadata={"n": 1})
    await projection.catch_up()
    path = "/api/v1/collections/articles/vectors/a"
    async with running_service(databases.read_reader_dsn, events_dsn=databases.events_reader_dsn) as service:
        unreadable = await service.get(path, params={"version": 3})
        assert (unreadable.status_code, unreadable.json()["positions"]) == (409, [praised])
        await _skip(projection, praised)
        await projection.catch_up()
        _, shown, later = (await service.get(f"{path}/history")).json()["items"]
        decided = shown["skipped"]
        assert (decided["actor"], decided["reason"]) == ("grace", _WHY[1])
        assert decided["position"] == await projection.head()
        assert "unknown" in shown["unreadable"]
        assert later.get("skipped") is None
        present, past = await service.get(path), await service.get(path, params={"version": 3})
        assert present.json()["content"] == past.json()["content"] == "first"
        assert present.json()["metadata"] == past.json()["metadata"] == {"n": 1}
        assert (await service.get(path, params={"version": 2})).status_code == 404
        search = await service.post("/api/v1/collections/articles/vectors/search", json={"embedding": [1, 2, 3, 4]})
        assert search.json()["freshness"]["parked"] == 0


async def test_a_decision_whose_author_was_cut_off_is_seen_through(projection: Projection, log: LogWriter) -> None:
    articles, books = await log.create_collection(), await log.create_collection("books")
    await log.create(articles, "a")
    praised = await _praised(log, articles, "a")
    await log.update(articles, "a", content="waited")
    held = await log.append(books.collection_id, books.stream, "collection", "CollectionPraised", {})
    followers = {await log.create(books, "b"), await log.create(books, "c")}
    await projection.catch_up()
    for position in (praised, held):
        [event] = await read_events_at(log.connection, [position])
        metadata = EventMetadata(actor="grace", request_id="r")
        for _ in range(2):
            await record_skip(log.connection, SkipEvent(event, "why"), metadata)
    assert await projection.head() == held + len(followers) + 2
    settings = projector_settings(projection.databases)

    async def seen_through() -> bool:
        return await projection.parked() == {}

    async with running_consumer(settings), running_upkeep(settings):
        await until(seen_through, "nobody saw them through")
    await _assert_passed_over(projection, {praised, held})


async def test_a_decision_about_what_waits_for_another_event_leaves_the_rest_waiting(
    projection: Projection, log: LogWriter
) -> None:
    """As where another read model decided, which could apply what this one cannot."""
    articles = await log.create_collection()
    await log.create(articles, "a")
    praised = await _praised(log, articles, "a")
    second = await log.update(articles, "a", content="second")
    third = await log.update(articles, "a", metadata={"n": 3})
    await projection.catch_up()
    [event] = await read_events_at(log.connection, [second])
    await record_skip(log.connection, SkipEvent(event, "why"), EventMetadata(actor="grace", request_id="r"))
    settings = projector_settings(projection.databases)

    async def forgotten() -> bool:
        return second not in await projection.parked()

    async with running_consumer(settings), running_upkeep(settings):
        await until(forgotten, "it is still parked")
    assert set(await projection.parked()) == {praised, third}
    assert await projection.stored() == await projection.expected(without={praised, second, third})
    assert (await _skip(projection, praised))["applied"] == 1
    await _assert_passed_over(projection, {praised, second})


async def test_a_vector_that_stands_in_the_way_is_named_also_when_later_events_of_it_are_parked(
    projection: Projection, log: LogWriter
) -> None:
    articles = await log.create_collection(metric="l2")
    await log.create(articles, "zero", (0, 0, 0, 0))
    await _praised(log, articles, "zero")
    await projection.catch_up()
    async with replaying(projection) as replay:
        made = await rebuild.begin(replay, articles.collection_id, shape_of(articles), automatic=False)
        made = await rebuild.build(replay, made)
        with pytest.raises(RebuildFailedError, match="'zero' stands in the way"):
            await rebuild.index(replay, made)


@pytest.mark.parametrize("at_once", [1, 500])
async def test_what_waited_for_a_collection_goes_on_except_what_is_at_fault_itself(
    projection: Projection, log: LogWriter, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(unparking, "_AT_ONCE", at_once)
    articles = await log.create_collection()
    await log.create_many(articles, ["a", "b"])
    mine = await _praised(log, articles, "b")
    held = await log.append(articles.collection_id, articles.stream, "collection", "CollectionPraised", {})
    still = {mine, await log.update(articles, "b", content="waits for its own")}
    await log.update(articles, "a", content="waited")
    orphan = await log.update(articles, "nobody", content="x")
    still.add(await log.create(articles, "nobody"))
    await log.update_collection(articles, "waited too")
    await projection.catch_up()
    assert (await answer(projection.databases, "verify"))["ok"]
    done = await _skip(projection, held, exit_code=3)
    assert (done["applied"], done["left"], done["position"]) == (2, 3, orphan)
    assert set(await projection.parked()) == {*still, orphan}
    await projection.catch_up()
    assert await projection.stored() == await projection.expected(without={*still, held, orphan})
    assert (await answer(projection.databases, "verify"))["ok"]


async def test_what_comes_after_a_parked_event_of_the_collection_waits_for_that_one(
    projection: Projection, log: LogWriter
) -> None:
    articles = await log.create_collection()
    await log.create(articles, "a")
    praised = await _praised(log, articles, "a")
    await log.update(articles, "a", content="waits for the vector's")
    held = await log.append(articles.collection_id, articles.stream, "collection", "CollectionPraised", {})
    both = await log.update(articles, "a", content="waits for both")
    await projection.catch_up()
    done = await _skip(projection, praised, exit_code=3)
    assert (done["applied"], done["left"]) == (1, 1)
    assert set(await projection.parked()) == {held, both}
    assert await projection.stored() == await projection.expected(without={praised, held, both})
    assert (await _skip(projection, held))["applied"] == 1
    await _assert_passed_over(projection, {praised, held})


@pytest.mark.parametrize("at_once", [1, 500])
async def test_a_collection_whose_creation_is_passed_over_is_passed_over_whole(
    projection: Projection, log: LogWriter, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(unparking, "_AT_ONCE", at_once)
    too_wide = await log.create_collection("too-wide", dimension=2_001)
    created = await projection.head()
    await log.create(too_wide, "a", values=[1.0] * 2_001)
    await log.update_collection(too_wide, "changed")
    await log.delete_collection(too_wide)
    deleted = await projection.head()
    reborn = await log.create_collection("too-wide")
    await log.create(reborn, "a")
    await projection.catch_up()
    # The name is the stream's, so what bears it next waits too.
    assert set(await projection.parked()) == set(range(created, deleted + 1)) | {deleted + 1, deleted + 2}
    assert (await _skip(projection, created))["left"] == 0
    await projection.catch_up()
    await _assert_passed_over(projection, set(range(created, deleted + 1)))


async def test_a_decision_waits_for_the_batch_under_way_and_is_not_taken_when_somebody_was_faster(
    projection: Projection, log: LogWriter
) -> None:
    articles = await log.create_collection()
    late = await log.create(articles, "a")
    await projection.catch_up()
    await park_again(projection, articles, "a", [late])
    decided = 0

    async def record() -> int:
        nonlocal decided
        decided += 1
        return 99

    async def is_waiting() -> bool:
        return bool(
            await projection.read.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
        )

    async with (
        connected(projection.databases.read_dsn) as projector,
        opened_beside(projector_settings(projection.databases)) as (connection, events),
    ):
        parked = await read_parked(connection, late)
        assert parked is not None
        batch = projector.transaction()
        await batch.start()
        await projector.execute("SELECT FROM projection_checkpoints FOR UPDATE")
        skipping = asyncio.create_task(skip(connection, events, parked, record))
        await until(is_waiting, "it does not wait for the batch")
        assert decided == 0
        await projector.execute("DELETE FROM parked_events")  # as a retry does
        await batch.commit()
        with pytest.raises(NotAtFaultError, match="is parked no longer"):
            await skipping
    assert decided == 0


async def test_the_deletion_of_a_collection_is_not_passed_over(projection: Projection, log: LogWriter) -> None:
    articles = await log.create_collection()
    deleted = await log.append(
        articles.collection_id, articles.stream, "collection", "CollectionDeleted", {}, schema_version=2
    )
    await projection.catch_up()
    assert "without its deletion the collection would go on" in await _refused(projection, deleted)
    assert await projection.head() == deleted


@pytest.mark.parametrize("ready", [False, True])
async def test_a_generation_that_was_made_meanwhile_gets_what_waited(
    projection: Projection, log: LogWriter, ready: bool
) -> None:
    articles = await log.create_collection()
    await log.create_many(articles, ["a", "b"])
    praised = await _praised(log, articles, "a")
    await log.update(articles, "a", content="waited", embedding=(4, 3, 2, 1))
    await log.update(articles, "b", content="goes on")
    await projection.catch_up()
    async with replaying(projection) as replay:
        made = await rebuild.begin(replay, articles.collection_id, shape_of(articles), automatic=False)
        made = await rebuild.build(replay, made)
        if ready:
            made = await rebuild.index(replay, made)
        await _skip(projection, praised)
        made = await rebuild.build(replay, made)
        made = await rebuild.index(replay, made)
        await rebuild.promote(replay, made, keep_old=True)
    assert await projection.stored() == await projection.expected(without={praised})


async def test_while_a_generation_gets_its_indexes_what_waited_goes_on_waiting_and_holds_nobody_up(
    projection: Projection, log: LogWriter
) -> None:
    articles = await log.create_collection()
    await log.create(articles, "a", content="first")
    praised = await _praised(log, articles, "a")
    await log.update(articles, "a", content="waits")
    await projection.catch_up()
    chosen = projector_settings(projection.databases)
    async with replaying(projection) as replay, running_consumer(chosen), running_upkeep(chosen):
        begun = await rebuild.begin(replay, articles.collection_id, shape_of(articles), automatic=False)
        built = await rebuild.build(replay, begun)
        async with connected(projection.databases.read_admin_dsn) as admin, admin.transaction():
            await admin.execute(f"LOCK TABLE {built.records}, {built.embeddings} IN SHARE MODE")  # as CREATE INDEX does
            said = await refusal(
                projection.databases, "events", "parked", "skip", str(praised), *_WHY,
                exit_code=4, **_appending(projection),
            )  # fmt: skip
            assert said.startswith("Generation 2 of the collection is getting its indexes")
            await log.create(articles, "b")
            await until(projection.caught_up, "the projection is held up")
            assert len(await projection.parked()) == 2

        async def is_applied() -> bool:
            return await projection.parked() == {}

        await until(is_applied, "what waited is not applied")
        ready = await rebuild.index(replay, built)
        await rebuild.promote(replay, ready, keep_old=False)
    assert await projection.stored() == await projection.expected(without={praised})
