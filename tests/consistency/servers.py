"""Everything that the clients talk to, and what stands behind it: each server a process of its own, to be killed."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from aindusdb.local_stack.ports import HOST, Ports, free_port
from aindusdb.local_stack.processes import SupervisedProcess
from aindusdb.local_stack.redis import RedisServer, find_binary
from aindusdb.local_stack.services import Addresses, DatabaseAddresses, Wiring, passed_on, service_specs
from tests.replicas import Replicated, replicated_postgres
from tests.servers import DatabaseFactory, Databases, own_kafka, running
from tests.stack.running import PORT_OFFSETS, free_base_port

SIGNING_KEY = "consistency-test-key"
REPLICAS = 2
QUERY_SERVICES = 2
PROJECTORS = 2
IVFFLAT_MIN_ROWS = 3


@dataclass(frozen=True, slots=True)
class Servers:
    """With Kafka there are a broker, a relay and several projectors, which share the topic's partitions; without, one
    projector reads the event log."""

    postgres: Replicated
    redis: RedisServer
    redis_process: SupervisedProcess
    command: SupervisedProcess
    relays: Sequence[SupervisedProcess]
    brokers: Sequence[SupervisedProcess]
    projectors: Sequence[SupervisedProcess]
    queries: Sequence[SupervisedProcess]

    @property
    def command_url(self) -> str:
        return _url(self.command)

    @property
    def query_urls(self) -> list[str]:
        return [_url(process) for process in self.queries]

    def all(self) -> list[SupervisedProcess]:
        databases = [server.process for server in (self.postgres.primary, *self.postgres.replicas)]
        services = [self.command, *self.relays, *self.projectors, *self.queries]
        return [*databases, self.redis_process, *self.brokers, *services]

    @property
    def redis_dump(self) -> Path:
        """What Redis loads when it starts, if it is there."""
        return self.redis.folder.parent / "dump.rdb"


def _url(process: SupervisedProcess) -> str:
    return f"http://{HOST}:{process.spec.port}"


@asynccontextmanager
async def running_servers(*, kafka: bool) -> AsyncIterator[Servers]:
    """When what is done with them fails, the ends of their logs go to stderr."""
    folder = Path(tempfile.mkdtemp(prefix="aindusdb-consistency-"))
    try:
        async with AsyncExitStack() as stack:
            postgres = await stack.enter_async_context(replicated_postgres(REPLICAS))
            factory = DatabaseFactory(postgres.admins)
            await stack.enter_async_context(factory.templates())
            databases = await stack.enter_async_context(factory.pair())
            redis = RedisServer(find_binary(), folder / "redis", free_port(), "aindusdb-test")
            redis_process = await stack.enter_async_context(running(redis.spec(), folder))
            brokers = [await stack.enter_async_context(own_kafka())] if kafka else []
            known = _addresses(databases, postgres, redis.url, ",".join(broker.bootstrap for broker, _ in brokers))
            http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))

            sets = [service_specs(_wiring(known, http, port)) for port in _base_ports(max(PROJECTORS, QUERY_SERVICES))]

            async def start(name: str, count: int = 1) -> list[SupervisedProcess]:
                specs = [
                    replace(spec, name=f"{name} {number}")
                    for number, specs in enumerate(sets[:count], 1)
                    for spec in specs
                    if spec.name == name
                ]
                return await asyncio.gather(*(stack.enter_async_context(running(spec, folder)) for spec in specs))

            command, relays, projectors, queries = await asyncio.gather(
                start("Command service"),
                start("Relay", 1 if kafka else 0),
                start("Projector", PROJECTORS if kafka else 1),
                start("Query service", QUERY_SERVICES),
            )
            try:
                yield Servers(
                    postgres,
                    redis,
                    redis_process,
                    command[0],
                    relays,
                    [process for _, process in brokers],
                    projectors,
                    queries,
                )
            except BaseException:
                for log in sorted(folder.glob("*.log")):
                    print(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}", file=sys.stderr)
                raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _addresses(databases: Databases, postgres: Replicated, redis_url: str, kafka_bootstrap: str) -> Addresses:
    return Addresses(
        owner=DatabaseAddresses(databases.events_owner_dsn, databases.read_owner_dsn),
        command=DatabaseAddresses(databases.events_dsn, databases.command_read_dsn),
        projector=DatabaseAddresses(databases.projector_events_dsn, databases.read_dsn),
        query=DatabaseAddresses(
            postgres.on(postgres.replicas[0], databases.events_reader_dsn), databases.read_reader_dsn
        ),
        redis_url=redis_url,
        read_replicas=",".join(postgres.on(replica, databases.read_reader_dsn) for replica in postgres.replicas),
        kafka_bootstrap=kafka_bootstrap,
    )


def _base_ports(count: int) -> list[int]:
    """So that a service can be started more than once."""
    found = [free_base_port()]
    while len(found) < count:
        port = free_base_port()
        if all(abs(port - other) > max(PORT_OFFSETS) for other in found):
            found.append(port)
    return found


def _wiring(known: Addresses, http: httpx.AsyncClient, port: int) -> Wiring:
    environment = {name: value for name, value in passed_on(os.environ).items() if not name.startswith("AINDUSDB_")}
    # Few rows are enough for an index, so that indexes are made while clients read.
    environment["AINDUSDB_IVFFLAT_MIN_ROWS"] = str(IVFFLAT_MIN_ROWS)
    return Wiring(Ports(port), known, SIGNING_KEY, environment, http)
