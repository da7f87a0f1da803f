"""A collection that moves to another embedding spec: its log has embeddings of both, its tables those of one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from events_schema.embedding import EmbeddingSpec
from events_schema.specs import EmbeddingSpecs, LiveSpec
from events_schema.streams import vector_stream
from projector import rebuild
from projector.catalogue_check import catalogue_faults
from projector.checkpoints import read_positions
from projector.due import Due, Limits, Nothing, Replace, decide
from projector.errors import NotCaughtUpError, RebuildFailedError
from projector.event_log import opened_event_log
from projector.facts import read_facts
from projector.generations import read_active, read_generations
from projector.projection import project
from projector.repair import repair_differing
from projector.verification import Verification, compare
from shared.kafka.partitions import partitions_of
from shared.read_model.specs import specs_of
from tests.projector.log_writer import LogWriter, NewCollection
from tests.projector.moving import (
    LARGE,
    SMALL,
    THERE_AND_BACK,
    TWIN,
    Move,
    MovingHistory,
    is_settled,
    moves,
    numbers,
    settle,
)
from tests.projector.projecting import (
    Projection,
    projector_settings,
    running_consumer,
    running_upkeep,
    until,
    watermark,
)
from tests.projector.read_model import Row, as_text, empty, fold, read_log, stored_vectors
from tests.projector.rebuilding import generation, open_partitioned, rebuilt, replaying, shape_of, states
from tests.replay.commanding import answer, pass_over, refusal


async def _row(projection: Projection, collection: NewCollection) -> tuple[EmbeddingSpec, int, int, EmbeddingSpecs]:
    row = await projection.read.fetchrow(
        "SELECT embedding_spec, spec_since, served_from, specs FROM collections WHERE collection_id = $1",
        collection.collection_id,
    )
    assert row is not None
    served = EmbeddingSpec.model_validate_json(row["embedding_spec"])
    return served, row["spec_since"], row["served_from"], specs_of(served, row["specs"])


async def test_the_catalogue_has_the_spec_that_is_complete_and_beside_it_the_one_that_is_to_be(
    projection: Projection, log: LogWriter
) -> None:
    articles = await log.create_collection()
    small = articles.spec
    await projection.catch_up()
    assert await _row(projection, articles) == (small, 0, 0, EmbeddingSpecs((LiveSpec(small, 0, complete=True),)))
    announced = await log.move(articles, LARGE, small)
    await log.update_collection(articles, "described meanwhile")
    await projection.catch_up()
    both = (LiveSpec(LARGE, announced, complete=False), LiveSpec(small, 0, complete=True))
    assert await _row(projection, articles) == (small, 0, 0, EmbeddingSpecs(both))
    completed = await log.complete(articles, LARGE)
    await projection.catch_up()
    both = (LiveSpec(LARGE, announced, complete=True), LiveSpec(small, 0, complete=True))
    assert await _row(projection, articles) == (LARGE, announced, completed, EmbeddingSpecs(both))
    async with opened_event_log(projector_settings(projection.databases)) as event_log:
        assert await catalogue_faults(projection.read, event_log, articles.collection_id) == []
        await projection.read.execute("UPDATE collections SET specs = NULL")
        [fault] = await catalogue_faults(projection.read, event_log, articles.collection_id)
        assert fault.detail.startswith("specs is ")


async def test_a_change_that_leaves_no_complete_spec_is_parked(projection: Projection, log: LogWriter) -> None:
    articles = await log.create_collection()
    at_fault = await log.move(articles, LARGE)
    await projection.catch_up()
    assert "no spec" in (await projection.parked())[at_fault]


async def _assert_is_the_fold(projection: Projection, collection: NewCollection) -> None:
    assert await projection.stored() == await projection.expected()
    assert await projection.parked() == {}
    async with replaying(projection) as replay:
        for one in await read_active(projection.read, [collection.collection_id]):
            found = await compare(
                Verification(replay.connection, replay.log, replay.settings), one.collection_id, one.number
            )
            assert found.is_same
            assert found.checksum == found.expected_checksum
            assert await catalogue_faults(replay.connection, replay.log, one.collection_id) == []


async def _position_of(projection: Projection, event_type: str, number: int = 0) -> int:
    """Of the event of this type that `number` others of it come before."""
    events = [event for event in await read_log(projection.log) if event.event_type == event_type]
    return events[number].position


async def _under(projection: Projection, collection: NewCollection, spec: EmbeddingSpec) -> dict[str, Row]:
    row = (await projection.expected())[collection.collection_id]
    return row.under(as_text(spec.model_dump(mode="json")))


async def _is_parked(projection: Projection, position: int) -> bool:
    return position in await projection.parked()


async def _due(projection: Projection, collection: NewCollection) -> Due:
    configured = projector_settings(projection.databases)
    facts = await read_facts(projection.read, collection.collection_id, configured)
    assert facts is not None
    return decide(facts, Limits(configured.ivfflat_min_rows))


async def _moved(log: LogWriter, collection: NewCollection, to: EmbeddingSpec, ids: Sequence[str]) -> int:
    """Announced and complete; where it was announced."""
    announced = await log.move(collection, to, collection.spec)
    for number, vector_id in enumerate(ids):
        await log.reembed(collection, vector_id, {to: numbers(number, to)})
    await log.complete(collection, to)
    return announced


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=moves, then=moves, month_partitions=st.booleans())
@example(first=THERE_AND_BACK[:9], then=THERE_AND_BACK[9:], month_partitions=True)
async def test_the_tables_are_the_fold_of_the_log_under_the_spec_that_is_complete(
    projection: Projection, log: LogWriter, first: list[Move], then: list[Move], month_partitions: bool
) -> None:
    log.pace, log.month_partitions = timedelta(days=5), month_partitions
    collection = await log.create_collection(f"c-{uuid4().hex[:8]}")
    history = MovingHistory(log, collection)
    await history.play(first)
    await settle(projection, collection)
    await _assert_is_the_fold(projection, collection)
    await history.play(then)
    await settle(projection, collection)
    await _assert_is_the_fold(projection, collection)
    [active] = await read_active(projection.read, [collection.collection_id])
    async with replaying(projection) as replay:
        await rebuilt(replay, collection.collection_id, active.shape, keep_old=False)
    await _assert_is_the_fold(projection, collection)


async def test_what_leaves_the_spec_that_is_searched_waits_for_the_tables_that_follow(
    projection: Projection, log: LogWriter
) -> None:
    collection = await log.create_collection()
    await MovingHistory(log, collection).play(THERE_AND_BACK)
    over = await _position_of(projection, "CollectionUpdated", 1)
    chosen = projector_settings(projection.databases)
    async with running_consumer(chosen) as consumer:
        await until(lambda: f"position {over} waits" in (consumer.fault or ""), "nothing waits")
        assert await watermark(projection.read) == over - 1
        assert await projection.parked() == {}
        async with running_upkeep(chosen):
            await until(is_settled(projection, collection), "it does not go on")
        await until(lambda: consumer.fault is None, "the fault is not over")
    await _assert_is_the_fold(projection, collection)


@settings(max_examples=1, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(held=st.integers(0, 2), ceiling=st.integers(0, 35), batch=st.integers(1, 40))
@example(held=0, ceiling=20, batch=3)
@example(held=1, ceiling=12, batch=40)
@example(held=2, ceiling=28, batch=40)
async def test_partitions_of_which_one_is_far_behind_come_back_from_nothing(
    projection: Projection, log: LogWriter, held: int, ceiling: int, batch: int
) -> None:
    if not await projection.head():
        await MovingHistory(log, await log.create_collection()).play(THERE_AND_BACK)
    await empty(projection.read)
    head = await projection.head()
    ceilings = {0: head, 1: head, 2: head, held: min(ceiling, head)}
    collection = NewCollection("articles", SMALL, (await read_log(projection.log))[0].collection_id)
    chosen = projector_settings(projection.databases, batch_max_events=batch)
    async with (
        running_consumer(chosen, lambda: open_partitioned(chosen, 3, ceilings)) as consumer,
        running_upkeep(chosen),
    ):

        async def stand() -> bool:
            found = await read_positions(projection.read)
            return found == ceilings or "waits" in (consumer.fault or "")

        await until(stand, "the others do not come as far as they can")
        ceilings[held] = head
        await until(is_settled(projection, collection), "searches do not read the spec that is complete")
    await _assert_is_the_fold(projection, collection)


async def test_a_vector_ahead_of_its_collection_loses_what_nothing_can_be_said_of_any_more(
    projection: Projection, log: LogWriter
) -> None:
    articles = await log.create_collection()
    [own] = partitions_of([articles.stream], 2)
    ids = [f"v{number}" for number in range(20)]
    streams = [vector_stream(articles.collection_id, vector_id) for vector_id in ids]
    changed, kept, *_ = [one for one, at in zip(ids, partitions_of(streams, 2), strict=True) if at != own]
    await log.create_many(articles, (changed, kept))
    await _moved(log, articles, LARGE, (changed, kept))
    await log.change_collection(articles, other_specs=())
    last = await log.update(articles, changed, content="of another time", under={LARGE: numbers(9, LARGE)})
    ceilings = {own: 1, 1 - own: last}
    chosen = projector_settings(projection.databases)
    async with running_consumer(chosen, lambda: open_partitioned(chosen, 2, ceilings)) as consumer:

        async def stands() -> bool:
            return await read_positions(projection.read) == ceilings

        await until(stands, "the vectors do not go ahead")
        assert consumer.fault is None
        rows = await stored_vectors(projection.read, articles.collection_id.hex, 1)
        assert rows[changed].embedding is None
        assert rows[kept].embedding == [1, 2, 3, 4]
        ceilings[own] = last
        async with running_upkeep(chosen):
            await until(is_settled(projection, articles), "the collection does not come after them")
    await _assert_is_the_fold(projection, articles)


async def test_the_tables_before_a_move_are_written_on_and_lead_back_until_their_spec_is_left(
    projection: Projection, log: LogWriter
) -> None:
    articles = await log.create_collection()
    await log.create_many(articles, ("a", "b"))
    announced = await _moved(log, articles, LARGE, ("a", "b"))
    await projection.catch_up()
    async with replaying(projection) as replay:
        shape = shape_of(articles, spec=LARGE, spec_since=announced)
        await rebuilt(replay, articles.collection_id, shape, keep_old=True)
        both = {SMALL: numbers(1, SMALL), LARGE: numbers(1, LARGE)}
        await log.create(articles, "c", under=both)
        await log.update(articles, "a", under={LARGE: numbers(2, LARGE)})
        await log.update(articles, "b", content="other", under={SMALL: numbers(2, SMALL)})
        await projection.catch_up()
        tables = [await stored_vectors(projection.read, articles.collection_id.hex, number) for number in (1, 2)]
        assert tables == [await _under(projection, articles, spec) for spec in (SMALL, LARGE)]
        for number in (1, 2):
            await rebuild.promote(replay, await generation(projection, articles, number), keep_old=True)
            assert (await projection.stored())[articles.collection_id].vectors == tables[number - 1]
        await log.change_collection(articles, other_specs=())
        await log.update(articles, "a", content="last", under={LARGE: numbers(3, LARGE)})
        for event in (await read_log(projection.log))[-2:]:  # Either may be the first that is projected.
            applied = replay.connection.transaction()
            await applied.start()
            await project(replay.connection, [event], replay.log)
            stale, active = await read_generations(replay.connection, articles.collection_id)
            assert (stale.state, active.state) == ("stale", "active")
            assert "has left its model" in (stale.reason or "")
            await applied.rollback()
    await projection.catch_up()
    assert await states(projection, articles) == {1: "stale", 2: "active"}
    await _assert_is_the_fold(projection, articles)


async def test_nothing_is_due_until_a_move_is_complete_and_taken_back_then_the_former_tables_are(
    projection: Projection, log: LogWriter
) -> None:
    articles = await log.create_collection()
    await log.create_many(articles, ("a", "b"))
    await log.move(articles, LARGE, SMALL)
    await log.reembed(articles, "a", {LARGE: numbers(1, LARGE)})
    await projection.catch_up()
    assert await _due(projection, articles) == Nothing()
    await log.move(articles, SMALL, LARGE)
    await log.change_collection(articles, other_specs=())
    await projection.catch_up()
    assert await _due(projection, articles) == Nothing()
    announced = await _moved(log, articles, LARGE, ("a", "b"))
    await projection.catch_up()
    large = shape_of(articles, spec=LARGE, spec_since=announced)
    assert await _due(projection, articles) == Replace(large, search_index=True)
    # A partition that is not there yet may bring vectors that lack theirs.
    moving = projection.read.transaction()
    await moving.start()
    await projection.read.execute("UPDATE projection_checkpoints SET position = position - 1")
    assert await _due(projection, articles) == Nothing()
    await moving.rollback()
    await settle(projection, articles)
    await log.move(articles, SMALL, LARGE)
    await log.update(articles, "a", under={LARGE: numbers(5, LARGE)})
    await settle(projection, articles)
    assert await states(projection, articles) == {3: "active"}
    await log.change_collection(articles, other_specs=())
    await projection.catch_up()
    await _assert_is_the_fold(projection, articles)


async def test_tables_that_lack_an_embedding_are_not_searched_until_the_vector_has_one(
    projection: Projection, log: LogWriter
) -> None:
    articles = await log.create_collection()
    await log.create_many(articles, ("a", "b", "c"))
    await _moved(log, articles, LARGE, ("a",))
    chosen = projector_settings(projection.databases, rebuild_retry_seconds=0.1)

    async def given_up() -> bool:
        found = await read_generations(projection.read, articles.collection_id)
        reasons = [one.reason or "" for one in found if one.state == "stale"]
        return any("2 vectors have no embedding of openai's model large" in reason for reason in reasons)

    async with running_consumer(chosen), running_upkeep(chosen):
        await until(given_up, "the generation is not given up")
        assert (await projection.stored())[articles.collection_id].vectors == await _under(projection, articles, SMALL)
        await log.reembed(articles, "b", {LARGE: numbers(1, LARGE)})
        await log.delete(articles, "c")
        await until(is_settled(projection, articles), "the generation is not made after all")
    await _assert_is_the_fold(projection, articles)


async def test_an_embedding_from_before_the_spec_was_left_counts_for_nothing(
    projection: Projection, log: LogWriter
) -> None:
    articles = await log.create_collection()
    await log.create_many(articles, ("a", "b"))
    await _moved(log, articles, LARGE, ("a", "b"))
    await settle(projection, articles)
    await log.change_collection(articles, other_specs=())
    again = await log.move(articles, SMALL, LARGE)
    await log.reembed(articles, "a", {SMALL: numbers(1, SMALL)})
    await log.complete(articles, SMALL)
    await projection.catch_up()
    async with replaying(projection) as replay:
        shape = shape_of(articles, spec_since=again)
        made = await rebuild.begin(replay, articles.collection_id, shape, automatic=False)
        with pytest.raises(RebuildFailedError, match=r"1 vectors have no embedding .*, 'b' the first"):
            await rebuild.build(replay, made)


async def test_an_embedding_that_is_lost_after_the_build_is_missed_before_searches_read_it(
    projection: Projection, log: LogWriter
) -> None:
    articles = await log.create_collection()
    await log.create_many(articles, ("a", "b"))
    announced = await _moved(log, articles, LARGE, ("a", "b"))
    await projection.catch_up()
    shape = shape_of(articles, spec=LARGE, spec_since=announced)
    async with replaying(projection) as replay:
        made = await rebuild.begin(replay, articles.collection_id, shape, automatic=False)
        made = await rebuild.index(replay, await rebuild.build(replay, made))
        await projection.read.execute(f"DELETE FROM {made.embeddings} WHERE id = 'b'")
        with pytest.raises(RebuildFailedError, match="1 vectors have no embedding"):
            await rebuild.promote(replay, made, keep_old=False)


async def test_another_specs_embedding_or_none_is_found_and_put_right(projection: Projection, log: LogWriter) -> None:
    articles = await log.create_collection()
    await log.create_many(articles, ("a", "b", "c"))
    announced = await _moved(log, articles, TWIN, ("a", "b", "c"))
    await projection.catch_up()
    async with replaying(projection) as replay:
        shape = shape_of(articles, spec=TWIN, spec_since=announced)
        made = await rebuilt(replay, articles.collection_id, shape, keep_old=False)
        await projection.read.execute(f"UPDATE {made.embeddings} SET embedding = '[1,2,3,4]' WHERE id = 'a'")
        await projection.read.execute(f"DELETE FROM {made.embeddings} WHERE id = 'b'")
        verification = Verification(replay.connection, replay.log, replay.settings)
        found = await compare(verification, articles.collection_id, made.number)
        assert found.differing == {"embedding": 1, "unembedded": 1}
        assert found.checksum != found.expected_checksum
        assert await repair_differing(replay.connection, replay.log, made) == 2
    await _assert_is_the_fold(projection, articles)


async def test_a_vector_that_the_log_has_no_embedding_of_differs_from_itself(
    projection: Projection, log: LogWriter
) -> None:
    articles = await log.create_collection()
    await log.create_many(articles, ("a", "b"))
    announced = await _moved(log, articles, LARGE, ("a",))
    await projection.catch_up()
    async with replaying(projection) as replay:
        shape = shape_of(articles, spec=LARGE, spec_since=announced)
        made = await rebuild.begin(replay, articles.collection_id, shape, automatic=False)
        with pytest.raises(RebuildFailedError):
            await rebuild.build(replay, made)
        for sample in (None, 10):
            verification = Verification(replay.connection, replay.log, replay.settings, sample)
            found = await compare(verification, articles.collection_id, made.number)
            assert found.differing == {"unembedded": 1}
            assert found.checksum == found.expected_checksum


async def test_what_brings_no_embedding_of_the_live_spec_is_parked_and_can_be_tried_again_or_passed_over(
    projection: Projection, log: LogWriter
) -> None:
    articles = await log.create_collection()
    await log.create_many(articles, ("a", "b"))
    await log.move(articles, LARGE, SMALL)
    lacking = await log.create(articles, "c", under={LARGE: numbers(1, LARGE)})
    foreign = await log.update(articles, "b", under={TWIN: numbers(1, TWIN)})
    unknown = await log.reembed(articles, "d", {LARGE: numbers(1, LARGE)})
    await log.update(articles, "a", content="new", under={LARGE: numbers(1, LARGE)})
    await projection.catch_up()
    parked = await projection.parked()
    assert sorted(parked) == [lacking, foreign, unknown]
    assert "the event brings" in parked[lacking]
    assert "the event brings" in parked[foreign]
    assert "'d' is updated" in parked[unknown]
    assert await projection.stored() == await projection.expected(without=set(parked))
    said = await answer(projection.databases, "events", "parked", "retry", str(unknown), exit_code=3)
    assert said["position"] == unknown
    await pass_over(projection.databases, foreign)
    await log.update(articles, "b", content="after it")
    await projection.catch_up()
    assert sorted(await projection.parked()) == [lacking, unknown]


async def test_a_snapshot_has_the_embeddings_that_searches_went_by_then(projection: Projection, log: LogWriter) -> None:
    articles = await log.create_collection()
    await MovingHistory(log, articles).play(THERE_AND_BACK)
    await settle(projection, articles)
    completed = [await _position_of(projection, "CollectionReembedded", number) for number in (0, 1)]
    over = await _position_of(projection, "CollectionUpdated", 1)
    events = await read_log(projection.log)
    until_position = ("--collection", "articles", "--until-position")
    for position in (completed[0] - 1, completed[0], over, completed[1] - 1, completed[1] + 1):
        [made] = (await answer(projection.databases, "replay", "build", *until_position, str(position)))["collections"]
        expected = fold(events[:position])[articles.collection_id].vectors
        number = made["generation"]
        assert await stored_vectors(projection.read, articles.collection_id.hex, number) == expected
        assert all(row.embedding is not None for row in expected.values())
        plan = await answer(projection.databases, "replay", *until_position, str(position), "--dry-run")
        assert plan["collections"][0]["vectors"] == len(expected)
    said = await refusal(
        projection.databases, "replay", "promote", "--collection", "articles", "--catch-up", "--generation", "4"
    )
    assert "which the collection has left" in said
    assert (await generation(projection, articles, 4)).snapshot is not None


async def test_a_generation_of_the_model_before_says_of_which_it_is_and_is_promoted_by_force(
    projection: Projection, log: LogWriter
) -> None:
    articles = await log.create_collection()
    await log.create(articles, "a", (1, 2, 3, 4))
    await projection.catch_up()
    of_articles = ("--collection", "articles")
    await answer(projection.databases, "replay", "build", *of_articles)
    await answer(projection.databases, "replay", "verify", *of_articles)
    await _moved(log, articles, LARGE, ["a"])
    await projection.catch_up()
    said = await refusal(projection.databases, "replay", "promote", *of_articles)
    assert "2 is of client's model without a name of 4 dimensions, cosine" in said
    assert "is to be of openai's model large of 3 dimensions, cosine" in said
    await answer(projection.databases, "replay", "promote", *of_articles, "--force")
    assert (await states(projection, articles))[2] == "active"


async def test_what_was_passed_over_before_a_move_excuses_no_vector_from_having_its_embedding(
    projection: Projection, log: LogWriter
) -> None:
    articles = await log.create_collection()
    [own] = partitions_of([articles.stream], 2)
    vector_id = next(
        vector_id
        for vector_id in map(str, range(100))
        if partitions_of([vector_stream(articles.collection_id, vector_id)], 2) != [own]
    )
    await log.create(articles, vector_id)
    at_fault = await log.unreadable(articles, vector_id, "VectorUpdated")
    announced = await log.move(articles, LARGE, articles.spec)
    ceilings = {own: announced, 1 - own: announced}
    chosen = projector_settings(projection.databases)
    shape = shape_of(articles, spec=LARGE, spec_since=announced)
    async with (
        running_consumer(chosen, lambda: open_partitioned(chosen, 2, ceilings)),
        replaying(projection) as replay,
    ):
        await until(lambda: _is_parked(projection, at_fault), "it is not parked")
        await pass_over(projection.databases, at_fault)
        embedded = await log.reembed(articles, vector_id, {LARGE: numbers(1, LARGE)})
        ceilings[own] = await log.complete(articles, LARGE)

        async def stands() -> bool:
            return await read_positions(projection.read) == ceilings

        await until(stands, "the collection does not go ahead of its vector")
        made = await rebuild.begin(replay, articles.collection_id, shape, automatic=False)
        with pytest.raises(NotCaughtUpError, match="has yet to come to position"):
            await rebuild.build(replay, made)
        ceilings[1 - own] = embedded
        await until(stands, "the vector does not come after its collection")
        ceilings[1 - own] = ceilings[own]
        await until(stands, "the partitions do not meet")
        made = await rebuild.build(replay, await generation(projection, articles, made.number))
        assert await projection.read.fetchval(f"SELECT array_agg(id) FROM {made.embeddings}") == [vector_id]


async def test_a_vector_without_the_embedding_that_it_was_to_have_is_missed_also_if_an_older_event_was_passed_over(
    projection: Projection, log: LogWriter
) -> None:
    articles = await log.create_collection()
    await log.create(articles, "a")
    at_fault = await log.unreadable(articles, "a", "VectorUpdated")
    await projection.catch_up()
    await pass_over(projection.databases, at_fault)
    announced = await _moved(log, articles, LARGE, ())
    await projection.catch_up()
    async with replaying(projection) as replay:
        shape = shape_of(articles, spec=LARGE, spec_since=announced)
        made = await rebuild.begin(replay, articles.collection_id, shape, automatic=False)
        with pytest.raises(RebuildFailedError, match=r"1 vectors have no embedding .*, 'a' the first"):
            await rebuild.build(replay, made)


async def test_a_move_whose_embedding_is_passed_over_comes_to_its_end_without_it(
    projection: Projection, log: LogWriter
) -> None:
    """Also where the tables are built from nothing, and the end of the move waits for them."""
    articles = await log.create_collection()
    await log.create_many(articles, ("a", "b"))
    await log.move(articles, LARGE, articles.spec)
    await log.reembed(articles, "a", {LARGE: numbers(1, LARGE)})
    at_fault = await log.unreadable(articles, "b", "VectorReembedded")
    await log.complete(articles, LARGE)
    over = await log.change_collection(articles, other_specs=())
    chosen = projector_settings(projection.databases, rebuild_retry_seconds=0.2)
    async with running_consumer(chosen) as consumer, running_upkeep(chosen):
        await until(lambda: _is_parked(projection, at_fault), "it is not parked")
        await until(lambda: f"position {over} waits" in (consumer.fault or ""), "nothing waits")
        await pass_over(projection.databases, at_fault)
        await until(is_settled(projection, articles), "it does not go on")
        await log.update(articles, "b", content="of the new model", under={LARGE: numbers(2, LARGE)})
        await until(projection.caught_up, "it is not applied")
    assert await projection.stored() == await projection.expected(without={at_fault})
    await answer(projection.databases, "verify")
