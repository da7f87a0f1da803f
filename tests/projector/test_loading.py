"""What is copied into a generation's tables is what would be written by id."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from events_schema.base import RecordedEvent
from events_schema.embedding import Float32Array
from events_schema.streams import vector_stream
from projector import folding, rebuild
from projector.event_log import opened_event_log
from projector.folding import left, moved
from projector.generations import Generation
from projector.loading import Load, prepare, write_load
from projector.vectors import Under, fold_vectors
from shared.read_model.tables import records_table
from tests.projector.log_writer import DIMENSION, LogWriter
from tests.projector.projecting import Projection, projector_settings, until
from tests.projector.read_model import read_log
from tests.projector.rebuilding import rebuilt, replaying, shape_of, states

_ids = st.lists(
    st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12),
    min_size=1,
    max_size=8,
    unique=True,
)
# Ordinary numbers, those that are rounded to half precision, and those beyond what it holds.
_numbers = arrays(np.float32, DIMENSION, elements=st.floats(-1e5, 1e5, width=32)).filter(lambda row: np.any(row != 0))


def _event(position: int) -> RecordedEvent:
    stream = uuid4()
    return RecordedEvent(
        position, uuid4(), "default", uuid4(), stream, "vector", 1, "VectorDeleted", 1, {}, {}, datetime.now(UTC)
    )


async def _rows(projection: Projection, found: Generation) -> list[tuple[Any, ...]]:
    rows = await projection.read.fetch(
        f"""SELECT r.*, {found.shape.type}_send(e.embedding) AS embedding, to_jsonb(e) ->> 'created_at' AS embedded_at
            FROM {found.records} r FULL JOIN {found.embeddings} e USING (id) ORDER BY r.id"""
    )
    return [tuple(row) for row in rows]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ids=_ids, numbers=st.lists(_numbers, min_size=8, max_size=8), vector_type=st.sampled_from(["vector", "halfvec"]),
    month_partitions=st.booleans(),
)  # fmt: skip
async def test_copied_rows_are_those_that_are_written_by_id(
    projection: Projection,
    log: LogWriter,
    ids: list[str],
    numbers: list[Float32Array],
    vector_type: str,
    month_partitions: bool,
) -> None:
    log.pace = timedelta(days=5)
    collection = await log.create_collection(f"c-{uuid4().hex[:8]}", metric="l2")
    for vector_id, row in zip(ids, numbers, strict=False):
        await log.create(collection, vector_id, row.tolist(), metadata={"of": vector_id})
    await log.update(collection, ids[0], content="changed", embedding=numbers[-1].tolist())
    await projection.catch_up()
    shape = shape_of(collection, metric="l2", type=vector_type, month_partitions=month_partitions)
    events = [event for event in await read_log(log.connection) if event.collection_id == collection.collection_id]
    effects = fold_vectors([event for event in events if event.aggregate_type == "vector"], Under(shape.spec))
    rows = []
    async with replaying(projection) as replay:
        for by_id in (False, True):
            # Of another kind each time, so that each has tables of its own.
            made = await rebuild.begin(replay, collection.collection_id, shape, automatic=by_id)
            load = prepare(made, effects, by_id=by_id)
            assert len(load.records) == (0 if by_id else len(ids))
            assert sorted(load.ids) == sorted(ids)
            async with replay.connection.transaction():
                await write_load(replay.connection, made, load)
            rows.append(await _rows(projection, made))
    assert rows[0] == rows[1]
    assert len(rows[0]) == len(ids)


async def test_a_vector_that_is_not_new_after_all_is_written_by_id(projection: Projection, log: LogWriter) -> None:
    articles = await log.create_collection()
    await log.create(articles, "a", content="first")
    # No command writes a vector into a stream that is not its own; a log that was filled otherwise may have it.
    data = {"id": "a", "embeddings": [], "metadata": {}, "content": "second"}
    [first] = [event for event in await read_log(log.connection) if event.aggregate_type == "vector"]
    data["embeddings"] = first.event_data["embeddings"]
    await log.create(articles, "b")
    await log.append(
        articles.collection_id, vector_stream(articles.collection_id, "z"), "vector", "VectorCreated", data
    )
    await log.create(articles, "c")
    await projection.catch_up()
    async with replaying(projection, batch_max_events=3) as replay:
        await rebuilt(replay, articles.collection_id, shape_of(articles), keep_old=True)
    assert await states(projection, articles) == {1: "kept", 2: "active"}
    assert await projection.stored() == await projection.expected()


@pytest.mark.parametrize("month_partitions", [False, True])
async def test_a_vector_that_comes_again_takes_the_place_of_its_old_row(
    projection: Projection, log: LogWriter, month_partitions: bool
) -> None:
    """Deleted and created in one batch, months after an earlier batch brought it first."""
    log.pace, log.month_partitions = timedelta(days=40), month_partitions
    articles = await log.create_collection()
    await log.create(articles, "a", content="first")
    await log.create(articles, "b")
    await log.delete(articles, "a")
    await log.create(articles, "a", content="second")
    await log.create(articles, "c")
    await log.delete(articles, "c")
    await projection.catch_up()
    shape = shape_of(articles, month_partitions=month_partitions)
    async with replaying(projection, batch_max_events=3) as replay:
        await rebuilt(replay, articles.collection_id, shape, keep_old=False)
    assert await projection.read.fetchval(f"SELECT count(*) FROM {records_table(articles.collection_id, 2)}") == 2
    assert await projection.stored() == await projection.expected()


async def test_batches_are_read_ahead_but_for_one_and_no_further(
    projection: Projection, log: LogWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    articles = await log.create_collection()
    await log.create_many(articles, (f"v{number}" for number in range(40)))
    await projection.catch_up()
    chosen = projector_settings(projection.databases)
    async with replaying(projection, batch_max_events=4) as replay:
        made = await rebuild.begin(replay, articles.collection_id, shape_of(articles), automatic=False)
        read = 0
        async with opened_event_log(chosen) as opened:
            read_collection = opened.read_collection

            async def counting(*arguments: Any) -> Any:
                nonlocal read
                read += 1
                return await read_collection(*arguments)

            monkeypatch.setattr(opened, "read_collection", counting)
            seen = 0
            async for batch in folding.batches(opened, made, [41], 4):
                seen += 1
                due = min(seen + 2, 11)
                await until(lambda due=due: read == due, "nothing is read ahead")  # type: ignore[misc]
                await asyncio.sleep(0.01)
                assert read == due
                assert len(batch.events) <= 4
                assert isinstance(batch.load, Load)
            assert seen == read == 11


@given(
    reached=st.lists(st.integers(0, 30), min_size=3, max_size=3),
    targets=st.lists(st.integers(0, 30), min_size=3, max_size=3),
    limit=st.integers(1, 7),
)
def test_the_positions_that_are_left_end_at_the_targets_and_pass_none(
    reached: list[int], targets: list[int], limit: int
) -> None:
    at: tuple[int, ...] = tuple(reached)
    for _ in range(100):
        span = left(at, targets)
        if span is None:
            break
        after, to = span
        assert after < to
        # Every position has an event of the collection.
        at = moved(at, targets, [_event(min(after + limit, to))])
    assert at == tuple(max(one, target) for one, target in zip(reached, targets, strict=True))
    assert left(at, targets) is None
    assert moved(reached, targets, []) == at
