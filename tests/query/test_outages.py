"""The read database away, back again, and not yet set up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

import httpx
import pytest
import pytest_asyncio

from aindusdb.local_stack.ports import free_port
from tests.command.tcp_proxy import Cut, CuttingProxy, cutting_proxy
from tests.query.conftest import running_service
from tests.query.read_model import ReadModel, Row
from tests.servers import Databases, connected, with_database

_SEARCH = "/api/v1/collections/here/vectors/search"


@pytest_asyncio.fixture(scope="module", autouse=True)
async def _here(read_model: ReadModel) -> None:
    await read_model.put(await read_model.create("here", 2), [Row("a", [1.0, 0.0])])


async def _search(client: httpx.AsyncClient) -> httpx.Response:
    return await client.post(_SEARCH, json={"embedding": [1, 0]})


def _unavailable(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/dependency-unavailable"), answer.text
    assert answer.headers["retry-after"] == "1"


async def test_the_service_starts_without_its_database_and_says_so(databases: Databases) -> None:
    away = f"postgresql://aindusdb_query:secret@127.0.0.1:{free_port()}/read"
    async with running_service(away) as client:
        assert (await client.get("/health")).status_code == 200
        _unavailable(await client.get("/ready"))
        _unavailable(await _search(client))
        assert "secret" not in (await client.get("/ready")).text
    async with running_service(databases.read_reader_dsn, read_replica_dsns=away) as client:
        assert (await _search(client)).status_code == 200, "the primary stands in for the replica"


async def test_a_database_without_a_schema_is_not_ready(databases: Databases) -> None:
    async with running_service(with_database(databases.read_admin_dsn, "postgres")) as client:
        _unavailable(await client.get("/ready"))


@asynccontextmanager
async def _cut(databases: Databases, at: set[int]) -> AsyncIterator[httpx.AsyncClient]:
    """A service whose statements over embeddings are cut off, those whose number is in `at`."""
    seen = 0

    def decide() -> Cut:
        nonlocal seen
        seen += 1
        return "before" if seen in at else "no"

    async with (
        cutting_proxy(databases.read_reader_dsn, b"hnsw.ef_search", decide) as (dsn, _),
        running_service(dsn) as client,
    ):
        yield client


async def test_a_read_whose_connection_breaks_is_tried_once_more(databases: Databases) -> None:
    async with _cut(databases, {1}) as client:
        assert (await _search(client)).status_code == 200


async def test_a_read_whose_connection_breaks_twice_is_503_and_the_next_one_works(databases: Databases) -> None:
    async with _cut(databases, {1, 2}) as client:
        _unavailable(await _search(client))
        assert (await _search(client)).status_code == 200


@pytest.mark.usefixtures("read_model")
async def test_all_connections_ended_by_the_server_are_replaced(databases: Databases) -> None:
    async with running_service(databases.read_reader_dsn) as client:
        assert (await _search(client)).status_code == 200
        async with connected(databases.read_admin_dsn) as admin:
            await admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'aindusdb_core'"
            )
        assert (await _search(client)).status_code == 200
        assert (await client.get("/ready")).status_code == 200


async def test_a_database_that_comes_later_is_connected_to_without_a_restart(databases: Databases) -> None:
    real = urlsplit(databases.read_reader_dsn)
    port = free_port()
    away = urlunsplit(real._replace(netloc=f"{real.username}:{real.password}@127.0.0.1:{port}"))
    async with running_service(away) as client:
        _unavailable(await _search(client))
        proxy = CuttingProxy(real.hostname or "", real.port or 5432, b"never sent", lambda: "no")
        listening = await asyncio.start_server(proxy.serve, "127.0.0.1", port)
        try:
            assert (await client.get("/ready")).status_code == 200
            assert (await _search(client)).status_code == 200
        finally:
            listening.close()
