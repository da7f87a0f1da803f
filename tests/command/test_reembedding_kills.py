"""A move to another model while everything is written, and the process that moves the collection is killed again and
again: in the end each vector has the embedding of the content that it has, and none was embedded twice."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import httpx
import orjson
import pytest

from command_service.domain import vectors
from command_service.domain.vectors import VectorState
from events_schema.base import RecordedEvent
from events_schema.collections import CollectionReembedded
from events_schema.embedding import decode
from events_schema.registry import decode_event
from events_schema.specs import EmbeddingSpecs
from events_schema.vectors import VectorCreated, VectorReembedded
from shared.event_log import read_collection_events
from tests.command.conftest import running_service
from tests.embedding.endpoint import DIMENSION, Endpoint, numbers_of, running_endpoint
from tests.processes import running_process
from tests.projector.projecting import until
from tests.servers import DatabaseFactory, Databases, connected

Log: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

VECTORS = 1_500
COLLECTION = "/api/v1/collections/moving"
NEW_DIMENSION = 12

_REEMBEDDED = "SELECT count(*) FROM events WHERE event_type = 'VectorReembedded'"
_COMPLETED = """
SELECT EXISTS (SELECT FROM events WHERE event_type = 'CollectionReembedded' AND position >
    (SELECT max(position) FROM events WHERE event_type = 'CollectionUpdated'))
"""


def settings(endpoint: Endpoint) -> dict[str, str]:
    new = [{"provider": "openai", "model": "new", "url": endpoint.url}]
    return {
        "embedding_provider": "openai", "embedding_url": endpoint.url, "embedding_model": "old",
        "embedding_others": orjson.dumps(new).decode(),
    }  # fmt: skip


@asynccontextmanager
async def moving_process(databases: Databases, endpoint: Endpoint) -> AsyncIterator[None]:
    """A process that moves collections; it is killed in the end."""
    environment = {
        "AINDUSDB_EVENTS_DSN": databases.events_dsn, "AINDUSDB_SIGNING_KEYS": "test-key",
        "AINDUSDB_REEMBEDDING_INTERVAL_SECONDS": "0.05",
        **{f"AINDUSDB_{name}".upper(): value for name, value in settings(endpoint).items()},
    }  # fmt: skip
    async with running_process("command_service", **environment):
        yield


async def moved_and_killed(databases: Databases, endpoint: Endpoint, log: Log, chosen: random.Random) -> None:
    """Kills the process at some moment after it has embedded something."""
    before = await log.fetchval(_REEMBEDDED)
    async with moving_process(databases, endpoint):

        async def has_begun() -> bool:
            return bool(await log.fetchval(_REEMBEDDED) > before or await log.fetchval(_COMPLETED))

        await until(has_begun, "nothing was embedded")
        await asyncio.sleep(chosen.random() * 0.3)


async def write_on(service: httpx.AsyncClient, chosen: random.Random, written: dict[str, int]) -> None:
    """Everything that can be written, until it is cancelled."""
    while True:
        vector_id, text = f"v{chosen.randrange(1, VECTORS + 50)}", f"text {chosen.randrange(10**6)}"
        kind = chosen.choice(["put", "patch", "touch", "own", "own-and-text", "delete", "batch"])
        path = f"{COLLECTION}/vectors/{vector_id}"
        own: dict[str, Any] = {"embedding": [chosen.random() + 0.1 for _ in range(DIMENSION)], "model": "old"}
        match kind:
            case "put":
                answer = await service.put(path, json={"content": text})
            case "patch":
                answer = await service.patch(path, json={"content": text})
            case "touch":
                answer = await service.patch(path, json={"metadata": {"at": text}})
            case "own":
                answer = await service.patch(path, json=own)
            case "own-and-text":
                answer = await service.put(path, json={"content": text, **own})
            case "delete":
                answer = await service.delete(path)
            case _:
                operations = [{"op": "upsert", "id": vector_id, "content": text}, {"op": "delete", "id": "v0"}]
                answer = await service.post(f"{COLLECTION}/vectors/batch", json={"operations": operations})
        assert answer.is_success or answer.status_code == 404, answer.text
        written[kind] = written.get(kind, 0) + answer.is_success


async def read_all(log: Log, collection_id: UUID) -> list[RecordedEvent]:
    events: list[RecordedEvent] = []
    while True:
        after = events[-1].position if events else 0
        more = await read_collection_events(log, collection_id, after=after, to=2**62, limit=1_000, max_bytes=2**24)
        if not more:
            return events
        events += more


class Folded:
    """The collection's events one after the other."""

    def __init__(self) -> None:
        self.specs: EmbeddingSpecs | None = None
        self.vectors: dict[str, VectorState] = {}
        self.reembedded: dict[str, int] = {}
        """Since their creation, and since the last announcement."""

    def add(self, event: RecordedEvent) -> None:
        decoded: Any = decode_event(event.event_type, event.schema_version, event.event_data)
        if event.aggregate_type == "collection":
            self.specs = (
                EmbeddingSpecs.created(decoded) if self.specs is None else self.specs.after(decoded, event.position)
            )
            self.reembedded.clear()
            return
        if isinstance(decoded, VectorCreated):
            self.reembedded.pop(decoded.id, None)
        if isinstance(decoded, VectorReembedded):
            self.reembedded[decoded.id] = self.reembedded.get(decoded.id, 0) + 1
            assert self.reembedded[decoded.id] == 1, f"{decoded.id} was embedded twice"
        self.vectors[decoded.id] = vectors.evolve(
            self.vectors.get(decoded.id, VectorState()), decoded,
            version=event.version, position=event.position, timestamp=event.timestamp,
        )  # fmt: skip

    def check(self) -> int:
        """So many vectors have the embedding of their content by the target's model; all do."""
        assert self.specs is not None
        live = {name: state.live for name, state in self.vectors.items() if state.live is not None}
        for name, vector in live.items():
            data = vector.embedding(self.specs.target)
            assert data is not None, f"{name} has no embedding of the new model"
            assert vector.content is not None
            assert decode(data).tolist() == numbers_of(vector.content, NEW_DIMENSION), name
        return len(live)


