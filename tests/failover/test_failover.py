"""A primary dies and its standby is promoted, under services that were only told of both of them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import asyncpg
import httpx
import pytest

from shared.postgres import CONNECTION_LOST, connect_uncached
from tests.command.conftest import running_service as running_command_service
from tests.failover.pair import RELOAD, Pair
from tests.killing import frozen
from tests.projector.projecting import projector_settings, running_consumer, until, watermark
from tests.projector.read_model import fold, read_log, stored
from tests.query.conftest import running_service as running_query_service
from tests.servers import Databases, connected

API = "/api/v1"
VECTORS = f"{API}/collections/here/vectors"

UNFOLLOW = ("ALTER SYSTEM SET primary_conninfo = ''", RELOAD)
UNFOLLOWED = "SELECT count(*) = 0 FROM pg_stat_wal_receiver"
WAITING_COMMITS = """
SELECT count(*) FROM pg_stat_activity
WHERE wait_event = 'SyncRep' AND usename = 'aindusdb_command' AND clock_timestamp() - query_start > interval '300 ms'
"""


def vector(number: int) -> dict[str, Any]:
    return {"id": f"v{number}", "embedding": [1.0, 2.0, float(number)]}


def key(number: int) -> dict[str, str]:
    return {"Idempotency-Key": f"key {number}"}


@asynccontextmanager
async def services(
    pair: Pair, databases: Databases, **changes: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    """Clients of a command service and of a query service, with a projector between them."""
    reader = databases.read_reader_dsn.partition("?")[0]
    replicas = ",".join(reader.replace(pair.hosts, host) for host in pair.hosts.split(","))
    async with (
        running_command_service(databases, **changes) as write,
        running_query_service(
            databases.read_reader_dsn, read_replica_dsns=replicas, events_dsn=databases.events_reader_dsn
        ) as read,
        running_consumer(projector_settings(databases)),
    ):
        created = await write.post(f"{API}/collections", json={"name": "here", "dimension": 3})
        assert created.status_code == httpx.codes.CREATED, created.text
        yield write, read


@asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """As the services connect: to the server that takes writes, whatever the other one does."""
    connection = await connect_uncached(dsn)
    try:
        yield connection
    finally:
        connection.terminate()


async def assert_projected(databases: Databases) -> None:
    """The read model is the fold of the log, once the projector has caught up."""
    async with opened(databases.events_dsn) as log, opened(databases.read_dsn) as read:
        events = await read_log(log)

        async def caught_up() -> bool:
            return await watermark(read) >= events[-1].position

        await until(caught_up, "the projector does not go on")
        assert await stored(read) == fold(events)


async def a_write_that_waits(
    write: httpx.AsyncClient, admin: asyncpg.Connection[asyncpg.Record]
) -> tuple[int, asyncio.Task[httpx.Response]]:
    """The number of the first write whose COMMIT waits for the standby, and its answer to come."""
    for number in range(1, 10_000):
        writing = asyncio.create_task(write.post(VECTORS, json=vector(number), headers=key(number)))
        while not writing.done():
            if await admin.fetchval(WAITING_COMMITS):
                return number, writing
            await asyncio.sleep(0.01)
        assert writing.result().is_success, writing.result().text
    raise AssertionError("no commit waits for its standby")


async def times_created(databases: Databases, number: int) -> int:
    async with opened(databases.events_dsn) as log:
        events = await read_log(log)
    return sum(event.event_type == "VectorCreated" and event.event_data["id"] == f"v{number}" for event in events)


async def test_no_acknowledged_write_is_lost_with_the_primary_and_none_is_doubled(
    pair: Pair, databases: Databases
) -> None:
    acknowledged: dict[int, str] = {}
    refusals: list[httpx.Response] = []
    async with services(pair, databases, reconnect_timeout_seconds=0.5) as (write, read):

        async def write_until_answered(number: int) -> None:
            while True:
                answer = await write.post(VECTORS, json=vector(number), headers=key(number))
                if answer.status_code == httpx.codes.CREATED:
                    acknowledged[number] = answer.json()["consistency_token"]
                    return
                refusals.append(answer)
                await asyncio.sleep(0.05)

        async def write_on(writer: int) -> None:
            for number in range(writer, 10_000, 4):
                if stopping.is_set():
                    return
                await write_until_answered(number)

        stopping = asyncio.Event()
        writers = [asyncio.create_task(write_on(writer)) for writer in range(4)]
        await until(lambda: len(acknowledged) > 40, "nothing is written")
        await pair.kill_primary()
        before = len(acknowledged)
        # Whether the writers' own were being committed or not, this one was not.
        refused = await write.post(VECTORS, json=vector(20_000), headers=key(20_000))
        await pair.promote()
        await until(lambda: len(acknowledged) > before + 40, "the service does not find the promoted server")
        stopping.set()
        await asyncio.gather(*writers)

        for answer in (refused, *refusals):
            assert (answer.status_code, answer.json()["type"]) == (503, "/problems/dependency-unavailable")
            assert "nothing was written" in answer.json()["detail"]
            assert answer.headers["retry-after"]
        async with opened(databases.events_dsn) as log:
            created = [event.event_data["id"] for event in await read_log(log) if event.event_type == "VectorCreated"]
        assert len(created) == len(set(created))
        assert set(created) == {f"v{number}" for number in acknowledged}

        last = max(acknowledged)
        headers = {"X-Consistency-Token": acknowledged[last]}
        found = await read.get(f"{VECTORS}/v{last}", params={"timeout_ms": 30_000}, headers=headers)
        assert found.status_code == httpx.codes.OK, found.text
        history = await read.get(f"{VECTORS}/v{last}/history", params={"timeout_ms": 30_000}, headers=headers)
        assert history.status_code == httpx.codes.OK, history.text
        await assert_projected(databases)


async def test_a_standby_in_the_place_of_its_primary_decides_nothing(pair: Pair, databases: Databases) -> None:
    assert pair.standby is not None
    misled = databases.events_dsn.partition("?")[0].replace(pair.hosts, pair.standby.address)
    async with running_command_service(replace(databases, events_dsn=misled)) as write:
        refused = await write.post(f"{API}/collections", json={"name": "here", "dimension": 3})
        assert (refused.status_code, refused.json()["type"]) == (503, "/problems/dependency-unavailable")
        assert "a standby answers" in refused.json()["detail"]


@pytest.mark.parametrize("arrived", [True, False], ids=["the standby has it", "the standby lacks it"])
async def test_a_write_that_is_cut_off_in_its_commit_takes_effect_once(
    pair: Pair, databases: Databases, arrived: bool
) -> None:
    assert pair.standby is not None
    async with services(pair, databases) as (write, _read), connected(pair.primary.admin_dsn) as admin:
        if arrived:
            await pair.standby.pause_replay()
        else:
            await pair.tell(pair.standby, *UNFOLLOW)
        number, writing = await a_write_that_waits(write, admin)
        await pair.fail_over()
        answer = await asyncio.wait_for(writing, 60)
        assert answer.status_code == httpx.codes.CREATED, answer.text
        again = await write.post(VECTORS, json=vector(number), headers=key(number))
        assert (again.status_code, again.json()["position"]) == (httpx.codes.CREATED, answer.json()["position"])
        assert await times_created(databases, number) == 1


@pytest.mark.long
async def test_what_a_restarted_primary_shows_is_acknowledged_only_once_its_standby_has_it(
    pair: Pair, databases: Databases
) -> None:
    assert pair.standby is not None
    async with services(pair, databases) as (write, _read):
        with frozen(pair.standby.signal):
            async with connected(pair.primary.admin_dsn) as admin:
                number, writing = await a_write_that_waits(write, admin)
            pair.primary.signal(signal.SIGKILL)

            async def shown() -> bool:
                try:
                    return await times_created(databases, number) == 1
                except CONNECTION_LOST:
                    return False

            await until(shown, "the primary was not restarted")
            done, _ = await asyncio.wait({writing}, timeout=2)
            assert not done, "it was acknowledged, and only one server has it"
        assert (await asyncio.wait_for(writing, 60)).status_code == httpx.codes.CREATED
        assert await times_created(databases, number) == 1


async def test_the_projector_goes_on_where_a_promoted_replica_is_and_tokens_stay_honest(
    pair: Pair, of_the_read_side: Databases
) -> None:
    assert pair.standby is not None
    databases = of_the_read_side
    async with services(pair, databases) as (write, read), connected(pair.standby.admin_dsn) as admin:
        assert (await write.post(VECTORS, json=vector(1))).is_success
        await assert_projected(databases)
        await pair.tell(pair.primary, "ALTER SYSTEM RESET synchronous_standby_names", RELOAD)
        await pair.tell(pair.standby, *UNFOLLOW)
        await until(lambda: admin.fetchval(UNFOLLOWED), "the replica still follows")
        written = [await write.post(VECTORS, json=vector(number)) for number in range(2, 20)][-1]
        await assert_projected(databases)
        head, token = written.json()["position"], written.json()["consistency_token"]
        behind = databases.read_dsn.replace(pair.hosts, pair.standby.address).partition("?")[0]
        async with connected(behind) as replica:
            assert await watermark(replica) < head

        async def shows_the_last() -> bool:
            answer = await read.get(f"{VECTORS}/v19", headers={"X-Consistency-Token": token})
            if answer.status_code != httpx.codes.OK:
                assert (answer.status_code, answer.json()["type"]) in (
                    (503, "/problems/not-fresh-enough"),
                    (503, "/problems/dependency-unavailable"),
                )
                return False
            listed = await read.get(VECTORS, headers={"X-Consistency-Token": token})
            assert not listed.is_success or listed.json()["freshness"]["position"] >= head
            return True

        assert await shows_the_last()
        failing = asyncio.create_task(pair.fail_over())
        while not failing.done():
            await shows_the_last()
        await failing
        await until(shows_the_last, "what was written is not shown again")
        await assert_projected(databases)
