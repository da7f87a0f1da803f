"""Appends many new vectors straight to the event log, faster than any client could send them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from uuid import UUID

import asyncpg
import numpy as np
from uuid_utils.compat import uuid7

from aindusdb.client import CreatedCollection
from aindusdb.local_stack.state import StackState
from benchmarks.figures import say
from command_service.append_lock import begin_locked
from command_service.event_store import NewEvent, append, read_log_end
from events_schema.embedding import EmbeddingSpec, StoredEmbedding, encode
from events_schema.streams import vector_stream
from events_schema.vectors import VectorCreated

TENANT = "default"
_AT_ONCE = 1_000
_SAID_EVERY = 100_000
_PROJECTED_WITHIN_SECONDS = 1_800.0
_WATERMARK = "SELECT min(position) FROM projection_checkpoints"


async def fill_log(state: StackState, collection: CreatedCollection, count: int, dimension: int) -> None:
    """So many vectors of random numbers, with a little metadata; waits until the read model has them."""
    events = await asyncpg.connect(state.relay_dsn)  # the command service's role
    read = await asyncpg.connect(state.projector_read_dsn)
    try:
        head = 0
        for done, created in _created(count, dimension):
            head = await _append(events, UUID(collection.collection_id), created)
            if done % _SAID_EVERY == 0:
                say(f"appended {done:,} of {count:,}")
        deadline = time.monotonic() + _PROJECTED_WITHIN_SECONDS
        while await read.fetchval(_WATERMARK) < head:
            if time.monotonic() > deadline:
                raise SystemExit("the read model does not come to the end of the log")
            await asyncio.sleep(0.1)
    finally:
        events.terminate()
        read.terminate()


def _created(count: int, dimension: int) -> Iterator[tuple[int, list[VectorCreated]]]:
    """With how many there are by then."""
    random = np.random.default_rng(1)
    spec = EmbeddingSpec(provider="client", model=None, dimension=dimension)
    for start in range(0, count, _AT_ONCE):
        block = random.standard_normal((min(_AT_ONCE, count - start), dimension), dtype=np.float32)
        yield (
            start + len(block),
            [
                VectorCreated(
                    id=f"v{number:09}",
                    embeddings=(StoredEmbedding(spec=spec, encoding="float32-le-base64", data=encode(numbers)),),
                    metadata={"number": number % 100, "kind": "benchmark"},
                )
                for number, numbers in enumerate(block, start)
            ],
        )


async def _append(
    connection: asyncpg.Connection[asyncpg.Record], collection_id: UUID, created: list[VectorCreated]
) -> int:
    """In one transaction, as the command service does it; the position of the last."""
    await begin_locked(connection)
    end = await read_log_end(connection, [])
    events = [
        NewEvent(
            position, uuid7(), TENANT, collection_id, vector_stream(collection_id, event.id), "vector", 1,
            event.event_type, event.schema_version, event.serialised,
            '{"actor": "benchmark", "request_id": "benchmark"}', end.timestamp,
        )
        for position, event in enumerate(created, end.position + 1)
    ]  # fmt: skip
    await append(connection, events)
    await connection.execute("COMMIT")
    return events[-1].position
