"""A generation folded anew from the log is the same read model, whatever dies and whatever happens meanwhile."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from time import monotonic
from uuid import uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events_schema.base import RecordedEvent
from events_schema.collections import IndexSpec
from events_schema.streams import vector_stream
from projector import rebuild
from projector.errors import GenerationGoneError, RebuildFailedError, SnapshotError
from projector.generations import Generation, SnapshotTerms, activate, follow_on
from projector.rebuild import Progress, Replay
from projector.retirement import drop_retired_tables
from shared.kafka.partitions import partitions_of
from shared.postgres import CONNECTION_LOST, Connection
from shared.read_model.tables import records_table
from tests.projector.histories import History, Step, long_history
from tests.projector.histories import steps as steps_of_a_history
from tests.projector.log_writer import LogWriter
from tests.projector.mortal import Death, Mortality
from tests.projector.projecting import Projection, projector_settings, running_consumer, until
from tests.projector.read_model import fold, read_log
from tests.projector.rebuilding import generation, open_partitioned, rebuilt, replaying, shape_of, states
from tests.servers import connected

_deaths = st.lists(st.tuples(st.integers(1, 60), st.booleans()), max_size=8)
_NO_INDEX = IndexSpec(kind="none", m=None, ef_construction=None, lists=None)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=steps_of_a_history, batch=st.integers(1, 9), deaths=_deaths, keep_old=st.booleans(),
    partitioned=st.tuples(st.booleans(), st.booleans()),
)  # fmt: skip
async def test_a_rebuild_is_the_fold_of_the_log_whatever_dies_in_between(
    projection: Projection,
    log: LogWriter,
    steps: list[Step],
    batch: int,
    deaths: list[Death],
    keep_old: bool,
    partitioned: tuple[bool, bool],
) -> None:
    """`partitioned`: by month, before and after."""
    log.pace, log.month_partitions = timedelta(days=9), partitioned[0]
    history = History(log, f"-{uuid4().hex[:8]}")
    middle = len(steps) // 2
    await history.play(steps[:middle])
    await projection.catch_up()
    collections = history.live()
    mortality = Mortality(deaths)
    while True:
        try:
            async with replaying(projection, mortality, batch_max_events=batch) as replay:
                for collection in collections:
                    if (await states(projection, collection)).get(2) != "active":
                        shape = shape_of(collection, month_partitions=partitioned[1])
                        await rebuilt(replay, collection.collection_id, shape, keep_old=keep_old)
            break
        except CONNECTION_LOST:
            await history.play(steps[middle : middle + 1])
            middle += 1
            await projection.catch_up()
        except GenerationGoneError:
            collections = history.live()
    assert await projection.stored() == await projection.expected()
    await history.play(steps[middle:])
    await projection.catch_up(batch_max_events=batch, redelivering=True)
    assert await projection.stored() == await projection.expected()
    assert await projection.parked() == {}


async def test_a_long_history_goes_on_while_it_is_rebuilt_again_and_again(
    projection: Projection, log: LogWriter
) -> None:
    first, *rest = [step for step in long_history(800) if step.name == "left" and "collection" not in step.kind]
    history = History(log, "")
    await history.play([first])
    [collection] = history.live()
    await projection.catch_up()
    numbers = []
    async with (
        running_consumer(projector_settings(projection.databases, batch_max_events=7)),
        replaying(projection, batch_max_events=20) as replay,
    ):
        writing = asyncio.create_task(history.play(rest))
        while not writing.done():
            done = await rebuilt(replay, collection.collection_id, shape_of(collection), keep_old=True)
            numbers.append(done.number)
        await writing
        await until(projection.caught_up, "the projector did not catch up")
    assert numbers == list(range(2, 2 + len(numbers)))
    assert len(numbers) > 2
    assert await projection.stored() == await projection.expected()
    assert await projection.parked() == {}


@pytest.mark.parametrize("ceilings", [(9, 30, 21), (31, 8, 8), (31, 31, 31), (3, 31, 3)])
async def test_a_promotion_brings_each_aggregate_to_its_own_partitions_checkpoint_and_no_further(
    projection: Projection, log: LogWriter, ceilings: tuple[int, int, int]
) -> None:
    articles = await log.create_collection()
    for number in range(10):
        await log.create(articles, f"v{number}", metadata={"n": 0})
        await log.update(articles, f"v{number}", metadata={"n": 1})
        if number % 2:
            await log.delete(articles, f"v{number}")
        else:
            await log.update(articles, f"v{number}", content="more", embedding=(number, 0, 0, 1))
    allowed = dict(enumerate(ceilings))
    chosen = projector_settings(projection.databases, batch_max_events=5)
    async with running_consumer(chosen, lambda: open_partitioned(chosen, 3, allowed)):

        async def stopped() -> bool:
            rows = await projection.read.fetch("SELECT partition, position FROM projection_checkpoints")
            return {row["partition"]: row["position"] for row in rows} == allowed

        await until(stopped, "the partitions are not where they were to stop")
        async with replaying(projection, batch_max_events=4) as replay:
            await rebuilt(replay, articles.collection_id, shape_of(articles), keep_old=True)
        seen = [event for event in await read_log(projection.log) if _is_allowed(event, ceilings)]
        vectors = fold(seen)[articles.collection_id].vectors
        assert (await projection.stored())[articles.collection_id].vectors == vectors
        for partition in allowed:
            allowed[partition] = await projection.head()
        await until(projection.caught_up, "the projector did not go on")
    assert await projection.stored() == await projection.expected()
    assert await projection.parked() == {}


def _is_allowed(event: RecordedEvent, ceilings: tuple[int, ...]) -> bool:
    [partition] = partitions_of([event.aggregate_id], len(ceilings))
    return event.aggregate_type == "collection" or event.position <= ceilings[partition]


@pytest.mark.parametrize("surprises", [1, 3])
async def test_what_is_projected_just_before_the_promotion_is_made_up_for_under_the_lock(
    projection: Projection, log: LogWriter, monkeypatch: pytest.MonkeyPatch, surprises: int
) -> None:
    articles = await log.create_collection()
    await log.create(articles, "a")
    await projection.catch_up()
    count_left = rebuild._count_left
    pending = list(range(surprises))

    async def surprised(replay: Replay, generation: Generation) -> int:
        left = await count_left(replay, generation)
        if left == 0 and pending:
            number = pending.pop()
            await log.update(articles, "a", content=f"surprise {number}")
            await log.create_many(articles, (f"{number}-{more}" for more in range(5 if number else 1)))
            await projection.catch_up()
        return left

    monkeypatch.setattr(rebuild, "_count_left", surprised)
    monkeypatch.setattr(rebuild, "_CAUGHT_UP_EVENTS", 2)
    async with replaying(projection) as replay:
        await rebuilt(replay, articles.collection_id, shape_of(articles), keep_old=True)
    assert pending == []
    assert await states(projection, articles) == {1: "kept", 2: "active"}
    assert await projection.stored() == await projection.expected()
    await projection.assert_projected()


@pytest.mark.parametrize(
    ("written_meanwhile", "in_the_pause"),
    [
        pytest.param([400, 340, 60, 10], 10, id="less-each-time"),
        pytest.param([200, 190], 190, id="no-less-another-time"),
        pytest.param([500, 300, 280], 280, id="less-and-no-less"),
        pytest.param([40], 40, id="few-at-once"),
    ],
)
async def test_what_is_left_to_a_promotion_is_as_little_as_catching_up_can_make_it(
    projection: Projection,
    log: LogWriter,
    monkeypatch: pytest.MonkeyPatch,
    written_meanwhile: list[int],
    in_the_pause: int,
) -> None:
    articles = await log.create_collection()
    await projection.catch_up()
    count_left = rebuild._count_left
    rounds = list(enumerate(written_meanwhile))

    async def write_and_count(replay: Replay, generation: Generation) -> int:
        before, written = rounds.pop(0)
        await log.create_many(articles, (f"{before}-{number}" for number in range(written)))
        await projection.catch_up()
        return await count_left(replay, generation)

    seen: list[Progress] = []
    async with replaying(projection, report=seen.append) as replay:
        begun = await rebuild.begin(replay, articles.collection_id, shape_of(articles), automatic=False)
        begun = await rebuild.index(replay, await rebuild.build(replay, begun))
        monkeypatch.setattr(rebuild, "_count_left", write_and_count)
        await rebuild.promote(replay, begun, keep_old=False)
    assert rounds == []
    assert seen[-1].events == in_the_pause
    assert await projection.stored() == await projection.expected()


async def test_a_pause_is_what_a_promotion_holds_up_and_not_what_it_waits_for(
    projection: Projection, log: LogWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    articles = await log.create_collection()
    await log.create(articles, "a")
    await projection.catch_up()

    async def activate_slowly(connection: Connection, generation: Generation, *, keep_old: bool) -> None:
        await asyncio.sleep(0.2)
        await activate(connection, generation, keep_old=keep_old)

    monkeypatch.setattr(rebuild, "activate", activate_slowly)
    async with replaying(projection) as replay:
        begun = await rebuild.begin(replay, articles.collection_id, shape_of(articles), automatic=False)
        begun = await rebuild.index(replay, await rebuild.build(replay, begun))
        async with projection.read.transaction():
            await projection.read.execute("SELECT FROM projection_checkpoints FOR UPDATE")
            waiting = asyncio.create_task(rebuild.promote(replay, begun, keep_old=False))
            began = monotonic()
            await asyncio.sleep(1.0)
        pause = await waiting
        assert 0.2 <= pause < monotonic() - began - 0.9


async def test_a_build_goes_on_when_the_projection_is_dealt_out_anew(projection: Projection, log: LogWriter) -> None:
    articles = await log.create_collection()
    await log.create_many(articles, (f"v{number}" for number in range(20)))
    chosen = projector_settings(projection.databases)
    ceilings = {0: 12, 1: 21, 2: 5}
    async with replaying(projection, batch_max_events=3) as replay:

        async def at_ceilings() -> bool:
            rows = await projection.read.fetch("SELECT partition, position FROM projection_checkpoints")
            return {row["partition"]: row["position"] for row in rows} == ceilings

        async with running_consumer(chosen, lambda: open_partitioned(chosen, 3, ceilings)):
            await until(at_ceilings, "the partitions are not where they were to stop")
            begun = await rebuild.begin(replay, articles.collection_id, shape_of(articles), automatic=False)
            begun = await rebuild.build(replay, begun)
            assert begun.checkpoints == (12, 21, 5)
        await log.update(articles, "v3", content="later")
        await projection.catch_up()  # from the log itself, as one partition
        begun = await rebuild.build(replay, begun)
        assert begun.checkpoints == (22,)
        begun = await rebuild.index(replay, begun)
        await rebuild.promote(replay, begun, keep_old=False)
    assert await projection.stored() == await projection.expected()
    await projection.assert_projected()


async def test_a_snapshot_is_folded_up_to_its_end_and_on_when_it_is_none_any_longer(
    projection: Projection, log: LogWriter
) -> None:
    articles = await log.create_collection()
    await log.create_many(articles, (f"v{number}" for number in range(20)))
    await projection.catch_up()
    seen: list[Progress] = []
    shape = shape_of(articles)
    async with replaying(projection, report=seen.append, batch_max_events=4) as replay:
        now = datetime.now(UTC)
        terms = SnapshotTerms("past", 11, now, now + timedelta(days=1))
        begun = await rebuild.begin(replay, articles.collection_id, shape, automatic=False, snapshot=terms)
        begun = await rebuild.build(replay, begun)
        assert begun.checkpoints == (11,)
        assert await projection.read.fetchval(f"SELECT count(*) FROM {begun.records}") == 10
    assert [(one.position, one.target) for one in seen] == [(4, 11), (8, 11), (11, 11)]
    assert seen[-1].events == 11
    async with replaying(projection) as replay:
        other = await rebuild.begin(replay, articles.collection_id, shape, automatic=False)
        assert other.number != begun.number
        again = await rebuild.index(replay, await rebuild.build(replay, begun))
        with pytest.raises(SnapshotError):
            await rebuild.promote(replay, again, keep_old=False)
        await rebuild.promote(replay, await follow_on(replay.connection, again), keep_old=False)
    assert await states(projection, articles) == {again.number: "active", other.number: "building"}
    assert await projection.stored() == await projection.expected()


async def test_a_build_keeps_the_pace_that_it_is_given(projection: Projection, log: LogWriter) -> None:
    articles = await log.create_collection()
    await log.create_many(articles, (f"v{number}" for number in range(30)))
    await projection.catch_up()
    async with replaying(projection, pace=60, batch_max_events=5) as replay:
        begun = await rebuild.begin(replay, articles.collection_id, shape_of(articles), automatic=False)
        began = monotonic()
        await rebuild.build(replay, begun)
    assert monotonic() - began >= 0.5


async def test_the_old_generation_is_dropped_once_nobody_uses_it(projection: Projection, log: LogWriter) -> None:
    articles = await log.create_collection()
    await log.create(articles, "a")
    await projection.catch_up()
    async with replaying(projection) as replay:
        await rebuilt(replay, articles.collection_id, shape_of(articles), keep_old=False)
    old = records_table(articles.collection_id, 1)
    async with connected(projection.databases.read_reader_dsn) as reader, reader.transaction():
        await reader.fetch(f"SELECT * FROM {old}")
        assert old not in await drop_retired_tables(projection.read, grace_seconds=0)
    assert old in await drop_retired_tables(projection.read, grace_seconds=0)
    assert await states(projection, articles) == {2: "active"}


async def test_a_kept_generation_is_the_way_back_and_a_number_is_never_used_again(
    projection: Projection, log: LogWriter
) -> None:
    articles = await log.create_collection()
    await log.create(articles, "a")
    await projection.catch_up()
    async with replaying(projection) as replay:
        await rebuilt(replay, articles.collection_id, shape_of(articles), keep_old=True)
        await log.update(articles, "a", content="written to both")
        await log.create(articles, "b")
        await projection.catch_up()
        assert await projection.stored() == await projection.expected()
        revision = await projection.read.fetchval("SELECT revision FROM collection_state")
        await rebuild.promote(replay, await generation(projection, articles, 1), keep_old=True)
        assert await states(projection, articles) == {1: "active", 2: "kept"}
        assert await projection.read.fetchval("SELECT revision FROM collection_state") != revision
        await log.delete(articles, "b")
        await projection.catch_up()
        assert await projection.stored() == await projection.expected()
        await rebuild.discard(projection.read, articles.collection_id, 2)
        third = await rebuilt(replay, articles.collection_id, shape_of(articles), keep_old=True)
        assert third.number == 3
        fourth = await rebuilt(replay, articles.collection_id, shape_of(articles), keep_old=True)
        assert await states(projection, articles) == {3: "kept", 4: "active"}
        with pytest.raises(GenerationGoneError):
            await rebuild.discard(projection.read, articles.collection_id, fourth.number)
    assert await projection.stored() == await projection.expected()
    await projection.assert_projected()


@pytest.mark.parametrize("batch", [1, 1000])
async def test_a_kept_generation_that_cannot_be_written_is_marked_stale_and_delays_nobody(
    projection: Projection, log: LogWriter, batch: int
) -> None:
    articles = await log.create_collection()
    await log.create(articles, "a")
    await projection.catch_up()
    async with replaying(projection) as replay:
        await rebuilt(replay, articles.collection_id, shape_of(articles), keep_old=True)
        await projection.read.execute(f"ALTER TABLE {records_table(articles.collection_id, 1)} DROP COLUMN content")
        await log.update(articles, "a", content="only one can hold this")
        await log.create(articles, "b")
        began = monotonic()
        await projection.catch_up(batch_max_events=batch, parking_window_seconds=60, parking_attempts=2)
        assert monotonic() - began < 30
        assert await states(projection, articles) == {1: "stale", 2: "active"}
        stale = await generation(projection, articles, 1)
        assert "UndefinedColumnError" in (stale.reason or "")
        with pytest.raises(GenerationGoneError):
            await rebuild.promote(replay, stale, keep_old=True)
    assert await projection.stored() == await projection.expected()
    assert await projection.parked() == {}


@pytest.mark.parametrize("batch", [1, 4, 1000])
async def test_what_is_parked_is_left_out_with_its_followers_and_fails_no_rebuild(
    projection: Projection, log: LogWriter, batch: int
) -> None:
    articles = await log.create_collection()
    await log.create(articles, "a", content="before")
    stream = vector_stream(articles.collection_id, "a")
    parked = {await log.append(articles.collection_id, stream, "vector", "VectorPraised", {"id": "a"})}
    parked.add(await log.update(articles, "never created", content="x"))
    await log.create(articles, "b")
    parked.add(await log.update(articles, "a", content="after"))
    await projection.catch_up()
    async with replaying(projection, batch_max_events=batch) as replay:
        begun = await rebuild.begin(replay, articles.collection_id, shape_of(articles), automatic=False)
        ready = await rebuild.index(replay, await rebuild.build(replay, begun))
        # What follows while it is made is parked too, and what does not is in both.
        parked |= {await log.delete(articles, "a"), await log.update(articles, "never created", content="y")}
        await log.update(articles, "b", content="goes on")
        await projection.catch_up()
        await rebuild.promote(replay, ready, keep_old=True)
    assert await states(projection, articles) == {1: "kept", 2: "active"}
    assert await projection.stored() == await projection.expected(without=parked)
    assert set(await projection.parked()) == parked
    await projection.assert_projected(without=parked)


async def test_an_event_that_does_not_fit_fails_the_rebuild_with_its_position(
    projection: Projection, log: LogWriter
) -> None:
    articles = await log.create_collection()
    await log.create_many(articles, (f"v{number}" for number in range(9)))
    poison = await log.update(articles, "never created", content="x")
    await log.create_many(articles, (f"w{number}" for number in range(9)))
    await projection.catch_up()
    # As if another version of this software had been able to apply it.
    await projection.read.execute("DELETE FROM parked_events")
    async with replaying(projection) as replay:
        begun = await rebuild.begin(replay, articles.collection_id, shape_of(articles), automatic=False)
        with pytest.raises(RebuildFailedError, match=rf"position {poison} does not fit.*never created"):
            await rebuild.build(replay, begun)
        assert (await generation(projection, articles, 2)).checkpoints == (poison - 1,)
        await rebuild.give_up(replay.connection, begun, "as it is said")
    assert await states(projection, articles) == {1: "active", 2: "stale"}
    assert await projection.stored() == await projection.expected(without={poison})


async def test_a_collection_deleted_while_it_is_rebuilt_is_left_alone(projection: Projection, log: LogWriter) -> None:
    articles = await log.create_collection()
    await log.create_many(articles, (f"v{number}" for number in range(9)))
    await projection.catch_up()
    async with replaying(projection) as replay:
        begun = await rebuild.begin(replay, articles.collection_id, shape_of(articles), automatic=False)
        built = await rebuild.build(replay, begun)
        ready = await rebuild.index(replay, built)
        await log.delete_collection(articles)
        await projection.catch_up()
        for step in (
            rebuild.build(replay, begun),
            rebuild.promote(replay, ready, keep_old=False),
            rebuild.catch_up(replay, ready),
            rebuild.begin(replay, articles.collection_id, shape_of(articles, index=_NO_INDEX), automatic=False),
        ):
            with pytest.raises(GenerationGoneError):
                await step
    assert await states(projection, articles) == {}
    dropped = await drop_retired_tables(projection.read, grace_seconds=0)
    assert len(dropped) == 4
    await projection.assert_projected()


async def test_two_who_rebuild_the_same_at_once_do_no_harm(projection: Projection, log: LogWriter) -> None:
    articles = await log.create_collection()
    await log.create_many(articles, (f"v{number}" for number in range(40)))
    await projection.catch_up()
    async with replaying(projection, batch_max_events=3) as one, replaying(projection, batch_max_events=4) as other:
        done = await asyncio.gather(
            *(rebuilt(replay, articles.collection_id, shape_of(articles), keep_old=True) for replay in (one, other)),
            return_exceptions=True,
        )
    assert all(not isinstance(outcome, BaseException) or isinstance(outcome, _HARMLESS) for outcome in done), done
    await log.create(articles, "afterwards")
    await projection.catch_up()
    assert await projection.stored() == await projection.expected()


_HARMLESS = (GenerationGoneError, asyncpg.UniqueViolationError, asyncpg.DuplicateTableError)


async def test_an_unindexed_generation_can_be_promoted(projection: Projection, log: LogWriter) -> None:
    articles = await log.create_collection()
    await log.create(articles, "a", metadata={"x": 1})
    await projection.catch_up()
    async with replaying(projection) as replay:
        begun = await rebuild.begin(replay, articles.collection_id, shape_of(articles), automatic=False)
        begun = await rebuild.index(replay, await rebuild.build(replay, begun), search_index=False)
        await rebuild.promote(replay, begun, keep_old=False)
    assert not (await generation(projection, articles, 2)).indexed
    assert await projection.stored() == await projection.expected()
