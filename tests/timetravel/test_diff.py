"""`aindusdb diff` says what the folds of the log up to two positions differ in."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events_schema.collections import CollectionReembedded
from events_schema.embedding import EmbeddingSpec
from events_schema.vectors import VectorReembedded, VectorUpdated
from shared import net_changes
from shared.net_changes import read_net_changes
from tests.projector.histories import History, Step
from tests.projector.histories import steps as steps_of_a_history
from tests.projector.log_writer import embedding
from tests.projector.read_model import CollectionRow, fold, read_log
from tests.replay.commanding import answer, environment, refusal, run
from tests.timetravel.conftest import Past

_PARTS = ("content", "embedding", "expires_at", "metadata")


def _difference(before: CollectionRow | None, after: CollectionRow | None) -> dict[str, tuple[Any, ...]]:
    old, new = before.vectors if before else {}, after.vectors if after else {}
    found: dict[str, tuple[Any, ...]] = {}
    for vector_id in old.keys() | new.keys():
        was, now = old.get(vector_id), new.get(vector_id)
        if was is None or now is None:
            kind = "created" if was is None else "deleted"
            found[vector_id] = (kind, [], was and was.version, now and now.version)
        elif parts := [part for part in _PARTS if getattr(was, part) != getattr(now, part)]:
            found[vector_id] = ("updated", parts, was.version, now.version)
    return found


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps_of_a_history, pairs=st.lists(st.tuples(*[st.integers(0, 99)] * 2), min_size=1, max_size=4))
async def test_a_diff_is_the_difference_of_two_folds(
    past: Past, monkeypatch: pytest.MonkeyPatch, steps: list[Step], pairs: list[tuple[int, int]]
) -> None:
    monkeypatch.setattr(net_changes, "_CHUNK", 2)
    history = History(past.log, f"-{uuid4().hex[:8]}")
    await history.play(steps)
    events = await read_log(past.log.connection)
    for collection in history.live():
        first = next(event.position for event in events if event.collection_id == collection.collection_id)
        for pair in pairs:
            after, to = sorted(first - 1 + number % (len(events) - first + 2) for number in pair)
            before, then = (
                fold([event for event in events if event.position <= at]).get(collection.collection_id)
                for at in (after, to)
            )
            async with past.log.connection.transaction():
                changes = [
                    one async for one in read_net_changes(past.log.connection, collection.collection_id, after, to)
                ]
            found = {one.id: (one.kind, list(one.parts), one.before, one.after) for one in changes}
            assert found == _difference(before, then)
            positions = [one.position for one in changes]
            assert positions == sorted(positions)
            assert all(after < position <= to for position in positions)


async def test_a_move_to_another_model_makes_vectors_differ_from_when_all_of_them_have_it(past: Past) -> None:
    log = past.log
    moving = await log.create_collection(f"moving-{uuid4().hex[:8]}")
    before, after = moving.spec, EmbeddingSpec(provider="openai", model="new", dimension=2)
    changes: dict[int, list[tuple[str, str, list[str]]]] = {}

    async def note(begin: int) -> None:
        end = await log.connection.fetchval("SELECT max(position) FROM events")
        async with log.connection.transaction():
            found = [one async for one in read_net_changes(log.connection, moving.collection_id, begin, end)]
        assert [one.position for one in found] == sorted(one.position for one in found)
        assert all(begin < one.position <= end for one in found)
        changes[end] = sorted((one.kind, one.id, list(one.parts)) for one in found)

    for vector_id in ("deleted", "early", "gone", "late", "text"):
        begin = await log.create(moving, vector_id, content=vector_id)
    await log.delete(moving, "deleted")
    begin = await log.change_collection(moving, embedding_spec=after, other_specs=(before,))
    await log.vector_event(moving, VectorReembedded(id="early", embeddings=embedding((1, 2), after)))
    await note(begin)
    both = (*embedding((4, 3, 2, 1), before), *embedding((1, 2), after))
    await log.vector_event(moving, VectorUpdated(id="late", embeddings=both))
    await log.vector_event(moving, VectorReembedded(id="text", embeddings=embedding((1, 2), after)))
    await note(begin)
    halfway = await log.vector_event(moving, VectorReembedded(id="gone", embeddings=embedding((1, 2), after)))
    await log.collection_event(moving, CollectionReembedded(embedding_spec=after))
    await log.delete(moving, "gone")
    await note(halfway)
    assert list(changes.values()) == [
        [],
        [("updated", "late", ["embedding"])],
        [("deleted", "gone", []), *(("updated", one, ["embedding"]) for one in ("early", "late", "text"))],
    ]
    moved = await log.vector_event(moving, VectorUpdated(id="text", content="other"))
    await log.vector_event(moving, VectorUpdated(id="late", embeddings=embedding((9, 9, 9, 9), before)))
    await note(moved - 1)
    await log.vector_event(moving, VectorUpdated(id="early", embeddings=embedding((3, 2), after)))
    await note(moved)
    assert list(changes.values())[3:] == [[("updated", "text", ["content"])], [("updated", "early", ["embedding"])]]


async def test_the_command_shows_lines_and_a_sum_and_refuses_what_it_cannot_compare(past: Past) -> None:
    databases, log = past.projection.databases, past.log
    wings = await log.create_collection("wings")
    await log.create(wings, "same", content="as before")
    await log.create(wings, "changed", content="old", metadata={"n": 1})
    begin = await log.create(wings, "gone")
    await log.update(wings, "same", content="other")
    await log.update(wings, "same", content="as before")
    await log.update(wings, "changed", content="new", embedding=(4, 3, 2, 1))
    await log.delete(wings, "gone")
    await log.create(wings, "brief")
    await log.delete(wings, "brief")
    end = await log.create(wings, "here\x07")
    await log.set_alias("feathers", wings)
    arguments = ("diff", "--collection", "wings", "--from", str(begin))
    shown = (await run(databases, *arguments)).stdout.splitlines()
    assert [line.split()[:2] for line in shown[:-1]] == [["~", "changed"], ["-", "gone"], ["+", "here\\x07"]]
    assert shown[0].endswith("content,embedding")
    assert shown[-1] == f"1 created, 1 updated, 1 deleted between the positions {begin:,} and {end + 1:,}"

    lines = (await run(databases, *arguments, "--to", str(end), "--json")).stdout.splitlines()
    documents = [json.loads(line) for line in lines]
    assert documents[0]["parts"] == ["content", "embedding"]
    assert [(one["change"], one["from_version"], one["to_version"]) for one in documents[:-1]] == [
        ("updated", 1, 2),
        ("deleted", 1, None),
        ("created", None, 1),
    ]
    assert documents[-1]["more"] is False
    limited = await answer(databases, "diff", "--collection", "feathers", "--from", "0", "--limit", "1")
    assert (limited["created"], limited["updated"], limited["more"]) == (1, 0, True)
    at = await log.connection.fetchval("SELECT timestamp FROM events WHERE position = $1", begin)
    by_time = await answer(databases, *arguments[:3], "--from-time", at.isoformat(), "--to", str(end))
    assert by_time == documents[-1]

    assert "no collection 'nothing'" in await refusal(databases, "diff", "--collection", "nothing", "--from", "1")
    assert "--from or --from-time" in await refusal(databases, *arguments[:3])
    assert "choose one of them" in await refusal(databases, *arguments, "--from-time", "2026-01-01")
    assert "--to-time 'soon' is no time" in await refusal(databases, *arguments, "--to-time", "soon")
    assert "--to-time: 2999-01-01T00:00:00+00:00 is still" in await refusal(
        databases, *arguments, "--to-time", "2999-01-01"
    )
    assert "--to: the log ends at" in await refusal(databases, *arguments, "--to", "999999")
    assert "is behind --to" in await refusal(databases, *arguments, "--to", str(begin - 1))
    deleted = await log.delete_collection(wings)
    name = str(wings.collection_id)
    assert "was deleted at position" in await refusal(
        databases, "diff", "--collection", name, "--from", str(begin), "--to", str(deleted)
    )
    assert (await answer(databases, "diff", "--collection", name, "--from", str(begin)))["to"] == deleted - 1


@pytest.mark.parametrize("command", [("diff", "--collection", "read", "--from", "0"), ("events", "tail")])
async def test_a_reader_that_has_seen_enough_is_no_failure_of_the_database(
    past: Past, command: tuple[str, ...]
) -> None:
    collection = await past.log.create_collection("read")
    await past.log.create(collection, "a")
    reading, writing = os.pipe()
    os.close(reading)
    ended = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "aindusdb", *command,
        env={**os.environ, **environment(past.projection.databases)}, stdout=writing, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    os.close(writing)
    _, said = await ended.communicate()
    assert said == b""
    await past.log.delete_collection(collection)
