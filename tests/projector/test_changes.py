"""A collection that is changed gets other tables, beside the projection, while the old ones answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from events_schema.collections import IndexSpec
from projector import claims
from projector.generations import Generation, read_generations
from projector.indexes import index_name
from projector.indexing import tables_of_embeddings
from projector.retirement import drop_retired_tables
from shared.read_model.tables import embeddings_table
from tests.projector.histories import History, long_history
from tests.projector.log_writer import LogWriter, NewCollection
from tests.projector.mortal import Death, Mortality
from tests.projector.projecting import Projection, projector_settings, running_consumer, running_upkeep, until
from tests.projector.rebuilding import states

_HNSW = IndexSpec(kind="hnsw", m=8, ef_construction=20, lists=None)
_IVFFLAT = IndexSpec(kind="ivfflat", m=None, ef_construction=None, lists=2)
_NONE = IndexSpec(kind="none", m=None, ef_construction=None, lists=None)


async def _active(projection: Projection, collection: NewCollection) -> Generation:
    found = await read_generations(projection.read, collection.collection_id)
    return next(one for one in found if one.state == "active")


def _becomes(projection: Projection, collection: NewCollection, **wanted: Any) -> Callable[[], Any]:
    async def is_it() -> bool:
        if not await projection.caught_up():
            return False
        active = await _active(projection, collection)
        return all(getattr(active.shape, name) == value for name, value in wanted.items())

    return is_it


async def _index_definition(connection: asyncpg.Connection, generation: Generation) -> str | None:
    """Of month partitions that of the first one that has it."""
    tables = await tables_of_embeddings(connection, generation)
    names = [index_name(table, generation.shape.index.kind) for table in tables]
    definition: str | None = await connection.fetchval(
        "SELECT max(pg_get_indexdef(to_regclass(name))) FROM unnest($1::text[]) AS given(name)", names
    )
    return definition


@pytest.mark.parametrize(
    ("change", "defined"),
    [
        ({"metric": "ip"}, "hnsw (embedding vector_ip_ops) WITH (m='16'"),
        ({"type": "halfvec"}, "hnsw (embedding halfvec_cosine_ops)"),
        ({"index": _HNSW}, "WITH (m='8', ef_construction='20')"),
        ({"index": _IVFFLAT}, "ivfflat (embedding vector_cosine_ops) WITH (lists='2')"),
        ({"index": _NONE}, None),
        ({"index": _NONE, "metric": "l2", "type": "halfvec"}, None),
        ({"month_partitions": True}, "hnsw (embedding vector_cosine_ops) WITH (m='16'"),
        ({"month_partitions": True, "index": _IVFFLAT}, "ivfflat (embedding vector_cosine_ops) WITH (lists='2')"),
    ],
)
async def test_a_change_is_applied_while_writes_go_on(
    projection: Projection, log: LogWriter, change: dict[str, Any], defined: str | None
) -> None:
    log.pace = timedelta(days=2)  # some months have the rows for an IVFFlat index, and others have not
    articles = await log.create_collection()
    chosen = projector_settings(projection.databases, ivfflat_min_rows=10, batch_max_events=20)
    async with running_consumer(chosen), running_upkeep(chosen):
        await log.create_many(articles, (f"v{number}" for number in range(40)))
        await log.change_collection(articles, **change)
        for number in range(60):
            await log.update(articles, f"v{number % 40}", content=str(number), embedding=(number, 1, 0, 1))
        await until(_becomes(projection, articles, **change), "the change was not applied")
        await log.delete(articles, "v0")
        await until(projection.caught_up, "the projector did not go on")
    active = await _active(projection, articles)
    definition = await _index_definition(projection.read, active)
    assert (definition is not None) == active.indexed == (defined is not None)
    assert defined is None or (definition and defined in definition)
    assert await states(projection, articles) == {active.number: "active"}
    assert await drop_retired_tables(projection.read, 0)
    assert await projection.stored() == await projection.expected()
    await projection.assert_projected()


async def test_changes_that_follow_each_other_end_with_the_last(projection: Projection, log: LogWriter) -> None:
    articles = await log.create_collection()
    await log.create_many(articles, (f"v{number}" for number in range(200)))
    await projection.catch_up()
    chosen = projector_settings(projection.databases, rebuild_max_events_per_second=400, batch_max_events=20)
    async with running_consumer(chosen), running_upkeep(chosen):
        for change in ({"metric": "l2"}, {"type": "halfvec"}, {"index": _NONE}, {"metric": "ip"}):
            await log.change_collection(articles, **change)
            await asyncio.sleep(0.15)
        wanted = _becomes(projection, articles, metric="ip", type="halfvec", index=_NONE)
        await until(wanted, "the last change was not applied")
    assert await projection.stored() == await projection.expected()


async def test_a_new_name_for_tables_without_an_index_makes_no_new_ones(projection: Projection, log: LogWriter) -> None:
    articles = await log.create_collection(index=_NONE)
    await log.create(articles, "a")
    chosen = projector_settings(projection.databases, ivfflat_min_rows=1)
    async with running_consumer(chosen), running_upkeep(chosen):
        await log.change_collection(articles, metric="ip", index=_IVFFLAT)

        await until(projection.caught_up, "the projector did not catch up")

        async def indexed() -> bool:
            active = await _active(projection, articles)
            return active.indexed and active.shape.metric == "ip"

        await until(indexed, "the index was not made")
    assert await states(projection, articles) == {1: "active"}
    assert "vector_ip_ops" in (await _index_definition(projection.read, await _active(projection, articles)) or "")


async def test_an_outgrown_ivfflat_index_is_made_anew(projection: Projection, log: LogWriter) -> None:
    lists_by_size = IndexSpec(kind="ivfflat", m=None, ef_construction=None, lists=None)
    articles = await log.create_collection(index=lists_by_size)
    await log.create_many(articles, (f"v{number}" for number in range(10)))
    chosen = projector_settings(projection.databases, ivfflat_min_rows=10)
    async with running_consumer(chosen), running_upkeep(chosen):
        await until(projection.caught_up, "the projector did not catch up")

        async def made_for() -> int | None:
            return (await _active(projection, articles)).indexed_rows

        await until(made_for, "the index was not made")
        assert await made_for() == 10
        await log.create_many(articles, (f"w{number}" for number in range(10)))
        await until(projection.caught_up, "the projector did not go on")
        await projection.read.execute(f"ANALYZE {embeddings_table(articles.collection_id, 1)}")

        async def made_anew() -> bool:
            return await made_for() == 20

        await until(made_anew, "the index was not made anew")
    assert await projection.stored() == await projection.expected()


async def test_a_vector_that_has_no_place_in_what_is_wanted_keeps_the_old_tables_until_it_is_gone(
    projection: Projection, log: LogWriter
) -> None:
    articles = await log.create_collection(metric="l2")
    await log.create(articles, "zero", values=(0, 0, 0, 0))
    await log.create(articles, "was zero", values=(0, 0, 0, 0))
    await log.update(articles, "was zero", embedding=(1, 0, 0, 0))
    chosen = projector_settings(projection.databases, rebuild_retry_seconds=0.5)
    async with running_consumer(chosen), running_upkeep(chosen):
        await log.change_collection(articles, metric="cosine")

        async def given_up() -> bool:
            return "stale" in (await states(projection, articles)).values()

        await until(given_up, "the rebuild did not fail")
        failed = (await read_generations(projection.read, articles.collection_id))[-1]
        assert "the vector 'zero' stands in the way" in (failed.reason or "")
        assert (await _active(projection, articles)).shape.metric == "l2"
        await log.delete(articles, "zero")
        await until(_becomes(projection, articles, metric="cosine"), "the change was not applied")
    assert [*(await states(projection, articles)).values()] == ["active"]
    assert await projection.stored() == await projection.expected()


async def test_numbers_beyond_half_precision_wait_for_the_tables_that_can_hold_them(
    projection: Projection, log: LogWriter
) -> None:
    articles = await log.create_collection(type="halfvec")
    await log.create(articles, "a")
    await log.change_collection(articles, type="vector")
    await log.create(articles, "large", values=(1e6, -1e6, 1, 0))
    await projection.catch_up()
    assert await projection.parked() == {}
    narrowed = (await projection.stored())[articles.collection_id].vectors["large"].embedding
    assert narrowed == [65504, -65504, 1, 0]
    chosen = projector_settings(projection.databases)
    async with running_upkeep(chosen):
        await until(_becomes(projection, articles, type="vector"), "the change was not applied")
    assert await projection.stored() == await projection.expected()


async def test_numbers_beyond_half_precision_stand_in_the_way_of_half_precision_while_they_are_there(
    projection: Projection, log: LogWriter
) -> None:
    articles = await log.create_collection()
    await log.create(articles, "exactly the greatest", values=(65504, 0, 0, 1))
    await log.create(articles, "was large", values=(1e6, 0, 0, 1))
    await log.update(articles, "was large", embedding=(1, 0, 0, 1))
    await log.create(articles, "large", values=(1e6, 0, 0, 1))
    chosen = projector_settings(projection.databases, rebuild_retry_seconds=0.5)
    async with running_consumer(chosen), running_upkeep(chosen):
        await log.change_collection(articles, type="halfvec")

        async def given_up() -> bool:
            return "stale" in (await states(projection, articles)).values()

        await until(given_up, "the rebuild did not fail")
        failed = (await read_generations(projection.read, articles.collection_id))[-1]
        assert "the vector 'large' stands in the way" in (failed.reason or "")
        await log.update(articles, "large", embedding=(2, 0, 0, 1))
        await until(_becomes(projection, articles, type="halfvec"), "the change was not applied")
    stored = (await projection.stored())[articles.collection_id].vectors
    assert stored["exactly the greatest"].embedding == [65504, 0, 0, 1]


async def test_of_several_projectors_one_applies_a_change(projection: Projection, log: LogWriter) -> None:
    articles = await log.create_collection()
    await log.create_many(articles, (f"v{number}" for number in range(30)))
    await projection.catch_up()
    chosen = projector_settings(projection.databases, batch_max_events=3)
    async with running_consumer(chosen), running_upkeep(chosen), running_upkeep(chosen), running_upkeep(chosen):
        await log.change_collection(articles, metric="l2")
        await until(_becomes(projection, articles, metric="l2"), "the change was not applied")
        await asyncio.sleep(0.3)
    assert await states(projection, articles) == {2: "active"}
    assert await projection.read.fetchval("SELECT last_generation FROM collections") == 2


@pytest.mark.parametrize("dies_before", [True, False])
async def test_a_change_is_applied_whatever_dies_in_between(
    projection: Projection, log: LogWriter, monkeypatch: pytest.MonkeyPatch, dies_before: bool
) -> None:
    steps = [step for step in long_history(300) if "collection" not in step.kind]
    history = History(log, "")
    await history.play(steps[:60])
    await projection.catch_up()
    deaths: list[Death] = [(statement, dies_before) for statement in range(1, 45)]
    mortality = Mortality(deaths)
    monkeypatch.setattr(claims, "connect", mortality.connect)
    monkeypatch.setattr("projector.upkeep._FIRST_RETRY_SECONDS", 0.001)
    monkeypatch.setattr("projector.upkeep._LAST_RETRY_SECONDS", 0.001)
    chosen = projector_settings(projection.databases, batch_max_events=11, upkeep_interval_seconds=0.01)
    async with running_consumer(chosen), running_upkeep(chosen):
        changes: list[dict[str, Any]] = [{"metric": "l2"}, {"type": "halfvec"}, {"index": _NONE}]
        for round_number, change in enumerate(changes):
            for collection in history.live():
                await log.change_collection(collection, **change)
            await history.play(steps[60 + 80 * round_number : 140 + 80 * round_number])
            for collection in history.live():
                await until(_becomes(projection, collection, **change), "the change was not applied")
        await until(projection.caught_up, "the projector did not go on")
    assert len(mortality.pending) < len(deaths) - 20  # connections did die
    assert await projection.stored() == await projection.expected()
    assert await projection.parked() == {}
