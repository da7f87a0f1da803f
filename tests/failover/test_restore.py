"""The event database is restored from a base backup and its archive, to its end and to a time, by the documented
commands; what saw more than a restored log has refuses it until the operator has done what it says."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from command_service.log_identity import LogInUseError, renew_identity
from tests.command.conftest import running_service as running_command_service
from tests.failover import documented
from tests.failover.archived import archived_server
from tests.failover.test_failover import API, VECTORS, assert_projected, vector
from tests.projector.projecting import projector_settings, running_consumer, until
from tests.projector.read_model import read_log
from tests.query.conftest import running_service as running_query_service
from tests.servers import DatabaseFactory, Databases, PostgresAdmins, connected


@asynccontextmanager
async def services(databases: Databases) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    async with (
        running_command_service(databases) as write,
        running_query_service(databases.read_reader_dsn, events_dsn=databases.events_reader_dsn) as read,
        running_consumer(projector_settings(databases)),
    ):
        yield write, read


async def written(write: httpx.AsyncClient, number: int) -> str:
    """The write's token."""
    answer = await write.post(VECTORS, json=vector(number))
    assert answer.status_code == httpx.codes.CREATED, answer.text
    token: str = answer.json()["consistency_token"]
    return token


async def read_with(read: httpx.AsyncClient, path: str, token: str) -> httpx.Response:
    return await read.get(path, params={"timeout_ms": 200}, headers={"X-Consistency-Token": token})


async def aindusdb(databases: Databases, *arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "aindusdb", *arguments,
        env={
            **os.environ,
            "AINDUSDB_EVENTS_OWNER_DSN": databases.events_owner_dsn,
            "AINDUSDB_EVENTS_DSN": databases.projector_events_dsn,
            "AINDUSDB_READ_DSN": databases.read_dsn,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()


async def events_of(databases: Databases) -> list[object]:
    async with connected(databases.events_dsn) as log:
        return list(await read_log(log))


async def test_the_event_database_alone_brings_everything_back_and_an_older_log_is_noticed(
    postgres_server: str,
) -> None:
    with archived_server() as archived:
        admins = PostgresAdmins(archived.server.dsn("postgres"), postgres_server)
        async with archived.started(archived.server):
            # Its databases go with its data folder.
            factory = DatabaseFactory(admins)
            templates, pair = factory.templates(), factory.pair()
            await templates.__aenter__()
            databases = await pair.__aenter__()
            async with services(databases) as (write, _read):
                created = await write.post(f"{API}/collections", json={"name": "here", "dimension": 3})
                assert created.status_code == httpx.codes.CREATED, created.text
                await written(write, 1)
                await archived.archive.back_up(archived.server)
                kept = await written(write, 2)
                async with connected(databases.events_dsn) as log:
                    time = await log.fetchval("SELECT clock_timestamp()::text")
                lost = await written(write, 3)
                await assert_projected(databases)
            before = await events_of(databases)
            await archived.archive.archive_all(archived.server)

        async with archived.restored("to the end"):
            assert await events_of(databases) == before
            async with services(databases) as (_write, read):
                await assert_projected(databases)
                assert (await read_with(read, f"{VECTORS}/v3", lost)).status_code == httpx.codes.OK

        async with archived.restored("to a time", time):
            assert await events_of(databases) == before[:-1]
            async with running_consumer(projector_settings(databases)) as consumer:
                await until(lambda: "the event log ends at 3" in (consumer.fault or ""), "the older log is not noticed")
                assert "`aindusdb log restored`" in (consumer.fault or "")
                assert "`aindusdb replay anew`" in (consumer.fault or "")
            async with services(databases) as (_write, read):
                late = await read_with(read, f"{VECTORS}/v3/history", lost)
                assert (late.status_code, late.json()["type"]) == (503, "/problems/not-fresh-enough")
            async with connected(databases.events_reader_dsn), connected(databases.events_owner_dsn) as owner:
                with pytest.raises(LogInUseError, match="1 other connections"):
                    await renew_identity(owner)
            for command in documented.commands("After a restore"):
                if command[0] in {"log", "replay"}:  # not those of Kafka, nor what is to be done later
                    await aindusdb(databases, *command)
            async with services(databases) as (write, read):
                await assert_projected(databases)
                for token in (kept, lost):
                    old = await read_with(read, f"{VECTORS}/v2", token)
                    assert (old.status_code, old.json()["type"]) == (400, "/problems/wrong-database")
                # The position of what was lost is given out anew.
                token = await written(write, 4)
                await assert_projected(databases)
                assert (await read_with(read, f"{VECTORS}/v4", token)).status_code == httpx.codes.OK
                assert (await read_with(read, f"{VECTORS}/v3", token)).status_code == httpx.codes.NOT_FOUND
            await pair.__aexit__(None, None, None)
            await templates.__aexit__(None, None, None)
