"""Searches go on while a collection's tables are replaced, and always answer from one of its generations, whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import numpy as np
import pytest
import pytest_asyncio

from events_schema.collections import IndexSpec, MetadataIndexSpec
from projector.retirement import drop_retired_tables
from query_service.polls import take_poll
from shared.read_model.index_states import read_not_ready
from shared.read_model.metadata_indexes import index_of
from shared.read_model.tables import records_table
from tests.projector.log_writer import LogWriter, NewCollection
from tests.projector.projecting import Projection, projector_settings, running_consumer, running_upkeep, until
from tests.query.conftest import running_service
from tests.servers import DatabaseFactory, connected

NUMBER = 300
_EMBEDDINGS = np.random.default_rng(3).standard_normal((NUMBER, 4)).astype(np.float32)


@pytest_asyncio.fixture
async def projection(database_factory: DatabaseFactory) -> AsyncIterator[Projection]:
    async with (
        database_factory.pair() as databases,
        connected(databases.events_dsn) as log,
        connected(databases.read_dsn) as read,
    ):
        yield Projection(databases, log, read)


class Searching:
    """Searches one after the other, and holds each answer against what it must be under the metric that it was
    found by."""

    def __init__(self, client: httpx.AsyncClient, collection: NewCollection) -> None:
        self._client = client
        self._path = f"/api/v1/collections/{collection.name}"
        self.generations: list[int] = []
        self.scans: set[str] = set()

    async def forever(self) -> None:
        number = position = 0
        while True:
            position = await self._one(number % NUMBER, position)
            number += 7

    async def _one(self, number: int, last_position: int) -> int:
        body = {"embedding": _EMBEDDINGS[number].tolist(), "k": 5, "ef_search": 300, "include": [], "explain": True}
        answer = await self._client.post(f"{self._path}/vectors/search", json=body)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        assert len(found["hits"]) == 5
        assert found["complete"]
        assert found["freshness"]["parked"] == 0
        assert found["freshness"]["position"] >= last_position
        generation = found["explain"]["generation"]
        if generation not in self.generations:
            assert not self.generations or generation > max(self.generations)
            self.generations.append(generation)
        self.scans.add(found["explain"]["scan"])
        similarity = _EMBEDDINGS @ _EMBEDDINGS[number]
        if abs(found["hits"][0]["distance"]) < 1e-3:  # cosine finds the vector itself, the inner product the longest
            similarity /= np.linalg.norm(_EMBEDDINGS, axis=1)
        ids = [hit["id"] for hit in found["hits"]]
        assert ids == [f"v{n}" for n in np.argsort(-similarity)[:5]]
        position: int = found["freshness"]["position"]
        return position


async def test_searches_go_on_while_metric_and_index_are_changed(projection: Projection) -> None:
    log = LogWriter(projection.log, pace=timedelta(hours=6))
    articles = await log.create_collection()
    for number, embedding in enumerate(_EMBEDDINGS):
        await log.create(articles, f"v{number}", values=embedding.tolist())
    chosen = projector_settings(projection.databases, ivfflat_min_rows=100, batch_max_events=50)
    async with (
        running_consumer(chosen),
        running_upkeep(chosen),
        running_service(projection.databases.read_reader_dsn) as client,
    ):
        await until(projection.caught_up, "the projector did not catch up")
        searching = Searching(client, articles)
        running = [asyncio.create_task(searching.forever()) for _ in range(3)]
        changes: list[dict[str, Any]] = [
            {"metric": "ip"},
            {"index": IndexSpec(kind="none", m=None, ef_construction=None, lists=None)},
            {"metric": "cosine", "index": IndexSpec(kind="hnsw", m=8, ef_construction=64, lists=None)},
            {"month_partitions": True},
            {"month_partitions": False},
        ]
        for version, change in enumerate(changes, start=2):
            await log.change_collection(articles, **change)
            await log.update(articles, "v0", content=str(change))

            async def applied(version: int = version) -> bool:
                shown = (await client.get(f"/api/v1/collections/{articles.name}")).json()
                return shown["version"] == version and all(
                    shown["active"][name] == shown[name] for name in ("metric", "type", "index", "month_partitions")
                )

            await until(applied, "the change does not show")
            await drop_retired_tables(projection.read, grace_seconds=0)
            assert not any(task.done() for task in running)
            await asyncio.sleep(0.2)
        for task in running:
            task.cancel()
        outcomes = await asyncio.gather(*running, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes), outcomes
    assert searching.generations == [1, 2, 3, 4, 5, 6]
    assert searching.scans >= {"index", "exact"}


async def test_a_collection_says_what_has_become_of_a_change(projection: Projection) -> None:
    log = LogWriter(projection.log)
    articles = await log.create_collection(metric="l2")
    await log.create_many(articles, (f"v{number}" for number in range(30)))
    await log.create(articles, "zero", values=(0, 0, 0, 0))
    path = f"/api/v1/collections/{articles.name}"
    chosen = projector_settings(projection.databases, batch_max_events=5, rebuild_max_events_per_second=60)
    async with running_consumer(chosen), running_service(projection.databases.read_reader_dsn) as client:

        async def shown() -> dict[str, Any]:
            await until(projection.caught_up, "the projector did not catch up")
            item: dict[str, Any] = (await client.get(path)).json()
            [listed] = (await client.get("/api/v1/collections")).json()["items"]
            assert listed.keys() == item.keys() - {"freshness"}
            return item

        async def until_it_says(state: str | None) -> dict[str, Any]:
            found: dict[str, Any] = {}

            async def says() -> bool:
                found.update((await client.get(path)).json())
                return bool((found["change"] or {"state": None})["state"] == state)

            await until(says, f"the change is not {state}")
            return found

        assert (await shown())["change"] is None
        await log.change_collection(articles, metric="cosine")
        waiting = (await until_it_says("waiting"))["change"]
        assert (waiting["generation"], waiting["reason"]) == (None, None)
        async with running_upkeep(chosen):
            running = (await until_it_says("running"))["change"]
            assert running["generation"] == 2
            assert running["position"] <= running["target"] == await projection.head()
            failed = await until_it_says("failed")
            assert "the vector 'zero' stands in the way" in failed["change"]["reason"]
            assert (failed["metric"], failed["active"]["metric"]) == ("cosine", "l2")
            assert (await shown())["change"] == failed["change"]
            await log.change_collection(articles, metric="ip")
            done = await until_it_says(None)
            assert done["active"]["metric"] == done["metric"] == "ip"


async def test_a_change_that_nobody_can_begin_says_why(projection: Projection, monkeypatch: pytest.MonkeyPatch) -> None:
    log = LogWriter(projection.log)
    articles = await log.create_collection()
    await log.change_collection(articles, metric="l2")
    chosen = projector_settings(projection.databases)

    async def pooled(_connection: object) -> bool:
        return True

    monkeypatch.setattr("projector.claims.is_pooled", pooled)
    async with (
        running_consumer(chosen),
        running_upkeep(chosen),
        running_service(projection.databases.read_reader_dsn) as client,
    ):

        async def told() -> bool:
            answer = (await client.get(f"/api/v1/collections/{articles.name}")).json()
            change = answer.get("change") or {}
            return change.get("state") == "waiting" and "AINDUSDB_READ_DIRECT_DSN" in (change["reason"] or "")

        await until(told, "nobody says why the change waits")


async def test_a_collection_says_what_has_become_of_its_indexes_over_metadata(
    projection: Projection, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = LogWriter(projection.log)
    articles = await log.create_collection()
    for number in range(30):
        await log.create(articles, f"v{number}", metadata={"price": number})
    price = MetadataIndexSpec(field="price", type="number")
    await log.change_collection(articles, metadata_indexes=(price,))
    monkeypatch.setattr("projector.upkeep._FIRST_RETRY_SECONDS", 0.1)
    monkeypatch.setattr("projector.upkeep._LAST_RETRY_SECONDS", 0.1)
    name = index_of(price).name(records_table(articles.collection_id, 1))
    # What bears the name of the index keeps it from being made.
    await projection.read.execute(f"CREATE TABLE {name} ()")
    chosen = projector_settings(projection.databases)
    async with running_consumer(chosen), running_service(projection.databases.read_reader_dsn) as client:

        async def says(state: str) -> dict[str, Any] | None:
            shown = (await client.get(f"/api/v1/collections/{articles.name}")).json()
            [listed] = (await client.get("/api/v1/collections")).json().get("items") or [{}]
            found = [one for one in shown.get("metadata_indexes", ()) if one["state"] == state]
            assert shown.get("change") is None
            return found[0] if found and listed["metadata_indexes"] else None

        async def count() -> tuple[int, bool]:
            body = {"filter": {"price": {"$gte": 20}}}
            answer = (await client.post(f"/api/v1/collections/{articles.name}/vectors/count", json=body)).json()
            return answer["count"], answer["exact"]

        await until(lambda: says("building"), "nobody says that it is to be made")
        before = await take_poll(projection.read, None, 5)
        assert before.catalogue.by_id[articles.collection_id].metadata_indexes == {}
        assert [one.state for one in await read_not_ready(projection.read, 5)] == ["building"]
        async with running_upkeep(chosen):
            await until(lambda: says("failed"), "nobody says that it failed")
            assert f'"{name}" already exists' in ((await says("failed")) or {})["reason"]
            assert await count() == (10, True)
            [failed] = await read_not_ready(projection.read, 5)
            assert (failed.collection, failed.field) == (articles.name, "price")
            await projection.read.execute(f"DROP TABLE {name}")
            await until(lambda: says("ready"), "nobody says that it is there")
            assert ((await says("ready")) or {})["reason"] is None
        assert await read_not_ready(projection.read, 5) == []
        # Those who polled before learn of it.
        after = await take_poll(projection.read, before, 5)
        assert list(after.catalogue.by_id[articles.collection_id].metadata_indexes.values()) == [index_of(price)]
        assert await count() == (10, True)
