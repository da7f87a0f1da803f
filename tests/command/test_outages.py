"""What is in a write's way, and what its caller is told: nothing of it is written, and the next one may succeed."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx
import pytest
import pytest_asyncio

from aindusdb.local_stack.ports import free_port
from command_service.append_lock import APPEND_LOCK
from tests.command.conftest import running_service
from tests.command.tcp_proxy import CuttingProxy
from tests.processes import running_process
from tests.projector.projecting import until
from tests.servers import DatabaseFactory, Databases, connected

API = "/api/v1"
VECTORS = f"{API}/collections/here/vectors"
VECTOR = {"embedding": [1, 2, 3]}

FULL_DISK = """\
CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'could not extend file "base/1/2"' USING ERRCODE = 'disk_full'; END $$;
CREATE TRIGGER full_disk BEFORE INSERT ON events EXECUTE FUNCTION full_disk()
"""

READ_ONLY = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I {change}', current_database()); END $$"


@pytest_asyncio.fixture
async def pair(database_factory: DatabaseFactory) -> AsyncIterator[Databases]:
    async with database_factory.pair() as databases:
        yield databases


@asynccontextmanager
async def service_with_a_collection(databases: Databases, **changes: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with running_service(databases, **changes) as service:
        created = await service.post(f"{API}/collections", json={"name": "here", "dimension": 3})
        assert created.status_code == httpx.codes.CREATED, created.text
        yield service


@asynccontextmanager
async def held_append_lock(databases: Databases) -> AsyncIterator[None]:
    """By a holder that is at work, so that nobody ends it."""
    async with connected(databases.events_owner_dsn) as holder:
        await holder.execute(f"BEGIN; SELECT pg_advisory_xact_lock({APPEND_LOCK})")
        working = asyncio.create_task(holder.execute("SELECT pg_sleep(60)"))
        try:
            yield
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)


async def end_connections(admin: asyncpg.Connection[asyncpg.Record]) -> None:
    """Those of the service: what is set for a database holds for new ones."""
    await admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE usename = 'aindusdb_command' AND datname = current_database()"
    )


def assert_problem(answer: httpx.Response, status: int, name: str) -> dict[str, Any]:
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{name}"), answer.text
    document: dict[str, Any] = answer.json()
    return document


async def test_the_service_starts_without_its_database_and_finds_it_later(pair: Databases) -> None:
    real, port = urlsplit(pair.events_dsn), free_port()
    netloc = f"{real.username}:{real.password}@127.0.0.1:{port}"
    away = replace(pair, events_dsn=urlunsplit(real._replace(netloc=netloc)))
    async with running_service(away, reconnect_timeout_seconds=0.2) as service:
        assert (await service.get("/health")).status_code == httpx.codes.OK
        assert_problem(await service.get("/ready"), 503, "dependency-unavailable")
        refused = await service.post(f"{API}/collections", json={"name": "here", "dimension": 3})
        assert_problem(refused, 503, "dependency-unavailable")
        assert refused.headers["retry-after"] == "1"
        proxy = CuttingProxy(real.hostname or "", real.port or 5432, b"never sent", lambda: "no")
        listening = await asyncio.start_server(proxy.serve, "127.0.0.1", port)
        try:
            assert (await service.get("/ready")).status_code == httpx.codes.OK
            again = await service.post(f"{API}/collections", json={"name": "here", "dimension": 3})
            assert again.status_code == httpx.codes.CREATED
        finally:
            listening.close()


@pytest.mark.parametrize(
    ("begins", "ends"),
    [
        (FULL_DISK, "DROP FUNCTION full_disk CASCADE"),
        (READ_ONLY.format(change="SET default_transaction_read_only = on"), READ_ONLY.format(change="RESET ALL")),
    ],
    ids=["a full disk", "a read-only server"],
)
async def test_database_that_takes_no_writes_is_a_dependency_that_is_away(
    pair: Databases, begins: str, ends: str
) -> None:
    async with service_with_a_collection(pair) as service, connected(pair.events_admin_dsn) as admin:
        await admin.execute(begins)
        await end_connections(admin)
        answers = await asyncio.gather(*(service.post(VECTORS, json=VECTOR) for _ in range(5)))
        for answer in answers:
            problem = assert_problem(answer, 503, "dependency-unavailable")
            assert "nothing was written" in problem["detail"]
            assert "base/1/2" not in answer.text
        await admin.execute(ends)
        await end_connections(admin)

        async def accepted() -> bool:
            return (await service.post(VECTORS, json=VECTOR)).is_success

        await until(accepted, "nothing can be written again")
        assert await admin.fetchval("SELECT count(*) FROM events") == 2


async def test_unforeseen_failure_is_an_internal_error_without_a_trace(pair: Databases) -> None:
    async with service_with_a_collection(pair) as service, connected(pair.events_admin_dsn) as admin:
        await admin.execute("ALTER TABLE idempotency_keys RENAME TO gone")
        answer = await service.post(VECTORS, json=VECTOR, headers={"Idempotency-Key": "k"})
        problem = assert_problem(answer, 500, "internal-error")
        assert problem["request_id"] == answer.headers["x-request-id"]
        assert "Traceback" not in answer.text
        assert "idempotency_keys" not in answer.text
        assert (await service.post(VECTORS, json=VECTOR)).status_code == httpx.codes.CREATED


async def test_request_beyond_its_time_is_answered_and_takes_effect_once_under_its_key(pair: Databases) -> None:
    async with service_with_a_collection(pair, request_timeout_seconds=0.3) as service:
        key = {"Idempotency-Key": "k"}
        async with held_append_lock(pair):
            assert_problem(await service.post(VECTORS, json=VECTOR, headers=key), 504, "timeout")

        async def created() -> bool:
            again = await service.post(VECTORS, json=VECTOR, headers=key)
            return again.status_code == httpx.codes.CREATED

        await until(created, "the request is not answered")
        async with connected(pair.events_owner_dsn) as log:
            assert await log.fetchval("SELECT count(*) FROM events") == 2


async def test_commands_beyond_the_queues_bound_are_refused_until_there_is_room(pair: Databases) -> None:
    async with service_with_a_collection(pair, max_waiting_commands=3) as service:
        async with held_append_lock(pair):
            sending = [asyncio.create_task(service.post(VECTORS, json=VECTOR)) for _ in range(20)]
            refused, _ = await asyncio.wait(sending, timeout=2)
            assert refused
            for one in refused:
                assert_problem(one.result(), 503, "overloaded")
                assert one.result().headers["retry-after"] == "1"
        accepted = [answer for answer in await asyncio.gather(*sending) if answer.is_success]
        assert len(accepted) == len(sending) - len(refused)
        assert (await service.post(VECTORS, json=VECTOR)).status_code == httpx.codes.CREATED


async def test_collection_that_goes_between_resolution_and_append_is_a_conflict(pair: Databases) -> None:
    """The second service still knows the collection that the first one deletes."""
    async with service_with_a_collection(pair) as first, running_service(pair) as second:
        assert (await second.post(VECTORS, json=VECTOR)).status_code == httpx.codes.CREATED
        assert (await first.delete(f"{API}/collections/here")).status_code == httpx.codes.OK
        assert_problem(await second.post(VECTORS, json=VECTOR), 409, "collection-deleted")
        assert_problem(await second.post(VECTORS, json=VECTOR), 404, "collection-not-found")
        for method, path in (("PUT", "/a"), ("PATCH", "/a"), ("DELETE", "/a")):
            body = None if method == "DELETE" else {"PUT": VECTOR, "PATCH": {"content": "x"}}[method]
            assert_problem(await first.request(method, VECTORS + path, json=body), 404, "collection-not-found")


async def test_sigterm_lets_the_requests_under_way_finish(pair: Databases) -> None:
    environment = {"AINDUSDB_EVENTS_DSN": pair.events_dsn, "AINDUSDB_SIGNING_KEYS": "test-key"}
    async with running_process("command_service", **environment) as (process, client):
        await client.post(f"{API}/collections", json={"name": "here", "dimension": 3})
        async with held_append_lock(pair):
            sending = [asyncio.create_task(client.post(VECTORS, json=VECTOR)) for _ in range(5)]
            await asyncio.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.5)
            with pytest.raises(httpx.TransportError):
                await client.get("/health")
            assert not any(one.done() for one in sending)
        answers = await asyncio.gather(*sending)
        assert [answer.status_code for answer in answers] == [httpx.codes.CREATED] * 5
        assert await asyncio.wait_for(process.wait(), 20) == 0
    async with connected(pair.events_owner_dsn) as log:
        assert await log.fetchval("SELECT count(*) FROM events") == 6
