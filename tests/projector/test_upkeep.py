"""What goes wrong with one collection's tables is bounded, and no other's concern."""

from __future__ import annotations

from events_schema.collections import IndexSpec
from projector.generations import read_generations
from tests.projector.log_writer import LogWriter
from tests.projector.projecting import Projection, projector_settings, running_upkeep, until
from tests.projector.rebuilding import states
from tests.servers import connected


async def test_from_a_log_that_has_lost_its_end_no_tables_are_made(projection: Projection, log: LogWriter) -> None:
    articles = await log.create_collection()
    await log.change_collection(articles, metric="l2")
    for number in range(5):
        await log.create(articles, f"v{number}")
    await projection.catch_up()
    stored = await projection.stored()
    async with connected(projection.databases.events_admin_dsn) as admin:
        await admin.execute("ALTER TABLE events DISABLE TRIGGER events_are_append_only")
        await admin.execute("DELETE FROM events WHERE position > 4")

    async def is_told() -> bool:
        [active] = await read_generations(projection.read, articles.collection_id)
        return "event log ends at 4" in (active.reason or "")

    async with running_upkeep(projector_settings(projection.databases)):
        await until(is_told, "nobody says why the change is not applied")
    assert await states(projection, articles) == {1: "active"}
    assert await projection.stored() == stored


async def test_of_a_change_that_fails_again_and_again_only_the_last_generation_is_remembered(
    projection: Projection, log: LogWriter
) -> None:
    articles = await log.create_collection(metric="l2")
    await log.create(articles, "zero", values=(0, 0, 0, 0))
    await log.change_collection(articles, metric="cosine")
    await projection.catch_up()

    async def has_failed_often() -> bool:
        return max(await states(projection, articles)) > 4

    async with running_upkeep(projector_settings(projection.databases, rebuild_retry_seconds=0.05)):
        await until(has_failed_often, "it is not tried again")
    there = [*(await states(projection, articles)).values()]
    assert there.count("stale") == 1
    assert there[0] == "active"


async def test_a_collection_that_nobody_foresaw_keeps_no_other_from_being_changed(
    projection: Projection, log: LogWriter
) -> None:
    first, second = sorted(
        [await log.create_collection(name) for name in ("articles", "books")], key=lambda one: one.collection_id
    )
    for collection in (first, second):
        await log.change_collection(collection, index=IndexSpec(kind="hnsw", m=8, ef_construction=20, lists=None))
    await projection.catch_up()
    await projection.read.execute(
        "UPDATE collections SET metric = 'none of ours' WHERE collection_id = $1", first.collection_id
    )

    async def is_applied() -> bool:
        return (await states(projection, second)).get(2) == "active"

    async with running_upkeep(projector_settings(projection.databases)):
        await until(is_applied, "the other one waits")
    assert (await states(projection, first))[1] == "active"
