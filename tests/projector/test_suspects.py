"""What has no place in the tables that are made is found, wherever it lies and however long that takes."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from projector import rebuild
from projector.errors import RebuildFailedError
from shared.postgres import connect
from tests.projector.log_writer import LogWriter
from tests.projector.projecting import Projection, projector_settings, until
from tests.projector.rebuilding import generation, replaying, shape_of
from tests.servers import connected

_IS_WAITING = """
SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND clock_timestamp() - query_start > interval '1.5s')
"""


async def test_one_among_many_that_only_look_as_if_they_had_no_place_is_found(
    projection: Projection, log: LogWriter
) -> None:
    articles = await log.create_collection()
    for number in range(120):
        await log.create(articles, f"exactly the greatest {number:03}", values=(65504, 0, 0, 1))
    await log.create(articles, "larger", values=(1e6, 0, 0, 1))
    await projection.catch_up()
    async with replaying(projection) as replay:
        begun = await rebuild.begin(replay, articles.collection_id, shape_of(articles, type="halfvec"), automatic=False)
        built = await rebuild.build(replay, begun)
        with pytest.raises(RebuildFailedError, match="'larger' stands in the way"):
            await rebuild.index(replay, built)


async def test_looking_at_every_embedding_may_take_longer_than_other_statements(
    projection: Projection, log: LogWriter
) -> None:
    articles = await log.create_collection()
    await log.create(articles, "a")
    await projection.catch_up()
    chosen = projector_settings(projection.databases, command_timeout_seconds=1.0)
    impatient = await connect(projection.databases.read_dsn, chosen, vectors=True)
    async with replaying(projection) as replay:
        begun = await rebuild.begin(replay, articles.collection_id, shape_of(articles), automatic=False)
        built = await rebuild.build(replay, begun)

        async def takes_long() -> bool:
            return indexing.done() or await projection.read.fetchval(_IS_WAITING, impatient.get_server_pid())

        async with connected(projection.databases.read_admin_dsn) as holder, holder.transaction():
            await holder.execute(f"LOCK TABLE {built.embeddings}")
            indexing = asyncio.create_task(rebuild.index(replace(replay, connection=impatient), built))
            await until(takes_long, "it does not wait")
        await indexing
    await impatient.close()
    assert (await generation(projection, articles, 2)).state == "ready"
