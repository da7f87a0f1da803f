"""`aindusdb verify` finds whatever differs from the log, nothing else, and puts right only that."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from events_schema.base import RecordedEvent
from events_schema.streams import vector_stream
from projector.checkpoints import read_checkpoints, replace_layout
from projector.event_log import EventLog
from projector.generations import Generation
from projector.replay_session import opened_beside
from projector.unparking import read_parked, retry
from projector.verification import Verification, compare
from shared import event_log
from tests.projector.log_writer import LogWriter, NewCollection
from tests.projector.parked_before import park_again
from tests.projector.projecting import Projection, projector_settings, running_consumer, until
from tests.projector.rebuilding import generation, rebuilt, replaying, shape_of
from tests.replay.commanding import answer, run
from tests.servers import connected

Meanwhile = Callable[[Projection, int], Awaitable[None]]
Plant = Callable[[Projection, Generation], Awaitable[Any]]


def _statement(text: str) -> Plant:
    async def plant(projection: Projection, found: Generation) -> None:
        await projection.read.execute(text.format(records=found.records, embeddings=found.embeddings))

    return plant


FAULTS: dict[str, tuple[Plant, dict[str, int]]] = {
    "missing row": (
        _statement("DELETE FROM {records} WHERE id = 'v1'; DELETE FROM {embeddings} WHERE id = 'v1'"),
        {"missing": 1},
    ),
    "missing embedding": (_statement("DELETE FROM {embeddings} WHERE id IN ('v1', 'v2')"), {"unembedded": 2}),
    "extra row": (
        _statement(
            "INSERT INTO {records} SELECT 'x', content, metadata, created_at, updated_at, version, position"
            " FROM {records} LIMIT 1"
        ),
        {"extra": 1},
    ),
    "old version": (
        _statement("UPDATE {records} SET version = version - 1, metadata = '{{}}' WHERE id = 'v3'"),
        {"old_version": 1},
    ),
    "wrong position": (_statement("UPDATE {records} SET position = position + 1 WHERE id = 'v3'"), {"version": 1}),
    "altered content": (_statement("UPDATE {records} SET content = 'no' WHERE id = 'v1'"), {"content": 1}),
    "lost content": (_statement("UPDATE {records} SET content = NULL WHERE id = 'v1'"), {"content": 1}),
    "altered metadata": (_statement("UPDATE {records} SET metadata = '[]' WHERE id = 'v1'"), {"metadata": 1}),
    "altered embedding": (
        _statement("UPDATE {embeddings} SET embedding = '[9,9,9,9]' WHERE id = 'v1'"),
        {"embedding": 1},
    ),
    "altered time": (_statement("UPDATE {records} SET created_at = now() WHERE id = 'v1'"), {"timestamps": 1}),
    "another instant": (_statement("UPDATE {records} SET expires_at = now() WHERE id = 'v1'"), {"timestamps": 1}),
}


async def _articles(projection: Projection, log: LogWriter, **definition: Any) -> NewCollection:
    articles = await log.create_collection(**definition)
    for number in range(30):
        await log.create(articles, f"v{number}", (number, 1, 2, 3), content=f"content {number}", metadata={"n": 0.5})
    for number in range(0, 30, 3):
        await log.update(articles, f"v{number}", metadata={"n": number}, embedding=(1, number, 0, 1))
    for number in range(0, 30, 5):
        await log.delete(articles, f"v{number}")
    await projection.catch_up()
    return articles


async def test_every_kind_of_fault_is_found_and_repaired(projection: Projection, log: LogWriter) -> None:
    databases = projection.databases
    articles = await _articles(projection, log)
    expected = await projection.expected()
    well = await answer(databases, "verify")
    [found] = well["collections"][0]["generations"]
    assert well["ok"]
    assert (found["vectors"], found["checksum"]) == (24, found["expected_checksum"])
    assert (found["position"], found["recall_at_10"]) == (await projection.head(), 1.0)
    active = await generation(projection, articles, 1)
    for name, (plant, kinds) in FAULTS.items():
        await plant(projection, active)
        said = await answer(databases, "verify", "--collection", "articles", exit_code=3)
        [found] = said["collections"][0]["generations"]
        assert found["differing"] == kinds, name
        assert not said["ok"]
        revision = await projection.read.fetchval("SELECT revision FROM collection_state")
        repaired = await answer(databases, "verify", "--collection", "articles", "--repair")
        [found] = repaired["collections"][0]["generations"]
        assert (found["repaired"], found["differing"]) == (sum(kinds.values()), {}), name
        assert await projection.read.fetchval("SELECT revision FROM collection_state") != revision
        assert await projection.stored() == expected, name
    await FAULTS["extra row"][0](projection, active)
    # Whether the one that is drawn differs or not, all are counted.
    said = await answer(databases, "verify", "--sample", "1", exit_code=3)
    [found] = said["collections"][0]["generations"]
    assert (found["vectors"], found["expected_vectors"]) == (25, 24)
    await projection.read.execute(f"DELETE FROM {active.records} WHERE id = 'x'")
    for plant, _ in FAULTS.values():
        await plant(projection, active)
    said = await answer(databases, "verify", "--sample", "1000", exit_code=3)
    [found] = said["collections"][0]["generations"]
    assert sum(found["differing"].values()) == 4  # v1, v2, v3, x
    assert (found["vectors"], found["expected_vectors"], found["sampled"]) == (24, 24, 31)
    assert (await answer(databases, "verify", "--repair"))["ok"]
    assert await projection.stored() == expected


async def test_searches_of_another_generation_than_the_active_one_are_found_and_led_back(
    projection: Projection, log: LogWriter
) -> None:
    articles = await _articles(projection, log)
    async with replaying(projection) as replay:
        await rebuilt(replay, articles.collection_id, shape_of(articles), keep_old=True)
    await projection.read.execute("UPDATE collection_state SET generation = 7")
    said = await answer(projection.databases, "verify", exit_code=3)
    [fault] = said["collections"][0]["faults"]
    assert fault == {"kind": "generation", "detail": "searches read generation 7, active is 2"}
    assert (await answer(projection.databases, "verify", "--repair"))["ok"]
    assert await projection.stored() == await projection.expected()
    kept = await generation(projection, articles, 1)
    await projection.read.execute(f"DELETE FROM {kept.records} WHERE id = 'v1'")
    said = await answer(projection.databases, "verify", exit_code=3)
    assert [one["differing"] for one in said["collections"][0]["generations"]] == [{"missing": 1}, {}]
    await projection.read.execute(f"ALTER TABLE {kept.embeddings} RENAME TO elsewhere")
    await projection.read.execute("UPDATE collections SET metric = 'l2', description = 'no'")
    said = await answer(projection.databases, "verify", exit_code=3)
    assert [fault["kind"] for fault in said["collections"][0]["faults"]] == ["collection", "collection", "tables"]


async def test_an_index_that_finds_too_little_is_told(projection: Projection, log: LogWriter) -> None:
    articles = await _articles(projection, log)
    found = await generation(projection, articles, 1)
    async with connected(projection.databases.read_admin_dsn) as admin:
        # As if it were still being made: writes keep it up, and searches may not use it.
        await admin.execute(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = $1::regclass", f"{found.embeddings}_hnsw"
        )
    said = await answer(projection.databases, "verify", exit_code=3)
    assert [fault["kind"] for fault in said["collections"][0]["faults"]] == ["index"]


async def test_writes_that_go_on_and_parked_events_are_no_difference(projection: Projection, log: LogWriter) -> None:
    articles = await _articles(projection, log, type="halfvec")
    await log.update(articles, "never created", content="x")
    await log.update(articles, "never created", content="y")
    chosen = projector_settings(projection.databases)
    done = asyncio.Event()

    async def write() -> None:
        number = 0
        while not done.is_set():
            await log.create(articles, f"w{number}", (number, 1, 2, 3))
            await log.update(articles, "v1", content=str(number), embedding=(number, 0.1, 0, 1))
            number += 1

    async with running_consumer(chosen), asyncio.TaskGroup() as tasks:
        await until(projection.parked, "nothing is parked")
        writing = tasks.create_task(write())
        positions = [
            (await answer(projection.databases, "verify", "--min-recall", "0", *sampled))["collections"][0][
                "generations"
            ][0]["position"]
            for sampled in ((), ("--sample", "50"), (), ("--sample", "50"))
        ]
        done.set()
        await writing
        await until(projection.caught_up, "the projector did not catch up")
    assert positions[0] < positions[-1]
    assert len(await projection.parked()) == 2


async def _retry(projection: Projection, position: int) -> None:
    async with opened_beside(projector_settings(projection.databases)) as (connection, log):
        parked = await read_parked(connection, position)
        assert parked is not None
        assert (await retry(connection, log, parked)).left == 0


async def _deal_out_anew(projection: Projection, _position: int) -> None:
    [checkpoint] = await read_checkpoints(projection.read)
    assert await replace_layout(projection.read, checkpoint.layout, replace(checkpoint.layout, partition_count=3))


@pytest.mark.parametrize("meanwhile", [_retry, _deal_out_anew])
async def test_a_comparison_that_was_overtaken_begins_anew(
    projection: Projection, log: LogWriter, monkeypatch: pytest.MonkeyPatch, meanwhile: Meanwhile
) -> None:
    articles = await _articles(projection, log)
    late = [await log.create(articles, "late"), await log.update(articles, "late", content="applied after all")]
    await projection.catch_up()
    await park_again(projection, articles, "late", late)
    settings, read_collection = projector_settings(projection.databases), EventLog.read_collection
    reads = 0

    async def overtaken(log: EventLog, *asked: Any) -> list[RecordedEvent]:
        nonlocal reads
        events = await read_collection(log, *asked)
        reads += 1
        if reads == 1:
            await meanwhile(projection, late[0])
        return events

    monkeypatch.setattr(EventLog, "read_collection", overtaken)
    async with opened_beside(settings) as (connection, events):
        found = await compare(Verification(connection, events, settings), articles.collection_id, 1)
    assert reads > 1
    assert (found.is_same, found.vectors) == (True, len((await projection.stored())[articles.collection_id].vectors))


async def test_streams_longer_than_a_page_are_read_whole(
    projection: Projection, log: LogWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_log, "STREAM_PAGE", 3)
    articles = await _articles(projection, log)
    for number in range(7):
        await log.update_collection(articles, f"description {number}")
        await log.update(articles, "v1", metadata={"n": number})
    await projection.catch_up()
    chosen = projector_settings(projection.databases, batch_max_events=2)
    async with opened_beside(chosen) as (connection, opened):
        whole = await opened.collection_stream(articles.collection_id)
        assert [event.version for event in whole] == list(range(1, 9))
        of_vector = await opened.stream(vector_stream(articles.collection_id, "v1"))
        assert [event.version for event in of_vector] == list(range(1, 9))
        sampled = await compare(Verification(connection, opened, chosen, 20), articles.collection_id, 1)
    assert sampled.is_same
    assert sampled.sampled


async def test_a_log_with_a_hole_is_told(projection: Projection, log: LogWriter) -> None:
    await _articles(projection, log)
    async with connected(projection.databases.events_admin_dsn) as admin:
        await admin.execute("ALTER TABLE events DISABLE TRIGGER events_are_append_only")
        await admin.execute("DELETE FROM events WHERE position IN (7, 9)")
    said = await answer(projection.databases, "verify", exit_code=3)
    assert said["log"] == {"missing_positions": 2, "first_missing": 7}


@pytest.mark.parametrize("arguments", [("--repair", "--sample", "5"), ("--sample", "0"), ("--min-recall", "2")])
async def test_what_makes_no_sense_is_refused(projection: Projection, arguments: tuple[str, ...]) -> None:
    assert (await run(projection.databases, "verify", *arguments)).exit_code == 2
