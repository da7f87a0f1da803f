"""A disk that is full while a generation is made: nothing that is searched suffers, and the disk is given back."""

from __future__ import annotations

from collections.abc import AsyncIterator

import numpy as np
import pytest
import pytest_asyncio

from projector.retirement import drop_retired_tables
from tests.conftest import skipped_without
from tests.projector.log_writer import LogWriter, NewCollection
from tests.projector.projecting import Projection, projector_settings, running_upkeep, until
from tests.projector.rebuilding import generation, states
from tests.replay.commanding import answer, refusal
from tests.replay.small_disk import NoMountError, SmallDisk, mounted
from tests.servers import DatabaseFactory, PostgresAdmins, connected

DIMENSION = 1_500
"""Each embedding takes a page of its own."""
VECTORS = 150
TOO_SMALL_FOR_THE_ROWS_KB = 1_024
TOO_SMALL_FOR_THE_INDEX_KB = 2_048
LARGE_ENOUGH_KB = 16_384


@pytest_asyncio.fixture
async def disk(postgres_servers: PostgresAdmins) -> AsyncIterator[SmallDisk]:
    with skipped_without(NoMountError):
        async with mounted(postgres_servers.read) as small:
            yield small


@pytest_asyncio.fixture
async def projection(disk: SmallDisk, database_factory: DatabaseFactory) -> AsyncIterator[Projection]:
    """Goes before the disk does."""
    del disk
    async with (
        database_factory.pair() as databases,
        connected(databases.events_dsn) as log,
        connected(databases.read_dsn) as read,
    ):
        yield Projection(databases, log, read)


async def _articles(projection: Projection, log: LogWriter) -> NewCollection:
    articles = await log.create_collection(dimension=DIMENSION)
    random = np.random.default_rng(1)
    for number in range(VECTORS):
        await log.create(articles, f"v{number}", random.standard_normal(DIMENSION).tolist())
    await projection.catch_up()
    return articles


@pytest.mark.parametrize("kilobytes", [TOO_SMALL_FOR_THE_ROWS_KB, TOO_SMALL_FOR_THE_INDEX_KB])
async def test_a_replay_without_room_is_refused_and_gives_the_disk_back(
    disk: SmallDisk, projection: Projection, log: LogWriter, kilobytes: int
) -> None:
    articles = await _articles(projection, log)
    await disk.take(projection.databases)
    disk.resize(kilobytes)
    said = await refusal(projection.databases, "replay", "--collection", "articles")
    assert "The read database has no room for generation 2; what it took is given back" in said
    assert "No space left on device" in said
    assert await states(projection, articles) == {1: "active", 2: "stale"}
    assert "no room" in ((await generation(projection, articles, 2)).reason or "")
    assert disk.used_bytes() > kilobytes * 1024 // 2
    assert len(await drop_retired_tables(projection.read, grace_seconds=0)) == 2
    assert disk.used_bytes() < 100_000
    await log.update(articles, "v1", content="goes on")
    await projection.catch_up()
    assert await projection.stored() == await projection.expected()
    disk.resize(LARGE_ENOUGH_KB)
    [done] = (await answer(projection.databases, "replay", "--collection", "articles", "--drop-old"))["collections"]
    assert (done["generation"], done["state"]) == (3, "active")
    assert await projection.stored() == await projection.expected()


async def test_a_change_without_room_is_given_up_and_tried_again_later(
    disk: SmallDisk, projection: Projection, log: LogWriter
) -> None:
    articles = await _articles(projection, log)
    await disk.take(projection.databases)
    await log.change_collection(articles, type="halfvec")
    await projection.catch_up()
    chosen = projector_settings(projection.databases, rebuild_retry_seconds=3600)
    async with running_upkeep(chosen):

        async def is_given_up() -> bool:
            return await states(projection, articles) == {1: "active", 2: "stale"}

        await until(is_given_up, "nothing is given up")
    assert "no room" in ((await generation(projection, articles, 2)).reason or "")
    await drop_retired_tables(projection.read, grace_seconds=0)
    assert disk.used_bytes() < 100_000
    disk.resize(LARGE_ENOUGH_KB)
    async with running_upkeep(projector_settings(projection.databases, rebuild_retry_seconds=0.1)):

        async def is_applied() -> bool:
            return (await states(projection, articles)).get(3) == "active"

        await until(is_applied, "it is not tried again")
    assert (await generation(projection, articles, 3)).shape.type == "halfvec"
