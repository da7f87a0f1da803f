"""A log, a topic of its own, relays and projectors inside the test or as processes beside it."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx
from prometheus_client import CollectorRegistry

from aindusdb.local_stack.ports import free_port
from command_service.relay_lease import RelayStatus, read_relay_status
from command_service.relaying import Relay, RelayMetrics
from command_service.settings import RelaySettings
from projector.__main__ import open_source
from projector.consumer import Consumer
from projector.settings import ProjectorSettings
from tests.projector.log_writer import LogWriter, NewCollection
from tests.projector.projecting import (
    PATIENCE_SECONDS,
    Projection,
    projector_settings,
    running_consumer,
    until,
    watermark,
)
from tests.servers import DatabaseFactory, connected


class Transport:
    def __init__(self, projection: Projection, log: LogWriter, bootstrap: str) -> None:
        self.projection = projection
        self.databases = projection.databases
        self.bootstrap = bootstrap
        self.topic = f"aindusdb.test.{uuid4().hex}"
        self.log = log

    def relay_settings(self, **changed: Any) -> RelaySettings:
        given: dict[str, Any] = {
            "events_dsn": self.databases.events_dsn,
            "kafka_bootstrap": self.bootstrap,
            "kafka_topic": self.topic,
            "poll_interval_seconds": 0.02,
        }
        return RelaySettings(**(given | changed))

    def projector_settings(self, **changed: Any) -> ProjectorSettings:
        given: dict[str, Any] = {"kafka_bootstrap": self.bootstrap, "kafka_topic": self.topic}
        return projector_settings(self.databases, **(given | changed))

    @asynccontextmanager
    async def relay(self, holder: str = "relay", **changed: Any) -> AsyncIterator[Relay]:
        relay = Relay(self.relay_settings(**changed), holder, RelayMetrics(CollectorRegistry()))
        running = asyncio.create_task(relay.run())
        try:
            yield relay
        finally:
            relay.stop()
            await asyncio.wait_for(running, PATIENCE_SECONDS)

    @asynccontextmanager
    async def projector(self, **changed: Any) -> AsyncIterator[Consumer]:
        settings = self.projector_settings(**changed)
        async with running_consumer(settings, lambda: open_source(settings)) as consumer:
            yield consumer

    @asynccontextmanager
    async def process(self, module: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """A relay or projector as a process of its own, killed in the end."""
        relay = module == "command_service.relay"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", module,
            env={
                **os.environ,
                "AINDUSDB_EVENTS_DSN": self.databases.events_dsn if relay else self.databases.projector_events_dsn,
                "AINDUSDB_READ_DSN": self.databases.read_dsn,
                "AINDUSDB_KAFKA_BOOTSTRAP": self.bootstrap,
                "AINDUSDB_KAFKA_TOPIC": self.topic,
                "AINDUSDB_PORT": str(free_port()),
                "AINDUSDB_POLL_INTERVAL_SECONDS": "0.05",
                "AINDUSDB_LOG_FORMAT": "console",
                "PYTHONUNBUFFERED": "1",
                **environment,
            },
        )  # fmt: skip
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    @asynccontextmanager
    async def served(self, module: str, **environment: str) -> AsyncIterator[httpx.AsyncClient]:
        """The same, and a client that asks it how it is."""
        port = free_port()
        address = f"http://127.0.0.1:{port}"
        async with (
            self.process(module, AINDUSDB_PORT=str(port), AINDUSDB_METRICS_INTERVAL_SECONDS="0.1", **environment),
            httpx.AsyncClient(base_url=address, trust_env=False, timeout=10) as client,
        ):
            await until(lambda: answers(client), f"{module} did not start")
            yield client

    async def relay_status(self) -> RelayStatus:
        status = await read_relay_status(self.projection.log)
        assert status is not None
        return status

    async def published(self) -> bool:
        status = await read_relay_status(self.projection.log)
        return status is not None and status.backlog == 0

    def caught_up_with(self, position: int) -> Callable[[], Awaitable[bool]]:
        async def caught_up() -> bool:
            return await watermark(self.projection.read) >= position

        return caught_up

    async def settle(self) -> None:
        """Waits until everything is projected; then the read model is the fold of the log, and nothing is parked."""
        await until(self.projection.caught_up, "the projector did not catch up")
        assert await self.projection.stored() == await self.projection.expected()
        assert await self.projection.parked() == {}


async def answers(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/health")).is_success
    except httpx.TransportError:
        return False


def says(client: httpx.AsyncClient, status: int, words: str = "") -> Callable[[], Awaitable[bool]]:
    """Whether /ready answers with this status and these words."""

    async def asked() -> bool:
        answer = await client.get("/ready")
        return answer.status_code == status and words in answer.text

    return asked


async def metric(client: httpx.AsyncClient, name: str) -> float:
    lines = (await client.get("/metrics")).text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


class Load:
    """Writes until it is stopped, from one task."""

    def __init__(self, log: LogWriter, seed: int = 7) -> None:
        self._log = log
        self._seed = seed
        self._random = random.Random(seed)
        self._collection: NewCollection | None = None
        self._vectors: list[str] = []
        self.written = 0

    async def one(self) -> None:
        if self._collection is None or self.written % 97 == 96:
            self._collection = await self._log.create_collection(f"load-{self._seed}-{self.written}")
            self._vectors = []
        choice = self._random.random()
        if not self._vectors or choice < 0.6:
            self._vectors.append(f"v{self.written}")
            await self._log.create(self._collection, self._vectors[-1], content=f"content {self.written}")
        elif choice < 0.8:
            await self._log.update(self._collection, self._random.choice(self._vectors), content=f"new {self.written}")
        elif choice < 0.9:
            await self._log.update(self._collection, self._random.choice(self._vectors), embedding=(1, 0, 0, 1))
        else:
            vector = self._vectors.pop(self._random.randrange(len(self._vectors)))
            await self._log.delete(self._collection, vector)
        self.written += 1

    async def some(self, count: int) -> None:
        for _ in range(count):
            await self.one()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """About a hundred a second."""
        stop = asyncio.Event()

        async def write() -> None:
            while not stop.is_set():
                await self.one()
                await asyncio.sleep(0.008)

        writing = asyncio.create_task(write())
        try:
            yield
        finally:
            stop.set()
            await writing


@asynccontextmanager
async def transport(database_factory: DatabaseFactory, bootstrap: str) -> AsyncIterator[Transport]:
    async with (
        database_factory.pair() as databases,
        connected(databases.events_dsn) as log,
        connected(databases.events_dsn) as written,
        connected(databases.read_dsn) as read,
    ):
        yield Transport(Projection(databases, log, read), LogWriter(written), bootstrap)
