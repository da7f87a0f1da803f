"""`aindusdb events parked`: what cannot be applied is shown with its reason, and applied once it can be."""

from __future__ import annotations

import pytest

from events_schema.streams import vector_stream
from projector import rebuild, unparking
from tests.projector.log_writer import LogWriter
from tests.projector.parked_before import park_again
from tests.projector.projecting import Projection
from tests.projector.rebuilding import generation, replaying, shape_of, states
from tests.query.conftest import running_service
from tests.replay.commanding import answer, refusal, run


async def test_a_parked_event_is_shown_and_retried_with_all_that_follow_it(
    projection: Projection, log: LogWriter
) -> None:
    databases = projection.databases
    articles = await log.create_collection()
    await log.create(articles, "a", content="first")
    stream = vector_stream(articles.collection_id, "a")
    unknown = await log.append(articles.collection_id, stream, "vector", "VectorPraised", {"id": "a"})
    follower = await log.update(articles, "a", content="follows")
    lost = await log.create(articles, "b")
    later = await log.update(articles, "b", content="second")
    await projection.catch_up()
    [shown] = (await answer(databases, "events", "parked", "list"))["parked"]
    assert (shown["position"], shown["event_type"], shown["collection"]) == (unknown, "VectorPraised", "articles")
    assert "unknown to this software" in shown["reason"]
    found = await answer(databases, "events", "parked", "list", "--followers", "--collection", "articles")
    assert [one["position"] for one in found["parked"]] == [unknown, follower]
    one = await answer(databases, "events", "parked", "show", str(unknown))
    assert (one["held_back"], one["first_position"], one["event"]["event_data"]) == (2, unknown, {"id": "a"})
    assert f"It follows the event at position {unknown}" in await refusal(
        databases, "events", "parked", "retry", str(follower)
    )
    assert "is not parked" in await refusal(databases, "events", "parked", "show", "1")
    assert "beyond the head" in await refusal(databases, "events", "parked", "retry", "99")
    await projection.read.execute("UPDATE parked_events SET reason = 'as it was then' WHERE position = $1", unknown)
    stuck = await answer(databases, "events", "parked", "retry", str(unknown), exit_code=3)
    assert (stuck["applied"], stuck["left"], stuck["position"]) == (0, 2, unknown)
    [again] = (await answer(databases, "events", "parked", "list"))["parked"]
    assert (again["attempts"], again["reason"]) == (shown["attempts"] + 1, shown["reason"])

    await park_again(projection, articles, "b", [lost, later])
    assert (await answer(databases, "verify"))["ok"]
    revision = await projection.read.fetchval("SELECT revision FROM collection_state")
    done = await answer(databases, "events", "parked", "retry", str(lost))
    assert (done["applied"], done["left"], done["reason"]) == (2, 0, None)
    assert await projection.read.fetchval("SELECT revision FROM collection_state") != revision
    assert await projection.stored() == await projection.expected(without={unknown, follower})
    assert (await run(databases, "events", "parked", "list")).stdout.count("\n") == 1


async def test_no_answer_that_was_kept_before_a_retry_is_given_after_it(projection: Projection, log: LogWriter) -> None:
    articles = await log.create_collection()
    await log.create(articles, "a", (1, 0, 0, 0))
    late = await log.create(articles, "b", (0, 1, 0, 0))
    await log.create(articles, "c", (0, 0, 1, 0))
    await projection.catch_up()
    await park_again(projection, articles, "b", [late])
    async with running_service(projection.databases.read_reader_dsn) as service:

        async def found() -> tuple[int, bool]:
            body = {"embedding": [1, 1, 1, 0], "max_staleness_ms": 0}
            answer = (await service.post("/api/v1/collections/articles/vectors/search", json=body)).json()
            return len(answer["hits"]), answer["cached"]

        assert [await found(), await found()] == [(2, False), (2, True)]
        await answer(projection.databases, "events", "parked", "retry", str(late))
        assert await found() == (3, False)


@pytest.mark.parametrize("at_once", [1, 500])
async def test_what_follows_is_applied_in_its_order_also_where_it_takes_several_transactions(
    projection: Projection, log: LogWriter, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(unparking, "_AT_ONCE", at_once)
    articles = await log.create_collection()
    await log.create(articles, "b")
    positions = [await log.create(articles, "a", content="0")]
    positions += [await log.update(articles, "a", content=str(number)) for number in range(1, 4)]
    await projection.catch_up()
    await park_again(projection, articles, "a", positions)
    done = await answer(projection.databases, "events", "parked", "retry", str(positions[0]))
    assert (done["applied"], done["left"]) == (4, 0)
    assert await projection.stored() == await projection.expected()


async def test_a_generation_that_is_made_comes_to_what_was_retried_by_itself(
    projection: Projection, log: LogWriter
) -> None:
    articles = await log.create_collection()
    late = [await log.create(articles, "a"), await log.update(articles, "a", content="late")]
    await projection.catch_up()
    await park_again(projection, articles, "a", late)
    async with replaying(projection) as replay:
        made = await rebuild.begin(replay, articles.collection_id, shape_of(articles), automatic=False)
        await answer(projection.databases, "events", "parked", "retry", str(late[0]))
        assert await projection.read.fetchval(f"SELECT count(*) FROM {made.records}") == 0
        made = await rebuild.build(replay, made)
        made = await rebuild.index(replay, made)
        await rebuild.promote(replay, made, keep_old=True)
    assert await projection.stored() == await projection.expected()


async def test_a_generation_that_cannot_hold_what_was_retried_is_given_up_and_the_active_one_has_it(
    projection: Projection, log: LogWriter
) -> None:
    articles = await log.create_collection(metric="l2")
    await log.create(articles, "b")
    zero = await log.create(articles, "zero", (0, 0, 0, 0))
    await projection.catch_up()
    await park_again(projection, articles, "zero", [zero])
    async with replaying(projection) as replay:
        made = await rebuild.begin(replay, articles.collection_id, shape_of(articles), automatic=False)
        made = await rebuild.build(replay, made)
        made = await rebuild.index(replay, made)
        assert (await answer(projection.databases, "events", "parked", "retry", str(zero)))["applied"] == 1
    assert await states(projection, articles) == {1: "active", 2: "stale"}
    assert "'zero' stands in the way" in ((await generation(projection, articles, 2)).reason or "")
    assert await projection.stored() == await projection.expected()