@pytest.mark.parametrize("times", [1, pytest.param(12, marks=pytest.mark.long)])
async def test_kills_and_writes_leave_each_vector_with_the_embedding_of_its_content(
    database_factory: DatabaseFactory, times: int
) -> None:
    seed = time.time_ns()
    print(f"seed {seed}")
    chosen = random.Random(seed)
    async with (
        database_factory.pair() as databases,
        running_endpoint() as endpoint,
        connected(databases.events_dsn) as log,
        running_service(databases, **settings(endpoint), reembedding_interval_seconds=3600.0) as service,
    ):
        endpoint.dimensions["new"] = NEW_DIMENSION
        endpoint.fault = lambda _number, texts: 0.2 if endpoint.models[-1] == "new" and len(texts) > 1 else None
        created = (await service.post("/api/v1/collections", json={"name": "moving"})).json()
        lines = b"".join(orjson.dumps({"id": f"v{n}", "content": f"first {n}"}) + b"\n" for n in range(VECTORS))
        headers = {"Content-Type": "application/x-ndjson"}
        imported = (await service.post(f"{COLLECTION}/vectors/import", content=lines, headers=headers)).json()
        assert imported["created"] == VECTORS
        written: dict[str, int] = {}
        writing = [asyncio.create_task(write_on(service, random.Random(chosen.random()), written)) for _ in range(3)]
        try:
            await announce(service, "new")
            await moved_and_killed(databases, endpoint, log, chosen)
            # Back in the middle, and there again: what was embedded the first time does not count any more.
            await announce(service, "old")
            operations = [{"op": "upsert", "id": f"v{n}", "content": f"second {n}"} for n in range(500)]
            meanwhile = await service.post(f"{COLLECTION}/vectors/batch", json={"operations": operations})
            assert meanwhile.is_success, meanwhile.text
            await announce(service, "new")
            for _ in range(times - 1):
                await moved_and_killed(databases, endpoint, log, chosen)
            async with moving_process(databases, endpoint):
                await until(lambda: log.fetchval(_COMPLETED), "the move was not completed")
        finally:
            for task in writing:
                task.cancel()
            ended = await asyncio.gather(*writing, return_exceptions=True)
        assert [one for one in ended if not isinstance(one, asyncio.CancelledError)] == []
        folded = Folded()
        for event in await read_all(log, UUID(created["collection_id"])):
            folded.add(event)
            if event.event_type == CollectionReembedded.event_type:
                assert folded.check() > VECTORS / 2
        assert folded.check() > VECTORS / 2
        assert len(written) == 7


async def announce(service: httpx.AsyncClient, model: str) -> None:
    answer = await service.patch(COLLECTION, json={"model": model})
    assert answer.is_success, answer.text
