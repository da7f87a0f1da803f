"""Writes that run ahead of the projection are slowed, and go on when it has come after them."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from aindusdb.client import AsyncClient
from tests.command.conftest import running_service as running_command_service
from tests.projector.projecting import Projection, projector_settings, running_consumer, until, watermark
from tests.servers import DatabaseFactory, connected

VECTORS = "/api/v1/collections/articles/vectors"


def _batch(name: str, count: int) -> dict[str, Any]:
    return {
        "operations": [{"op": "upsert", "id": f"{name}{number}", "embedding": [1, number]} for number in range(count)]
    }


async def test_writes_are_slowed_while_the_projection_lags_and_no_import_fails(
    database_factory: DatabaseFactory,
) -> None:
    async with (
        database_factory.pair() as databases,
        connected(databases.events_dsn) as log,
        connected(databases.read_dsn) as read,
        running_command_service(
            databases, read_dsn=databases.read_reader_dsn, projection_lag_max_seconds=0.1,
            projection_lag_min_events=10, projection_lag_interval_seconds=0.02,
        ) as service,
    ):  # fmt: skip
        projection = Projection(databases, log, read)
        await service.post("/api/v1/collections", json={"name": "articles", "dimension": 2})
        await service.post("/api/v1/collections", json={"name": "old", "dimension": 2})
        assert (await service.post(f"{VECTORS}/batch", json=_batch("a", 400))).status_code == 200

        async def slowed() -> bool:
            answer = await service.post(VECTORS, json={"embedding": [1, 2]})
            return answer.status_code == 429

        async with running_consumer(projector_settings(databases, batch_max_events=1)):
            await until(slowed, "no write was slowed")
            head = await projection.head()
            for method, path, body in (
                ("POST", VECTORS, {"embedding": [1, 2]}),
                ("PUT", f"{VECTORS}/b", {"embedding": [1, 2]}),
                ("DELETE", f"{VECTORS}/a1", None),
                ("POST", f"{VECTORS}/batch", _batch("b", 2)),
                ("POST", f"{VECTORS}/delete", {"filter": {"$id": "a1"}}),
            ):
                refused = await service.request(method, path, json=body)
                assert refused.status_code == 429, refused.text
                document = refused.json()
                assert document["type"] == "/problems/projection-lag"
                assert int(refused.headers["Retry-After"]) >= 1
                assert document["backlog"] > 0
            assert await projection.head() == head
            # What lightens its load is taken, and an import is not refused.
            assert (await service.delete("/api/v1/collections/old")).status_code == 200
            lines = b'{"id": "x", "embedding": [1, 2]}\n{"id": "y", "embedding": [2, 1]}\n'
            imported = await service.post(
                f"{VECTORS}/import", content=lines, headers={"Content-Type": "application/x-ndjson"}
            )
            assert imported.json()["created"] == 2
            async with AsyncClient("http://service", transport=service._transport) as client:
                written = await client.put("articles", "z", embedding=[1.0, 2.0])
            # It waited until most of what was written before was projected.
            assert await watermark(read) > 200
            assert written.version == 1
            await until(projection.caught_up, "the projector did not catch up")
            assert not await slowed()
        metrics = (await service.get("/metrics")).text
    assert "aindusdb_writes_refused_for_lag_total" in metrics
    assert "aindusdb_writes_slowed 0.0" in metrics


async def test_nobody_waits_for_a_projection_of_which_nothing_is_known(database_factory: DatabaseFactory) -> None:
    async with database_factory.pair() as databases, running_command_service(
        databases, read_dsn="postgresql://nobody@127.0.0.1:1/nowhere", projection_lag_max_seconds=0.001,
        projection_lag_min_events=0, projection_lag_interval_seconds=0.01,
    ) as service:  # fmt: skip
        await service.post("/api/v1/collections", json={"name": "articles", "dimension": 2})
        for number in range(10):
            answer = await service.post(f"{VECTORS}/batch", json=_batch(f"{number}-", 100))
            assert answer.status_code == httpx.codes.OK
            await asyncio.sleep(0)
