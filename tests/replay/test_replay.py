"""`aindusdb replay`: whatever ends it and whatever goes on meanwhile, searches read the fold of the log."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import numpy as np
import pytest

from aindusdb.commands import replay_display
from events_schema.embedding import encode
from projector import emptying, rebuild, replay_session, replays
from projector.claims import claimed
from projector.generations import read_generations
from shared.read_model.tables import embeddings_table
from tests.projector.log_writer import LogWriter, NewCollection
from tests.projector.projecting import Projection, projector_settings, running_consumer, until
from tests.projector.rebuilding import generation, states
from tests.query.conftest import running_service
from tests.replay.commanding import answer, process, refusal, run
from tests.servers import connected

_REPLAY = ("replay", "--collection", "articles")


@asynccontextmanager
async def _held(projection: Projection, statement: str) -> AsyncIterator[None]:
    """Whoever needs what the statement locks waits for the end of the block."""
    async with connected(projection.databases.read_admin_dsn) as holder, holder.transaction():
        await holder.execute(statement)
        yield


async def _is_waiting(projection: Projection) -> bool:
    """Whether a session waits for a lock of `_held`."""
    waiting: int = await projection.read.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return waiting > 0


async def _history(log: LogWriter, articles: NewCollection, count: int) -> None:
    await log.create_many(articles, (f"v{number}" for number in range(count)))
    for number in range(0, count, 3):
        await log.update(articles, f"v{number}", metadata={"n": number}, embedding=(number, 1, 0, 1))
    for number in range(0, count, 5):
        await log.delete(articles, f"v{number}")


async def test_a_replay_that_is_killed_at_each_of_its_steps_goes_on_where_it_was(
    projection: Projection, log: LogWriter
) -> None:
    articles = await log.create_collection()
    await _history(log, articles, 60)
    await projection.catch_up()
    new = embeddings_table(articles.collection_id, 2)

    async def killed(*pace: str) -> None:
        async with process(projection.databases, *_REPLAY, *pace, AINDUSDB_BATCH_MAX_EVENTS="10") as replaying:
            if pace:

                async def folding() -> bool:
                    there = await read_generations(projection.read, articles.collection_id)
                    return any(one.number == 2 and one.checkpoints[0] > 0 for one in there)

                await until(folding, "nothing is folded")
            else:
                await until(lambda: _is_waiting(projection), "the step was not reached")
            replaying.kill()
            await replaying.wait()

    await killed("--max-events-per-second", "20")
    assert (await generation(projection, articles, 2)).state == "building"
    for statement, state in (
        (f"LOCK TABLE {new} IN ROW EXCLUSIVE MODE", "building"),  # making the index waits, writing does not
        ("LOCK TABLE collection_state IN ACCESS EXCLUSIVE MODE", "ready"),  # the check begins with it
        ("SELECT FROM projection_checkpoints FOR UPDATE", "ready"),  # and the promotion with these
    ):
        async with _held(projection, statement):
            await killed()
        assert (await generation(projection, articles, 2)).state == state, statement
        await log.create(articles, f"after {statement[:11]}", content="written meanwhile")
        await projection.catch_up()
        assert await states(projection, articles) == {1: "active", 2: state}
    done = await answer(projection.databases, *_REPLAY)
    [collection] = done["collections"]
    assert (collection["generation"], collection["state"], collection["error"]) == (2, "active", None)
    assert collection["checks"]["passed"]
    assert await states(projection, articles) == {1: "kept", 2: "active"}
    await log.update(articles, "v1", content="afterwards")
    await projection.catch_up()
    assert await projection.stored() == await projection.expected()


async def test_no_search_fails_while_everything_is_replayed_and_written_to(
    projection: Projection, log: LogWriter
) -> None:
    collections = [await log.create_collection(name) for name in ("articles", "books")]
    for collection in collections:
        await _history(log, collection, 40)
    chosen = projector_settings(projection.databases)
    done = asyncio.Event()
    searches = 0

    async def write() -> None:
        number = 0
        while not done.is_set():
            await log.create(collections[number % 2], f"w{number}", (number, 1, 2, 3), content=str(number))
            number += 1
            await asyncio.sleep(0.002)

    async with running_consumer(chosen), running_service(projection.databases.read_reader_dsn) as service:
        await until(projection.caught_up, "the projector did not catch up")

        async def search() -> None:
            nonlocal searches
            while not done.is_set():
                for collection in collections:
                    path = f"/api/v1/collections/{collection.name}/vectors/search"
                    found = await service.post(path, json={"embedding": [1, 2, 3, searches % 9], "k": 5})
                    assert found.status_code == 200, found.text
                    assert len(found.json()["hits"]) == 5
                    searches += 1

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(write())
            tasks.create_task(search())
            said = await answer(projection.databases, "replay", "--all", "--workers", "2")
            back = await answer(projection.databases, "replay", "rollback", "--collection", "books")
            before = searches
            await until(lambda: searches > before + 10, "nobody searches any more")
            done.set()
        await until(projection.caught_up, "the projector did not catch up")
    assert [one["state"] for one in said["collections"]] == ["active", "active"]
    assert back["collections"][0]["generation"] == 1
    assert await states(projection, collections[0]) == {1: "kept", 2: "active"}
    assert await states(projection, collections[1]) == {1: "active", 2: "kept"}
    assert await projection.stored() == await projection.expected()
    assert await projection.parked() == {}


async def test_a_snapshot_ends_where_it_is_told_and_is_promoted_only_when_it_is_none_any_longer(
    projection: Projection, log: LogWriter
) -> None:
    databases = projection.databases
    articles = await log.create_collection()
    await _history(log, articles, 20)
    await projection.catch_up()
    plan = await answer(databases, *_REPLAY, "--until-position", "15", "--dry-run")
    assert (plan["events"], plan["collections"][0]["vectors"]) == (15, 14)
    assert plan["log_bytes"] > 14 * len(encode(np.zeros(4, dtype=np.float32)))
    assert await states(projection, articles) == {1: "active"}
    [made] = (await answer(databases, *_REPLAY, "--until-position", "15"))["collections"]
    assert (made["state"], made["position"], made["until_position"], made["events"]) == ("ready", 15, 15, 15)
    assert made["checks"]["vectors"] == 14
    [again] = (await answer(databases, *_REPLAY, "--until-position", "15"))["collections"]
    assert (again["generation"], again["events"]) == (2, 0)
    built = await answer(databases, "replay", "build", "--collection", "articles", "--until-position", "17")
    assert built["collections"][0]["checks"] is None
    said = await refusal(databases, "replay", "promote", "--collection", "articles", "--generation", "3")
    assert "Generation 3 is a snapshot that ends at position 17" in said
    shown = (await run(databases, "replay", "status", COLUMNS="40")).stdout
    assert "ready position-17" in shown
    assert "14 vectors at position 15, none differs" in shown
    await answer(databases, "replay", "discard", "--collection", "articles", "--generation", "3")
    for force in ((), ("--force",)):
        said = await refusal(databases, "replay", "promote", "--collection", "articles", *force)
        assert "Generation 2 is a snapshot that ends at position 15; --catch-up folds it on" in said
    at = await log.connection.fetchval("SELECT timestamp FROM events WHERE position = 25")
    [later] = (await answer(databases, *_REPLAY, "--until-time", at.isoformat()))["collections"]
    assert (later["generation"], later["until_position"]) == (4, 25)
    said = await refusal(databases, "replay", "promote", "--collection", "articles")
    there = "1 is active; 2 is ready, snapshot 'position-15'; 4 is ready, snapshot 'position-25'"
    assert f"Several generations could be promoted ({there})" in said
    await answer(databases, "replay", "promote", "--collection", "articles", "--generation", "4", "--catch-up")
    assert await states(projection, articles) == {1: "kept", 2: "ready", 4: "active"}
    assert await projection.stored() == await projection.expected()
    await answer(databases, "replay", "discard", "--collection", "articles", "--generation", "2")
    await answer(databases, "replay", "discard", "--collection", "articles")
    assert await states(projection, articles) == {4: "active"}


async def test_snapshots_are_not_meant_where_a_generation_is_that_could_be_promoted(
    projection: Projection, log: LogWriter
) -> None:
    databases = projection.databases
    articles = await log.create_collection()
    await _history(log, articles, 20)
    await projection.catch_up()
    await answer(databases, *_REPLAY, "--until-position", "15")
    for verb in ("build", "verify", "promote"):
        [done] = (await answer(databases, "replay", verb, "--collection", "articles"))["collections"]
        assert done["generation"] == 3, verb
    assert await states(projection, articles) == {1: "kept", 2: "ready", 3: "active"}
    await answer(databases, "replay", "discard", "--collection", "articles")
    assert await states(projection, articles) == {2: "ready", 3: "active"}


async def test_what_is_folded_on_is_checked_again_before_it_is_promoted(projection: Projection, log: LogWriter) -> None:
    databases = projection.databases
    articles = await log.create_collection()
    await _history(log, articles, 20)
    await projection.catch_up()
    [made] = (await answer(databases, *_REPLAY, "--until-position", "15"))["collections"]
    assert made["checks"]["passed"]
    ready = await generation(projection, articles, 2)
    await projection.read.execute(f"UPDATE {ready.records} SET content = 'another' WHERE id = 'v1'")
    promote = ("replay", "promote", "--collection", "articles", "--catch-up")
    said = await refusal(databases, *promote, exit_code=3)
    assert "Generation 2 failed its checks" in said
    assert await states(projection, articles) == {1: "active", 2: "ready"}
    ready = await generation(projection, articles, 2)
    assert ready.until_position is None
    assert ready.checked is not None
    assert (ready.checked["position"], ready.checked["differing"]) == (await projection.head(), {"content": 1})
    await projection.read.execute(f"UPDATE {ready.records} SET content = NULL WHERE id = 'v1'")
    [promoted] = (await answer(databases, *promote))["collections"]
    assert (promoted["generation"], promoted["checks"]["passed"]) == (2, True)
    assert promoted["pause_seconds"] > 0
    said = (await run(databases, "replay", "rollback", "--collection", "articles")).output
    assert re.search(r"generation 1 is active.*; the projection stood still for \d+ ms", said), said
    assert await projection.stored() == await projection.expected()


async def test_what_cannot_be_done_is_refused_in_one_sentence_and_changes_nothing(
    projection: Projection, log: LogWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    databases = projection.databases
    articles = await log.create_collection()
    await _history(log, articles, 10)
    late = await log.create_collection("late")
    await projection.catch_up()
    first = await log.connection.fetchval("SELECT min(timestamp) FROM events")
    head = await projection.head()
    monkeypatch.setattr(replay_session, "CLAIM_WITHIN_SECONDS", 0.3)
    assert "no collection 'nothing'" in await refusal(databases, "replay", "--collection", "nothing")
    for arguments, says in (
        (("--until-position", str(head + 1)), f"Position {head + 1} is beyond the head of the log, which is {head}."),
        (
            ("--until-position", "3", "--collection", "late"),
            f"no collection 'late' yet; it was created at position {head}",
        ),
        (("--until-time", (first - timedelta(seconds=1)).isoformat()), "is before the first event of the log"),
        (("--until-time", "2999-01-01T00:00:00Z"), "is still to come"),
        (("--until-time", "yesterday"), "is no time like"),
    ):
        assert says in await refusal(databases, *_REPLAY, *arguments), arguments
    for verb, says in (
        ("promote", "no generation that could be promoted (1 is active)"),
        ("rollback", "no generation that could be gone back to (1 is active)"),
        ("discard", "no generation that could be discarded (1 is active)"),
        ("verify", "no generation that could be verified (1 is active)"),
    ):
        assert says in await refusal(databases, "replay", verb, "--collection", "articles"), verb
    wrong: tuple[tuple[str, ...], ...] = (
        ("replay", "build"),
        (*_REPLAY, "--until-time", "2999-01-01", "--until-position", "3"),
        (*_REPLAY, "--name", "first"),
        ("replay", "--dry-run", "anew"),
        (*_REPLAY, "promote", "--collection", "articles"),
        ("replay", "promote", "--collection", "articles", "--sample", "5"),
        ("replay", "promote", "--collection", "articles", "--min-recall", "0"),
        ("replay", "promote", "--collection", "articles", "--catch-up", "--force", "--sample", "5"),
    )
    for line in wrong:
        assert (await run(databases, *line)).exit_code == 2, line
    async with claimed(articles.collection_id, projector_settings(databases)) as claim:
        assert claim is not None
        said = await refusal(databases, *_REPLAY, exit_code=4)
        assert said.startswith("articles: Another process works on the tables of 'articles'")
        [shown, _] = (await answer(databases, "replay", "status"))["collections"]
        assert shown["worked_on"]
    assert await states(projection, articles) == {1: "active"}
    assert await states(projection, late) == {1: "active"}
    await answer(databases, "replay", "build", "--collection", str(articles.collection_id))
    said = await refusal(databases, "replay", "promote", "--collection", "articles", exit_code=3)
    assert "Generation 2 was not checked yet" in said
    await answer(databases, "replay", "verify", "--collection", "articles", "--sample", "5")
    await answer(databases, "replay", "promote", "--collection", "articles", "--drop-old")
    assert "promoted (2 is active)" in await refusal(databases, "replay", "promote", "--collection", "articles")
    assert await projection.stored() == await projection.expected()


async def test_a_generation_that_fails_its_checks_is_promoted_only_by_force(
    projection: Projection, log: LogWriter
) -> None:
    databases = projection.databases
    articles = await log.create_collection()
    await _history(log, articles, 20)
    await projection.catch_up()
    await answer(databases, "replay", "build", "--collection", "articles")
    ready = await generation(projection, articles, 2)
    await projection.read.execute(f"UPDATE {ready.records} SET content = 'another' WHERE id = 'v1'")
    said = await refusal(databases, *_REPLAY, exit_code=3)
    assert "Generation 2 failed its checks" in said
    assert "1 content" in said
    assert await states(projection, articles) == {1: "active", 2: "ready"}
    assert await projection.stored() == await projection.expected()
    [forced] = (await answer(databases, *_REPLAY, "--force"))["collections"]
    assert (forced["state"], forced["generation"]) == ("active", 2)
    [back] = (await answer(databases, "replay", "rollback", "--collection", "articles"))["collections"]
    assert back["generation"] == 1


async def test_without_a_terminal_a_replay_says_now_and_then_what_it_does(
    projection: Projection, log: LogWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    articles = await log.create_collection()
    await _history(log, articles, 10)
    await projection.catch_up()
    assert (await run(projection.databases, *_REPLAY)).stderr == ""
    monkeypatch.setattr(replay_display, "_BETWEEN_LINES_SECONDS", 0.0)
    head = await projection.head()
    said = (await run(projection.databases, *_REPLAY)).stderr.splitlines()
    assert f"articles: folding {head}/{head}" in said
    assert said[-1] == "articles: promoting"
    monkeypatch.setattr(replays, "_PROJECTED_WITHIN_SECONDS", 0.1)
    late = await log.create(articles, "not projected yet")
    said = (await run(projection.databases, *_REPLAY, "--until-position", str(late))).stderr.splitlines()
    assert said[0] == f"articles: waiting: for the projector {head}/{late}"


async def test_a_stopped_log_and_a_foreign_one_are_told_apart(
    projection: Projection, log: LogWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = await refusal(projection.databases, "replay", "--all")
    assert said.startswith("No projector has begun yet to build this read model")
    articles = await log.create_collection()
    await projection.catch_up()
    monkeypatch.setattr(emptying, "_GIVE_UP_SOON", "SET LOCAL lock_timeout = '1ms'")
    async with _held(projection, f"LOCK TABLE {embeddings_table(articles.collection_id, 1)} IN ACCESS SHARE MODE"):
        said = await refusal(projection.databases, "replay", "anew", "--force")
    assert said.startswith("Another session holds on to what is to be changed")
    await answer(projection.databases, "replay", "anew")
    await projection.catch_up()
    async with connected(projection.databases.events_admin_dsn) as admin:
        await admin.execute("UPDATE log_identity SET log_id = gen_random_uuid()")
    assert "was built from event log" in await refusal(projection.databases, "replay", "--all")


async def test_a_snapshot_that_was_given_up_is_made_anew_by_the_same_command(
    projection: Projection, log: LogWriter
) -> None:
    articles = await log.create_collection()
    await _history(log, articles, 10)
    await projection.catch_up()
    build = ("replay", "build", "--collection", "articles", "--until-position", "8", "--name", "eight")
    await answer(projection.databases, *build)
    await rebuild.give_up(projection.read, await generation(projection, articles, 2), "the disk is full")
    [made] = (await answer(projection.databases, *build))["collections"]
    assert (made["generation"], made["state"], made["snapshot"]) == (3, "ready", "eight")
    assert await states(projection, articles) == {1: "active", 3: "ready"}


async def test_a_generation_made_before_the_collection_was_changed_is_promoted_only_by_force(
    projection: Projection, log: LogWriter
) -> None:
    databases = projection.databases
    articles = await log.create_collection()
    await _history(log, articles, 10)
    await projection.catch_up()
    for until_position in ((), ("--until-position", "8")):
        await answer(databases, "replay", "build", "--collection", "articles", *until_position)
    await answer(databases, "replay", "verify", "--collection", "articles", "--generation", "2")
    await log.change_collection(articles, metric="l2")
    await projection.catch_up()
    promote = ("replay", "promote", "--collection", "articles", "--generation")
    for number in ("2", "3"):
        said = await refusal(databases, *promote, number, "--catch-up")
        assert f"Generation {number} is cosine, vector, hnsw" in said
        assert "'articles' is to be l2, vector, hnsw" in said
    assert (await generation(projection, articles, 3)).until_position == 8
    [done] = (await answer(databases, *promote, "2", "--force"))["collections"]
    assert (done["generation"], done["metric"]) == (2, "cosine")
