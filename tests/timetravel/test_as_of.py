"""Reads of the past are the fold of the log up to there, and are never taken for the present."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events_schema.collections import CollectionReembedded, IndexSpec
from events_schema.embedding import EmbeddingSpec
from events_schema.vectors import VectorReembedded
from projector.generations import read_active
from tests.projector.histories import History, Step
from tests.projector.histories import steps as steps_of_a_history
from tests.projector.log_writer import LogWriter, NewCollection, embedding
from tests.projector.moving import settle
from tests.projector.projecting import Projection, projector_settings, running_upkeep, until
from tests.projector.read_model import CollectionRow, fold, read_log
from tests.query.conftest import running_service
from tests.replay.commanding import answer, pass_over, refusal, run
from tests.servers import DatabaseFactory, connected
from tests.timetravel.conftest import API, Past

_ALL = ["content", "metadata", "embedding"]


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps_of_a_history, picked=st.lists(st.integers(0, 99), min_size=1, max_size=4))
async def test_a_read_as_of_any_position_is_the_fold_of_the_log_up_to_there(
    past: Past, steps: list[Step], picked: list[int]
) -> None:
    history = History(past.log, f"-{uuid4().hex[:8]}")
    await history.play(steps)
    await past.projection.catch_up()
    events = await read_log(past.log.connection)
    for collection in history.live():
        its = [event.position for event in events if event.collection_id == collection.collection_id]
        made = {its[number % len(its)] for number in picked}
        await past.build(collection.name, made, snapshots_per_collection=100)
        for position in made:
            expected = fold([one for one in events if one.position <= position])[collection.collection_id]
            # What the collection holds stays until the next event of its vectors.
            of_vectors = [
                event.position
                for event in events
                if event.collection_id == collection.collection_id and event.aggregate_type == "vector"
            ]
            last = min((at for at in of_vectors if at > position), default=len(events) + 1) - 1
            time = events[last - 1].timestamp.isoformat()
            for moment in ({"position": position}, {"position": last}, {"time": time}):
                await _expect(past, collection, moment, expected)


async def _expect(past: Past, collection: NewCollection, moment: dict[str, Any], expected: CollectionRow) -> None:
    rows = expected.vectors
    search = await past.found(
        collection.name,
        "search",
        as_of=moment,
        embedding=[1, 1, 1, 1],
        k=100,
        include=_ALL,
        filter={"$version": {"$gte": 1}},
    )
    assert {
        hit["id"]: (hit["content"], hit["metadata"], hit["embedding"], hit["version"]) for hit in search["hits"]
    } == {vector_id: (row.content, row.metadata, row.embedding, row.version) for vector_id, row in rows.items()}
    counted = await past.found(collection.name, "count", as_of=moment)
    assert counted["count"] == len(rows)
    listed = await past.got(f"{collection.name}/vectors", as_of=json.dumps(moment))
    assert [one["position"] for one in listed.json()["items"]] == [rows[one].position for one in sorted(rows)]
    for vector_id in ("a", "b", "c"):
        one = await past.got(f"{collection.name}/vectors/{vector_id}", as_of=json.dumps(moment), include=_ALL)
        if vector_id not in rows:
            assert (one.status_code, one.json()["type"]) == (404, "/problems/vector-not-found")
            continue
        row, found = rows[vector_id], one.json()
        assert (found["content"], found["metadata"], found["embedding"]) == (row.content, row.metadata, row.embedding)
        assert (found["version"], found["position"]) == (row.version, row.position)


async def _articles(past: Past, name: str) -> tuple[NewCollection, int]:
    """Three vectors, and the position at which there were two of them, unchanged."""
    collection = await past.log.create_collection(name)
    await past.log.create(collection, "a", (1, 0, 0, 0), "first", {"lang": "en"})
    position = await past.log.create(collection, "b", (0, 1, 0, 0), "second", {"lang": "de"})
    await past.log.create_collection(f"{name}-beside")
    await past.log.update(collection, "a", content="changed", metadata={"lang": "de"})
    await past.log.delete(collection, "b")
    await past.log.create(collection, "c", (0, 0, 1, 0), "third", {"lang": "en"})
    await past.projection.catch_up()
    return collection, position


async def test_every_way_to_ask_takes_a_moment_and_says_which_snapshot_answered(past: Past) -> None:
    _, position = await _articles(past, "ways")
    arguments = ("replay", "build", "--collection", "ways", "--until-position", str(position))
    made = await answer(past.projection.databases, *arguments, "--name", "release-1")
    assert (made["collections"][0]["snapshot"], made["collections"][0]["state"]) == ("release-1", "ready")
    moment = {"snapshot": "release-1"}
    query = {"embedding": [1, 0, 0, 0], "k": 5, "filter": {"lang": "en"}}
    asked = {"as_of": moment, "include": ["content"]}
    search = await past.found("ways", "search", **query, **asked)
    assert [(hit["id"], hit["content"]) for hit in search["hits"]] == [("a", "first")]
    assert (search["as_of"]["snapshot"], search["as_of"]["position"]) == ("release-1", position)
    assert search["freshness"]["position"] == position
    batch = await past.found("ways", "search/batch", as_of=moment, queries=[{"id": "b"}, query])
    assert [[hit["id"] for hit in one["hits"]] for one in batch["results"]] == [["a"], ["a"]]
    groups = await past.found("ways", "search/groups", embedding=[1, 0, 0, 0], group_by="metadata.lang", **asked)
    assert [group["value"] for group in groups["groups"]] == ["en", "de"]
    near = await past.found("ways", "recommend", positive=[{"id": "b"}], **asked)
    assert [hit["id"] for hit in near["hits"]] == ["a"]
    text = await past.got("ways/vectors/a", as_of=json.dumps(moment))
    assert (text.json()["content"], text.json()["as_of"]["snapshot"]) == ("first", "release-1")
    assert (await past.found("ways", "count", as_of=moment))["as_of"] == search["as_of"]
    explained = await past.found("ways", "search", explain=True, **query, **asked)
    assert explained["explain"]["generation"] == made["collections"][0]["generation"]
    # What happens to others changes nothing; the next event of a vector does.
    assert (await past.found("ways", "count", as_of={"position": position + 1}))["as_of"]["snapshot"] == "release-1"
    # Nor did it hold that before the last event that it has.
    for other in (position - 1, position + 2):
        missing = await past.asked("ways", "count", as_of={"position": other})
        assert (missing.status_code, missing.json()["type"]) == (404, "/problems/snapshot-not-found"), other
    assert "as_of" not in await past.found("ways", "search", **query)

    page = await past.found("ways", "scroll", as_of=moment, limit=1)
    assert [one["id"] for one in page["items"]] == ["a"]
    rest = await past.found("ways", "scroll", as_of=moment, limit=1, cursor=page["next_cursor"])
    assert ([one["id"] for one in rest["items"]], rest["next_cursor"]) == (["b"], None)
    mixed = await past.asked("ways", "scroll", limit=1, cursor=page["next_cursor"])
    assert (mixed.status_code, mixed.json()["type"]) == (400, "/problems/malformed-cursor")

    listed = (await past.got("ways/snapshots")).json()
    [one] = listed["items"]
    assert (one["name"], one["position"], one["state"], one["built_to"]) == ("release-1", position, "ready", position)


async def test_a_snapshot_answers_up_to_where_the_collection_comes_to_another_model(past: Past) -> None:
    log = past.log
    moved = await log.create_collection("moved")
    await log.create(moved, "a", (1, 0, 0, 0), "text")
    new = EmbeddingSpec(provider="openai", model="new", dimension=2)
    await log.change_collection(moved, embedding_spec=new, other_specs=(moved.spec,))
    embedded = await log.vector_event(moved, VectorReembedded(id="a", embeddings=embedding((1, 2), new)))
    complete = await log.collection_event(moved, CollectionReembedded(embedding_spec=new))
    await past.projection.catch_up()
    await past.build("moved", [embedded])
    before, after = {"as_of": {"position": embedded}}, {"as_of": {"position": complete}}
    assert len((await past.found("moved", "search", embedding=[1, 0, 0, 0], **before))["hits"]) == 1
    missing = await past.asked("moved", "search", embedding=[1, 2], **after)
    assert (missing.status_code, missing.json()["position"]) == (404, complete), missing.text
    await past.build("moved", [complete])
    [hit] = (await past.found("moved", "search", embedding=[1, 2], include=["embedding"], **after))["hits"]
    assert hit["embedding"] == [1, 2]
    wrong = await past.asked("moved", "search", embedding=[1, 2], **before)
    assert (wrong.status_code, wrong.json()["type"]) == (422, "/problems/dimension-mismatch")


async def test_kept_answers_of_the_past_and_of_the_present_are_never_mixed(past: Past) -> None:
    collection, position = await _articles(past, "kept")
    await past.build("kept", [position])
    query: dict[str, Any] = {"embedding": [1, 0, 0, 0], "include": ["content"]}
    then, now = {**query, "as_of": {"position": position}}, query

    async def contents(body: dict[str, Any]) -> tuple[list[str], bool]:
        answered = await past.found("kept", "search", **body)
        return [hit["content"] for hit in answered["hits"]], answered["cached"]

    assert await contents(then) == (["first", "second"], False)
    assert await contents(now) == (["changed", "third"], False)
    assert await contents(then) == (["first", "second"], True)
    assert await contents(now) == (["changed", "third"], True)
    await past.log.update(collection, "a", content="again")
    await past.projection.catch_up()
    assert await contents(then) == (["first", "second"], True)  # what is past stays
    assert await contents(now) == (["again", "third"], False)


async def test_what_expires_is_there_until_the_moment_that_is_asked_for(past: Past) -> None:
    collection = await past.log.create_collection("expiring")
    position = await past.log.create(collection, "a", content="brief")
    created: datetime = await past.log.connection.fetchval("SELECT timestamp FROM events WHERE position = $1", position)
    instant = created + timedelta(milliseconds=300)
    position = await past.log.update(collection, "a", expires_at=instant)
    updated: datetime = await past.log.connection.fetchval("SELECT timestamp FROM events WHERE position = $1", position)
    await past.projection.catch_up()
    await past.build("expiring", [position - 1, position])
    later = max(instant, updated)

    async def is_past() -> bool:
        over: bool = await past.log.connection.fetchval("SELECT clock_timestamp() > $1", later)
        return over

    await until(is_past, "time stands still")
    for moment, there in (
        ({"position": position - 1}, True),
        ({"position": position}, updated < instant),
        ({"time": created.isoformat()}, True),
        ({"time": later.isoformat()}, False),
    ):
        for _ in range(2):  # the second one is kept
            counted = await past.found("expiring", "count", as_of=moment)
            assert counted["count"] == int(there), moment
        one = await past.got("expiring/vectors/a", as_of=json.dumps(moment))
        assert one.status_code == (200 if there else 404), moment


async def test_a_moment_that_no_snapshot_holds_is_refused_with_what_to_do(past: Past) -> None:
    _, position = await _articles(past, "refused")
    head = await past.projection.head()
    created = position - 2

    async def refused(moment: Any) -> tuple[int, str, str]:
        answered = await past.asked("refused", "count", as_of=moment)
        problem = answered.json()
        pointer = problem["errors"][0]["pointer"] if "errors" in problem else ""
        return answered.status_code, problem["type"].removeprefix("/problems/"), pointer

    for moment, what_to_do in (
        (
            {"position": position},
            f"`aindusdb replay build --collection refused --until-position {position}` builds one",
        ),
        ({"snapshot": "nowhere"}, "GET …/snapshots lists those that there are"),
    ):
        assert await refused(moment) == (404, "snapshot-not-found", "")
        assert (await past.asked("refused", "count", as_of=moment)).json()["detail"].endswith(what_to_do)
    assert await refused({"position": head + 1}) == (422, "validation", "/as_of/position")
    assert await refused({"position": created - 1}) == (422, "validation", "/as_of/position")
    assert await refused({"time": "2999-01-01"}) == (422, "validation", "/as_of/time")
    assert await refused({"time": "1999-01-01T00:00Z"}) == (422, "validation", "/as_of/time")
    assert await refused({"time": "yesterday"}) == (422, "validation", "/as_of/time")
    assert await refused({"position": 0}) == (422, "validation", "/as_of/position")
    assert await refused({"position": 1, "snapshot": "both"}) == (422, "validation", "/as_of/snapshot")
    assert await refused({}) == (422, "validation", "/as_of/position")
    for text in ("{", "[]", '{"position": "1"}', '{"other": 1}'):
        answered = await past.got("refused/vectors/a", as_of=text)
        assert (answered.status_code, answered.json()["errors"][0]["pointer"]) == (422, "as_of"), text
    both = await past.got("refused/vectors/a", as_of='{"position": 1}', version=1)
    assert both.status_code == 422


async def test_a_snapshot_answers_from_when_it_is_built_until_its_time_is_over(past: Past) -> None:
    collection, position = await _articles(past, "lasting")
    databases, read = past.projection.databases, past.projection.read
    body = {"as_of": {"position": position}}
    [made] = await past.build("lasting", [position])
    name = made.snapshot.name if made.snapshot else ""
    key = collection.collection_id, made.number
    await read.execute("UPDATE generations SET state = 'building' WHERE collection_id = $1 AND generation = $2", *key)
    waiting = await past.asked("lasting", "count", **body)
    assert (waiting.status_code, waiting.json()["type"]) == (503, "/problems/snapshot-not-ready")
    assert (waiting.headers["retry-after"], waiting.json()["current"]) == ("5", position)
    await read.execute("UPDATE generations SET state = 'ready' WHERE collection_id = $1 AND generation = $2", *key)
    assert (await past.found("lasting", "count", **body))["count"] == 2

    build = ("replay", "build", "--collection", "lasting", "--until-position")
    assert "'position-" in await refusal(databases, *build, str(position), "--name", "other")
    assert "choose another name" in await refusal(databases, *build, str(position + 1), "--name", name)
    full = await refusal(databases, *build, str(position + 1), AINDUSDB_SNAPSHOTS_PER_COLLECTION="1")
    assert "has 1 snapshots, which is as many as it may have" in full
    large = await refusal(databases, *build, str(position + 1), AINDUSDB_SNAPSHOT_MAX_BYTES="10")
    assert "a snapshot is made of at most 10" in large
    assert "at most 90 days" in await refusal(databases, *build, str(position), "--keep-days", "91")
    assert (await run(databases, *build[:4], "--name", "x")).exit_code == 2
    [longer] = (await answer(databases, *build, str(position), "--keep-days", "30"))["collections"]
    assert longer["generation"] == made.number
    assert made.snapshot is not None
    assert longer["expires_at"] > made.snapshot.expires_at.isoformat()

    await read.execute("UPDATE generations SET expires_at = now() WHERE collection_id = $1 AND generation = $2", *key)
    over = await past.asked("lasting", "count", **body)
    assert (over.status_code, over.json()["type"]) == (404, "/problems/snapshot-not-found")

    async def is_dropped() -> bool:
        count: int = await read.fetchval("SELECT count(*) FROM generations WHERE collection_id = $1", key[0])
        retired: int = await read.fetchval("SELECT count(*) FROM retired_tables WHERE table_name = $1", made.records)
        return count == 1 and retired == 1

    async with running_upkeep(projector_settings(databases)):
        await until(is_dropped, "the snapshot was not dropped")


async def test_of_several_snapshots_that_hold_a_moment_one_that_is_ready_answers(past: Past) -> None:
    collection, position = await _articles(past, "several")
    await past.build("several", [position, position + 1])
    time = await past.log.connection.fetchval("SELECT timestamp FROM events WHERE position = $1", position)
    for waiting, answers in ((position, position + 1), (position + 1, position)):
        await past.projection.read.execute(
            "UPDATE generations SET state = CASE until_position WHEN $2 THEN 'building' ELSE 'ready' END "
            "WHERE collection_id = $1 AND snapshot_name IS NOT NULL",
            collection.collection_id, waiting,
        )  # fmt: skip
        counted = await past.found("several", "count", as_of={"time": time.isoformat()})
        assert (counted["count"], counted["as_of"]["snapshot"]) == (2, f"position-{answers}")


async def test_what_a_replica_has_not_got_yet_is_read_from_the_primary(database_factory: DatabaseFactory) -> None:
    """The replica here is a read model of the same log that has never heard of the snapshot."""
    async with AsyncExitStack() as stack:
        primary = await stack.enter_async_context(database_factory.pair())
        behind = await stack.enter_async_context(database_factory.pair())
        log = LogWriter(await stack.enter_async_context(connected(primary.events_dsn)))
        read = await stack.enter_async_context(connected(primary.read_dsn))
        service: httpx.AsyncClient = await stack.enter_async_context(
            running_service(
                primary.read_reader_dsn, read_replica_dsns=behind.read_reader_dsn, events_dsn=primary.events_reader_dsn
            )
        )
        past = Past(service, log, Projection(primary, log.connection, read))
        replica = Projection(behind, log.connection, await stack.enter_async_context(connected(behind.read_dsn)))
        _, position = await _articles(past, "articles")
        await replica.catch_up(events_dsn=primary.projector_events_dsn)
        await past.build("articles", [position])
        for moment in ({"position": position}, {"snapshot": f"position-{position}"}):
            answered = await past.found("articles", "search", embedding=[1, 0, 0, 0], as_of=moment, explain=True)
            assert (len(answered["hits"]), answered["explain"]["role"]) == (2, "primary")
        present = await past.found("articles", "search", embedding=[1, 0, 0, 0], explain=True)
        assert present["explain"]["role"] == "replica"
        missing = await service.post(f"{API}/articles/vectors/count", json={"as_of": {"snapshot": "nowhere"}})
        assert missing.status_code == 404


async def test_the_past_of_a_model_that_today_s_index_could_not_hold_is_searched_exactly(past: Past) -> None:
    wide, narrow = (EmbeddingSpec(provider="client", dimension=dimension) for dimension in (2_500, 3))
    collection = await past.log.create_collection("wide", dimension=2_500, index=IndexSpec(kind="none"))
    position = await past.log.create(collection, "a", [1.0, *[0.0] * 2_499])
    await past.log.move(collection, narrow, wide)
    await past.log.reembed(collection, "a", {narrow: (1, 2, 3)})
    await past.log.complete(collection, narrow)
    await past.log.change_collection(collection, index=IndexSpec())
    await past.projection.catch_up()
    [made] = await past.build("wide", [position])
    assert (made.shape.spec, made.shape.index.kind) == (wide, "none")
    then = {"position": position}
    found = await past.found("wide", "search", embedding=[1.0, *[0.0] * 2_499], as_of=then)
    assert [hit["id"] for hit in found["hits"]] == ["a"]


async def test_a_vector_whose_embedding_is_passed_over_is_nowhere_to_search_from(past: Past) -> None:
    collection = await past.log.create_collection("lost")
    large = EmbeddingSpec(provider="client", dimension=3)
    await past.log.create_many(collection, ("a", "b"))
    announced = await past.log.move(collection, large, collection.spec)
    await past.log.reembed(collection, "a", {large: (1, 2, 3)})
    at_fault = await past.log.unreadable(collection, "b", "VectorReembedded")
    await past.log.complete(collection, large)
    await past.projection.catch_up()
    await pass_over(past.projection.databases, at_fault)
    await settle(past.projection, collection)
    [active] = await read_active(past.projection.read, [collection.collection_id])
    assert active.shape.spec_since == announced
    for asked in ({"id": "b"}, {"id": "b", "exact": True}, {"id": "b", "filter": {"n": {"$exists": False}}}):
        missing = await past.asked("lost", "search", **asked)
        assert (missing.status_code, missing.json()["type"]) == (404, "/problems/vector-not-found"), asked
    assert (await past.found("lost", "count"))["count"] == 2
