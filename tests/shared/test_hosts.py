"""Addresses with several hosts: whoever takes writes is found, whatever the others do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from aindusdb.local_stack.ports import free_port
from query_service.replicas import server_names
from shared.hosts import NoHostError
from shared.postgres import CONNECTION_LOST, connect_uncached, create_pool
from shared.settings import ProcessSettings
from tests.servers import Databases


@asynccontextmanager
async def silent_host() -> AsyncIterator[str]:
    """It lets itself be called and says nothing, as a host that vanished behind a network that does not tell."""
    release = asyncio.Event()

    async def say_nothing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.close()

    port = free_port()
    server = await asyncio.start_server(say_nothing, "127.0.0.1", port)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        release.set()
        server.close()


def with_hosts(dsn: str, *hosts: str, query: str = "") -> str:
    """`{}` stands for the address's own host."""
    parts = urlsplit(dsn)
    credentials, _, own = parts.netloc.rpartition("@")
    named = ",".join(host.format(own) for host in hosts)
    return urlunsplit(parts._replace(netloc=f"{credentials}@{named}", query=query))


async def test_a_host_that_says_nothing_and_one_that_is_down_hide_no_other(databases: Databases) -> None:
    async with silent_host() as silent, asyncio.timeout(8):
        dsn = with_hosts(databases.events_reader_dsn, silent, f"127.0.0.1:{free_port()}", "{}")
        connection = await connect_uncached(dsn)
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()
        async with await create_pool(dsn, ProcessSettings(), max_size=2) as pool:
            assert await pool.fetchval("SELECT 1") == 1


async def test_each_host_is_named_with_what_stands_in_its_way(databases: Databases) -> None:
    down = f"127.0.0.1:{free_port()}"
    read_only = "options=-cdefault_transaction_read_only%3Don"
    with pytest.raises(NoHostError, match=f"{down}: .*failed.*; .*it takes no writes") as raised:
        await connect_uncached(with_hosts(databases.events_reader_dsn, down, "{}", query=read_only))
    assert isinstance(raised.value, CONNECTION_LOST)


async def test_what_is_wrong_with_the_address_is_said_as_for_a_single_host(databases: Databases) -> None:
    missing = urlunsplit(urlsplit(databases.events_reader_dsn)._replace(path="/nowhere"))
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await connect_uncached(with_hosts(missing, "{}", f"127.0.0.1:{free_port()}"))


async def test_servers_are_called_by_all_of_their_hosts() -> None:
    assert server_names(["postgresql://u:p@a,b:5433/d", "postgresql://u:p@[::1]:7/d"]) == ["a:5432,b:5433", "::1:7"]
