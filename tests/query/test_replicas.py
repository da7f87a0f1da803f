"""Reads on streaming replicas: which server answers, and what becomes of reads when servers lag, die or freeze."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import numpy as np
import pytest_asyncio

from aindusdb.local_stack.ports import free_port
from query_service.replicas import server_names
from shared.postgres import CONNECTION_LOST
from shared.read_model.tables import embeddings_table, records_table
from shared.tokens import ConsistencyToken, Signer
from tests.query.conftest import running_service
from tests.query.read_model import TENANT, ReadModel, Row
from tests.replicas import Replicated, RunningServer, replicated_postgres
from tests.servers import DatabaseFactory, Databases, connected, with_database

_DIMENSION = 256
_SEARCH = "/api/v1/collections/here/vectors/search"
_QUERY = {"embedding": [1.0] + [0.0] * (_DIMENSION - 1), "k": 3}


@dataclass(frozen=True, slots=True)
class Field:
    """A primary with two replicas, and a read model on them."""

    servers: Replicated
    databases: Databases
    model: ReadModel
    collection_id: UUID

    @property
    def first(self) -> RunningServer:
        return self.servers.replicas[0]

    @property
    def second(self) -> RunningServer:
        return self.servers.replicas[1]

    def dsn(self, server: RunningServer) -> str:
        return self.servers.on(server, self.databases.read_reader_dsn)

    @asynccontextmanager
    async def service(
        self, *replicas: RunningServer, primary: str = "", **changes: Any
    ) -> AsyncIterator[httpx.AsyncClient]:
        dsns = ",".join(self.dsn(server) for server in replicas)
        async with running_service(
            primary or self.databases.read_reader_dsn, read_replica_dsns=dsns, **changes
        ) as client:
            yield client

    async def write(self) -> int:
        return await self.model.put(self.collection_id, [Row("new", [1.0] + [0.5] * (_DIMENSION - 1))])

    async def replayed(self, server: RunningServer) -> None:
        """Waits until the server is there and shows all that the primary has."""
        dsn = with_database(server.admin_dsn, self.databases.read_dsn.rpartition("/")[2])
        deadline = time.monotonic() + 30
        shown = -1
        while shown < self.model.position:
            assert time.monotonic() < deadline, "the replica does not catch up"
            with suppress(*CONNECTION_LOST):
                async with connected(dsn) as replica:
                    shown = await replica.fetchval("SELECT min(position) FROM projection_checkpoints")
            await asyncio.sleep(0.01)


@pytest_asyncio.fixture(scope="module")
async def field() -> AsyncIterator[Field]:
    async with AsyncExitStack() as stack:
        servers = await stack.enter_async_context(replicated_postgres(2))
        factory = DatabaseFactory(servers.admins)
        await stack.enter_async_context(factory.templates())
        databases = await stack.enter_async_context(factory.pair())
        connection = await stack.enter_async_context(connected(databases.read_dsn))
        model = ReadModel(connection)
        await model.start()
        collection_id = await model.create("here", _DIMENSION)
        embeddings = np.random.default_rng(1).standard_normal((3000, _DIMENSION)).astype(np.float32)
        await model.put(collection_id, [Row(f"v{n}", embedding) for n, embedding in enumerate(embeddings)])
        yield Field(servers, databases, model, collection_id)


@pytest_asyncio.fixture(autouse=True)
async def _all_well(field: Field) -> None:
    for replica in field.servers.replicas:
        await field.replayed(replica)


async def _search(client: httpx.AsyncClient, *, token: str | None = None, **changes: Any) -> httpx.Response:
    headers = {} if token is None else {"X-Consistency-Token": token}
    # A minimum score of its own keeps each search out of the cache.
    body = {**_QUERY, "min_score": -2.0 - time.monotonic_ns() / 1e15, **changes}
    return await client.post(_SEARCH, json=body, headers=headers)


async def _reads(client: httpx.AsyncClient, outcome: str = "answered") -> dict[str, int]:
    """Server -> how many reads ended so."""
    found = re.findall(
        rf'aindusdb_query_reads_total{{outcome="{outcome}",server="([^"]+)"}} (\d+)',
        (await client.get("/metrics")).text,
    )
    return {server: int(count) for server, count in found}


async def _steady(client: httpx.AsyncClient, seconds: float, workers: int = 4, **changes: Any) -> list[httpx.Response]:
    """Searches without pause."""
    answers: list[httpx.Response] = []
    end = time.monotonic() + seconds

    async def work() -> None:
        while time.monotonic() < end:
            answers.append(await _search(client, **changes))

    await asyncio.gather(*(work() for _ in range(workers)))
    return answers


def _token(signer: Signer, field: Field, last: int) -> str:
    return signer.sign_token(ConsistencyToken(field.model.log_id, TENANT, first=last, last=last))


async def test_searches_are_shared_by_the_replicas_and_spare_the_primary(field: Field) -> None:
    async with field.service(field.first, field.second) as client:
        answers = await _steady(client, 0.5)
        reads = await _reads(client)
        assert {answer.status_code for answer in answers} == {200}
        assert reads.keys() == {field.first.address, field.second.address}
        assert min(reads.values()) > 0.2 * max(reads.values()), reads


async def test_a_replica_that_lags_is_left_out_and_comes_back(field: Field) -> None:
    async with field.service(field.first, field.second) as client:
        assert (await _search(client)).status_code == 200
        await field.first.pause_replay()
        try:
            await field.write()
            await _steady(client, 2.5, workers=1)
            before = await _reads(client)
            answers = await _steady(client, 0.5)
            after = await _reads(client)
            assert after[field.first.address] == before[field.first.address], "the paused replica was asked"
            assert after[field.second.address] > before[field.second.address]
            assert {answer.json()["freshness"]["position"] for answer in answers} == {field.model.position}
        finally:
            await field.first.resume_replay()
        await field.replayed(field.first)
        await _steady(client, 1.5)
        assert (await _reads(client))[field.first.address] > after[field.first.address], "it did not come back"


async def test_a_write_is_read_with_its_token_while_a_replica_is_paused(field: Field, signer: Signer) -> None:
    async with field.service(field.first) as client:
        await field.first.pause_replay()
        try:
            last = await field.write()
            started = time.monotonic()
            answer = await _search(client, token=_token(signer, field, last))
            assert answer.status_code == 200
            assert answer.json()["freshness"]["position"] == last
            assert time.monotonic() - started < 1, "the primary has it at once"
        finally:
            await field.first.resume_replay()


async def test_a_token_that_no_reachable_server_covers_is_503_in_time(field: Field, signer: Signer) -> None:
    nowhere = field.databases.read_reader_dsn.replace(field.servers.primary.address, f"127.0.0.1:{free_port()}")
    async with field.service(field.first, primary=nowhere) as client:
        await field.first.pause_replay()
        try:
            before = field.model.position
            last = await field.write()
            started = time.monotonic()
            answer = await _search(client, token=_token(signer, field, last), timeout_ms=300)
            assert 0.3 <= time.monotonic() - started < 1.5
            assert answer.status_code == 503
            problem = answer.json()
            assert problem["type"] == "/problems/not-fresh-enough"
            assert (problem["expected"], problem["current"]) == (last, before)
            assert (await _search(client)).status_code == 200, "without a token its older state will do"
            waiting = asyncio.create_task(_search(client, token=_token(signer, field, last), timeout_ms=10_000))
            await asyncio.sleep(0.2)
            assert not waiting.done()
        finally:
            await field.first.resume_replay()
        assert (await waiting).json()["freshness"]["position"] == last


async def test_a_killed_replica_costs_no_search(field: Field) -> None:
    async with field.service(field.first, field.second) as client:
        answers: list[httpx.Response] = []
        for _ in range(3):
            before = (await _reads(client)).get(field.first.address, 0)
            deadline = time.monotonic() + 30
            while (await _reads(client)).get(field.first.address, 0) <= before:
                assert time.monotonic() < deadline, "it did not come back"
                answers += await _steady(client, 0.3, workers=8, exact=True)
            running = asyncio.create_task(_steady(client, 1, workers=8, exact=True))
            await asyncio.sleep(0.2)
            field.first.signal(signal.SIGKILL)
            answers += await running
        assert {answer.status_code for answer in answers} == {200}


async def test_a_frozen_replica_costs_no_search(field: Field) -> None:
    async with field.service(field.first, field.second, poll_timeout_seconds=1) as client:
        running = asyncio.create_task(_steady(client, 6))
        await asyncio.sleep(1)
        field.first.signal(signal.SIGSTOP)
        try:
            answers = await running
        finally:
            field.first.signal(signal.SIGCONT)
        assert {answer.status_code for answer in answers} == {200}
        assert (await _reads(client))[field.second.address] > len(answers) / 2


async def test_a_statement_that_a_replica_ends_for_its_recovery_is_retried_elsewhere(field: Field) -> None:
    table = embeddings_table(field.collection_id, 1)
    async with field.service(field.first) as client, connected(field.databases.read_dsn) as owner:
        running = asyncio.create_task(_steady(client, 3, workers=8, exact=True))
        while not running.done():
            async with owner.transaction():
                await owner.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            await asyncio.sleep(0.02)
        assert {answer.status_code for answer in await running} == {200}
        assert (await _reads(client, "conflict")).get(field.first.address, 0) > 0, "no statement was in the way"


async def test_searches_survive_changes_of_their_tables(field: Field) -> None:
    """Each connection has prepared statements; a change of the tables makes their plans or columns out of date."""
    records, embeddings = records_table(field.collection_id, 1), embeddings_table(field.collection_id, 1)
    async with field.service(field.first, field.second) as client, connected(field.databases.read_dsn) as owner:
        running = asyncio.create_task(_steady(client, 2))
        for statement in (
            f"ALTER TABLE {records} ADD COLUMN note text",
            f"ALTER INDEX {embeddings}_hnsw RENAME TO {embeddings}_other",
            f"ALTER TABLE {records} DROP COLUMN note",
            f"DROP INDEX {embeddings}_other",
            f"ANALYZE {records}",
        ):
            await asyncio.sleep(0.3)
            await owner.execute(statement)
        assert {answer.status_code for answer in await running} == {200}


async def test_reads_beyond_the_bound_are_refused(field: Field) -> None:
    async with field.service(field.first, max_reads=2) as client:
        answers = await asyncio.gather(*(_search(client, exact=True) for _ in range(20)))
        statuses = {answer.status_code for answer in answers}
        assert statuses == {200, 503}
        refused = next(answer for answer in answers if answer.status_code == 503)
        assert refused.json()["type"] == "/problems/overloaded"
        assert refused.headers["retry-after"] == "1"


async def test_ready_says_which_server_cannot_be_read(field: Field) -> None:
    nowhere = [f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"]
    dsns = [field.databases.read_reader_dsn.replace(field.servers.primary.address, address) for address in nowhere]
    async with running_service(dsns[0], read_replica_dsns=dsns[1]) as client:
        answer = await client.get("/ready")
        assert answer.status_code == 503
        assert any(address in answer.text for address in nowhere)


async def test_many_waits_for_one_write_end_together(field: Field, signer: Signer) -> None:
    async with field.service(field.first, field.second) as client:
        ahead = _token(signer, field, field.model.position + 1)
        waiting = [asyncio.create_task(_search(client, token=ahead)) for _ in range(32)]
        await asyncio.sleep(0.1)
        last = await field.write()
        answers = await asyncio.gather(*waiting)
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.json()["freshness"]["position"] for answer in answers} == {last}


async def test_a_killed_primary_costs_its_replicas_no_search(field: Field) -> None:
    async with field.service(field.first, field.second) as client:
        running = asyncio.create_task(_steady(client, 3))
        await asyncio.sleep(0.5)
        field.servers.primary.signal(signal.SIGKILL)
        assert {answer.status_code for answer in await running} == {200}


def test_servers_are_called_by_host_and_port_and_by_their_database_where_that_tells_them_apart() -> None:
    dsns = ["postgresql://u:p@pooler:6432/one", "postgresql://u:p@pooler:6432/two", "postgresql://u:p@primary/read"]
    assert server_names(dsns) == ["pooler:6432/one", "pooler:6432/two", "primary:5432"]
