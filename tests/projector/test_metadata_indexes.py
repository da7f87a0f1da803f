"""Indexes over fields of the metadata: made and dropped beside the projection, whatever dies meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from events_schema.collections import MetadataIndexSpec, MetadataIndexType
from projector import claims
from projector.catalogue_check import catalogue_faults
from projector.event_log import opened_event_log
from projector.generations import Generation, read_generations
from projector.metadata_indexes import index_states
from projector.metadata_indexing import names_of_ready_indexes
from shared.read_model.metadata_indexes import index_of
from tests.projector.log_writer import LogWriter, NewCollection
from tests.projector.mortal import Death, Mortality
from tests.projector.projecting import Projection, projector_settings, running_consumer, running_upkeep, until
from tests.projector.rebuilding import rebuilt, replaying, shape_of
from tests.servers import connected


def _spec(field: str, of: MetadataIndexType = "number") -> MetadataIndexSpec:
    return MetadataIndexSpec(field=field, type=of)


_PRICE, _NAME, _DATE = _spec("price"), _spec("author.name", "string"), _spec("published", "date")

_METADATA: tuple[dict[str, Any], ...] = (
    {"price": 12.5, "author": {"name": "Ada"}, "published": "1958-03-01"},
    {"price": "12", "author": {"name": 7}, "published": "yesterday"},
    {"price": [1, "x", None], "author": [{"name": "Max"}], "published": {}},
    {"price": 10**18, "author": {"name": "x" * 60_000}, "published": "9999-12-31T23:59:60Z"},
    {"price": 1e300, "author": {"name": "\U0010ffff"}, "published": "x" * 300},
    {"price": True, "author": "nobody", "published": None},
)


async def _create_many(log: LogWriter, collection: NewCollection, prefix: str, number: int) -> None:
    for n in range(number):
        await log.create(collection, f"{prefix}{n}", metadata=_METADATA[n % len(_METADATA)])


async def _live(projection: Projection, collection: NewCollection) -> list[Generation]:
    found = await read_generations(projection.read, collection.collection_id)
    return [one for one in found if one.state in {"active", "kept"}]


async def _indexes(projection: Projection, generation: Generation) -> dict[str, bool]:
    """The indexes over single fields that the generation's tables have, and whether searches may use them."""
    rows = await projection.read.fetch(
        """SELECT x.relname AS name, i.indisvalid FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
           JOIN pg_class t ON t.oid = i.indrelid
           WHERE t.relkind = 'r' AND i.indexprs IS NOT NULL AND starts_with(t.relname, $1)""",
        generation.records,
    )
    return {row["name"]: row["indisvalid"] for row in rows}


def _has(projection: Projection, collection: NewCollection, *specs: MetadataIndexSpec) -> Callable[[], Awaitable[bool]]:
    """Whether each live generation has these and no others, and says so."""

    async def has() -> bool:
        if not await projection.caught_up():
            return False
        for generation in await _live(projection, collection):
            if await index_states(projection.read, generation) != dict.fromkeys(specs, "ready"):
                return False
            expected = dict.fromkeys(await names_of_ready_indexes(projection.read, generation), True)
            if await _indexes(projection, generation) != expected:
                return False
        return True

    return has


@pytest.mark.parametrize("month_partitions", [False, True])
async def test_every_live_generation_has_the_indexes_that_are_declared_and_no_others(
    projection: Projection, log: LogWriter, month_partitions: bool
) -> None:
    log.month_partitions, log.pace = month_partitions, timedelta(days=5)
    articles = await log.create_collection(metadata_indexes=[_PRICE])
    chosen = projector_settings(projection.databases, batch_max_events=5)
    async with running_consumer(chosen), running_upkeep(chosen):
        await _create_many(log, articles, "a", 12)
        # They are made with the tables, and with those of new months.
        await until(_has(projection, articles, _PRICE), "it was not made with its tables")
        await log.change_collection(articles, metadata_indexes=(_NAME, _PRICE))
        await _create_many(log, articles, "b", 12)
        await until(_has(projection, articles, _NAME, _PRICE), "the second was not made")
        shape = shape_of(articles, metric="l2", month_partitions=month_partitions)
        async with replaying(projection) as replay:
            await rebuilt(replay, articles.collection_id, shape, keep_old=True)
        assert [one.state for one in await _live(projection, articles)] == ["kept", "active"]
        assert await _has(projection, articles, _NAME, _PRICE)()
        await log.change_collection(articles, metric="l2", metadata_indexes=(_spec("price", "string"), _DATE))
        await _create_many(log, articles, "c", 12)
        await until(_has(projection, articles, _spec("price", "string"), _DATE), "the change was not applied")
        async with opened_event_log(chosen) as event_log:
            assert await catalogue_faults(projection.read, event_log, articles.collection_id) == []
            [name, *_] = await names_of_ready_indexes(projection.read, (await _live(projection, articles))[-1])
            await projection.read.execute(f"DROP INDEX {name}")
            [fault] = await catalogue_faults(projection.read, event_log, articles.collection_id)
            assert (fault.kind, name in fault.detail) == ("index", True)
        await log.change_collection(articles, metadata_indexes=())
        await until(_has(projection, articles), "they were not dropped")
    assert await projection.stored() == await projection.expected()
    assert await projection.parked() == {}


@pytest.mark.parametrize("dies_before", [True, False])
async def test_indexes_are_made_and_dropped_whatever_dies_in_between(
    projection: Projection, log: LogWriter, monkeypatch: pytest.MonkeyPatch, dies_before: bool
) -> None:
    articles = await log.create_collection()
    await _create_many(log, articles, "a", 6)
    await projection.catch_up()
    deaths: list[Death] = [(statement, dies_before) for statement in range(1, 60)]
    mortality = Mortality(deaths)
    monkeypatch.setattr(claims, "connect", mortality.connect)
    monkeypatch.setattr("projector.upkeep._FIRST_RETRY_SECONDS", 0.001)
    monkeypatch.setattr("projector.upkeep._LAST_RETRY_SECONDS", 0.001)
    chosen = projector_settings(projection.databases, upkeep_interval_seconds=0.01)
    async with running_consumer(chosen), running_upkeep(chosen):
        for declared in ((_NAME, _PRICE), (_DATE,), (_PRICE,)):
            await log.change_collection(articles, metadata_indexes=declared)
            await until(_has(projection, articles, *declared), f"{declared} were not made")
    assert len(mortality.pending) < len(deaths) - 20  # connections did die
    assert await projection.stored() == await projection.expected()


async def test_a_build_that_was_cut_off_is_dropped_and_done_again(projection: Projection, log: LogWriter) -> None:
    articles = await log.create_collection()
    await _create_many(log, articles, "a", 6)
    await projection.catch_up()
    [generation] = await _live(projection, articles)
    statement = index_of(_PRICE).statement(generation.records, concurrently=True)
    async with connected(projection.databases.read_dsn) as writer, connected(projection.databases.read_dsn) as builder:
        await writer.execute(f"BEGIN; DELETE FROM {generation.records} WHERE false")
        building = asyncio.create_task(builder.execute(statement))
        await until(lambda: _indexes(projection, generation), "the build did not begin")
        await projection.read.execute("SELECT pg_cancel_backend($1)", builder.get_server_pid())
        with pytest.raises(asyncpg.QueryCanceledError):
            await building
    assert list((await _indexes(projection, generation)).values()) == [False]
    await log.change_collection(articles, metadata_indexes=(_PRICE,))
    chosen = projector_settings(projection.databases)
    async with running_consumer(chosen), running_upkeep(chosen):
        await until(_has(projection, articles, _PRICE), "it was not made")
