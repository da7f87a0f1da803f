"""The services as processes, all of whose statements go through the pooler."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx
import pytest

from tests.pooler.leftovers import leftovers
from tests.pooler.pooling import System
from tests.projector.projecting import Projection, until
from tests.servers import connected


async def create_collection(system: System, name: str) -> str:
    """The token of its creation."""
    created = await system.writers[0].post("/collections", json={"name": name, "dimension": 3})
    assert created.status_code == 201, created.text
    token: str = created.json()["consistency_token"]
    return token


async def search(system: System, name: str, **body: Any) -> httpx.Response:
    query = {"embedding": [1, 0, 0], "timeout_ms": 20_000, **body}
    return await system.reader.post(f"/collections/{name}/vectors/search", json=query)


async def assert_projected(system: System) -> None:
    """Everything in the log is in the read model, and nothing else."""
    direct = system.pooled.direct
    async with connected(direct.events_admin_dsn) as log, connected(direct.read_admin_dsn) as read:
        projection = Projection(direct, log, read)
        await until(projection.caught_up, "the projector did not catch up")
        assert await projection.stored() == await projection.expected()
        assert await projection.parked() == {}


async def test_an_append_wakes_the_projector_and_is_read_with_its_token(system: System) -> None:
    # The projector polls once a minute: nothing but the notification brings an event to it in time.
    await create_collection(system, "stars")
    vectors = "/collections/stars/vectors"
    written = await system.writers[0].put(
        f"{vectors}/vega", json={"embedding": [1, 0, 0], "content": "bright", "metadata": {"kind": "A0"}}
    )
    assert written.status_code == 201, written.text
    token = written.json()["consistency_token"]
    found = await search(system, "stars", consistency_token=token, filter={"kind": "A0"}, include=["embedding"])
    assert [(hit["id"], hit["embedding"]) for hit in found.json()["hits"]] == [("vega", [1, 0, 0])], found.text
    changed = await system.writers[1].patch(f"{vectors}/vega", json={"content": "brighter", "embedding": [0, 1, 0]})
    headers = {"X-Consistency-Token": changed.json()["consistency_token"]}
    got = await system.reader.get(f"{vectors}/vega", params={"timeout_ms": 20_000}, headers=headers)
    assert (got.json()["content"], got.json()["version"]) == ("brighter", 2), got.text
    history = await system.reader.get(f"{vectors}/vega/history", headers=headers)
    assert [event["version"] for event in history.json()["items"]] == [1, 2], history.text


async def test_a_batch_is_whole_for_whoever_has_its_token(system: System) -> None:
    await create_collection(system, "batches")
    operations = [{"op": "create", "id": f"v{number}", "embedding": [1, number, 2]} for number in range(500)]
    written = await system.writers[0].post("/collections/batches/vectors/batch", json={"operations": operations})
    assert written.status_code == 200, written.text
    token = written.json()["consistency_token"]
    counted = await system.reader.post(
        "/collections/batches/vectors/count", json={"consistency_token": token, "timeout_ms": 20_000}
    )
    assert counted.json()["count"] == 500, counted.text
    again = await system.writers[1].post("/collections/batches/vectors/batch", json={"operations": operations})
    assert again.status_code == 409, again.text


async def test_many_clients_share_few_connections_and_leave_nothing_on_them(system: System) -> None:
    await create_collection(system, "crowd")

    async def client(number: int) -> None:
        writer = system.writers[number % 2]
        for turn in range(6):
            vector = f"{number}-{turn}"
            body = {"embedding": [1, number, turn], "content": vector}
            written = await writer.put(f"/collections/crowd/vectors/{vector}", json=body)
            assert written.status_code == 201, written.text
            token = written.json()["consistency_token"]
            found = await search(system, "crowd", embedding=[1, number, turn], k=1, exact=True, consistency_token=token)
            assert [hit["content"] for hit in found.json()["hits"]] == [vector], found.text

    await asyncio.gather(*map(client, range(60)))
    await assert_projected(system)
    through = system.pooled.through
    for dsn in (
        through.events_dsn,
        through.projector_events_dsn,
        through.events_reader_dsn,
        through.read_dsn,
        through.read_reader_dsn,
    ):
        assert await leftovers(dsn) == []


@dataclass
class Load:
    """Writers and readers of one collection. Whatever is in their way, no answer is another than these."""

    system: System
    name: str
    token: str
    """Of the collection's creation."""
    written: dict[str, int] = field(default_factory=dict)
    """Vector -> the position that its answer named."""
    refused: set[str] = field(default_factory=set)
    """Vectors of which the answer said that nothing was written."""
    found: int = 0
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self._write(number)) for number in range(12)]
        tasks += [asyncio.create_task(self._read()) for _ in range(6)]
        try:
            yield
        finally:
            self._stop.set()
            await asyncio.gather(*tasks)

    async def _write(self, number: int) -> None:
        for turn in count():
            if self._stop.is_set():
                return
            vector = f"{number}-{turn}"
            answer = await self.system.writers[number % 2].put(
                f"/collections/{self.name}/vectors/{vector}", json={"embedding": [1, number, turn]}
            )
            if answer.status_code == httpx.codes.CREATED:
                self.written[vector] = answer.json()["position"]
            else:
                assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE, answer.text
                self.refused.add(vector)
                await asyncio.sleep(0.05)

    async def _read(self) -> None:
        while not self._stop.is_set():
            answer = await search(self.system, self.name, consistency_token=self.token)
            assert answer.status_code in (httpx.codes.OK, httpx.codes.SERVICE_UNAVAILABLE), answer.text
            self.found += answer.status_code == httpx.codes.OK
            await asyncio.sleep(0.02)


async def kill_the_pooler(system: System) -> None:
    system.pooled.process.kill()


async def end_all_connections_of_the_pooler(system: System) -> None:
    for dsn in (system.pooled.direct.events_admin_dsn, system.pooled.direct.read_admin_dsn):
        async with connected(dsn) as admin:
            await admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND usename LIKE 'aindusdb_%' AND query NOT LIKE 'LISTEN%'"
            )


@pytest.mark.parametrize("fault", [kill_the_pooler, end_all_connections_of_the_pooler])
async def test_nothing_acknowledged_is_lost_when_connections_break(
    system: System, fault: Callable[[System], Awaitable[None]]
) -> None:
    name = fault.__name__.replace("_", "-")
    load = Load(system, name, await create_collection(system, name))
    async with load.running():
        for _ in range(3):
            written, found = len(load.written), load.found
            await fault(system)
            await until(
                lambda: len(load.written) > written + 20 and load.found > found + 20,  # noqa: B023
                "the services did not go on",
            )
    async with connected(system.pooled.direct.events_admin_dsn) as log:
        recorded = {
            row["id"]: row["position"]
            for row in await log.fetch(
                "SELECT event_data ->> 'id' AS id, position FROM events WHERE event_type = 'VectorCreated' AND"
                " collection_id = (SELECT collection_id FROM events WHERE event_data ->> 'name' = $1)",
                load.name,
            )
        }
    assert {vector: recorded.get(vector) for vector in load.written} == load.written
    assert not load.refused & recorded.keys()
    await assert_projected(system)
