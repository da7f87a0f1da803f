"""Holds the log against what was acknowledged, and the read model against a plain fold of the log."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from pgvector.asyncpg import register_vector

from events_schema.base import RecordedEvent
from events_schema.embedding import decode
from shared.event_log import read_events
from shared.postgres import connect_uncached
from shared.read_model.tables import embeddings_table, records_table
from shared.status import log_status
from tests.crash.acknowledged import Acknowledged

CATCH_UP_TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Verdict:
    events: int
    lost: int
    doubled: int
    different: int
    """Vectors that the read model holds otherwise than the log says."""


async def verify(events_dsn: str, read_dsn: str, acknowledged: Acknowledged) -> Verdict:
    events = await connect_uncached(events_dsn)
    read = await connect_uncached(read_dsn)
    try:
        await register_vector(read)
        await _caught_up(events, read)
        log = [event for event in await _whole_log(events) if event.aggregate_type == "vector"]
        lost = _lost(log, acknowledged, up_to=acknowledged.last_position)
        doubled = sum(times - 1 for times in Counter(mark for mark, _event in _marked(log)).values())
        different = await _differences(read, log)
    finally:
        await events.close()
        await read.close()
    return Verdict(len(log), lost, doubled, different)


@dataclass(frozen=True, slots=True)
class Restored:
    """A log that was brought back: where it ends, and how many promises it does not keep although it should."""

    position: int
    lost: int


async def held(events_dsn: str, acknowledged: Acknowledged, up_to: int) -> Restored:
    """What a restored log holds of what was acknowledged up to this position, or up to its own end if that is later."""
    events = await connect_uncached(events_dsn)
    try:
        log = await _whole_log(events)
    finally:
        await events.close()
    return Restored(len(log), _lost(log, acknowledged, up_to=max(up_to, len(log))))


def _lost(log: list[RecordedEvent], acknowledged: Acknowledged, *, up_to: int) -> int:
    recorded = dict(_marked(log))
    return sum(
        promise.position <= up_to and not (mark in recorded and promise.is_kept_by(recorded[mark]))
        for mark, promise in acknowledged.promises.items()
    )


def _marked(log: list[RecordedEvent]) -> list[tuple[str, RecordedEvent]]:
    """The events that bear the mark of an operation, with it."""
    return [
        (event.event_data["metadata"]["mark"], event)
        for event in log
        if "mark" in (event.event_data.get("metadata") or {})
    ]


async def _caught_up(events: Any, read: Any) -> None:
    deadline = time.monotonic() + CATCH_UP_TIMEOUT_SECONDS
    while (status := await log_status(events, read)).lag_events:
        assert time.monotonic() < deadline, f"the read model does not catch up: {status}"
        await asyncio.sleep(0.1)
    assert status.parked_events == 0, f"events were parked: {status}"


async def _whole_log(events: Any) -> list[RecordedEvent]:
    """All events in order; the reader refuses a gap."""
    found: list[RecordedEvent] = []
    while batch := await read_events(events, len(found)):
        found += batch
    return found


def fold(log: list[RecordedEvent]) -> dict[str, dict[str, Any]]:
    """id -> what the vector is after the last of its events; deliberately none of the product's code."""
    vectors: dict[str, dict[str, Any]] = {}
    for event in log:
        data = event.event_data
        if event.event_type == "VectorDeleted":
            del vectors[data["id"]]
            continue
        if event.event_type == "VectorCreated":
            vectors[data["id"]] = {"content": None, "metadata": {}}
        vector = vectors[data["id"]]
        vector.update({name: data[name] for name in ("content", "metadata") if name in data})
        if "embeddings" in data:
            vector["embedding"] = decode(data["embeddings"][0]["data"])
        vector.update(version=event.version, position=event.position)
    return vectors


async def _differences(read: Any, log: list[RecordedEvent]) -> int:
    expected = fold(log)
    row = await read.fetchrow(
        "SELECT c.collection_id, s.generation FROM collections c JOIN collection_state s USING (collection_id) "
        "WHERE c.name = 'crash' AND c.deleted_at IS NULL"
    )
    records, embeddings = (
        table(row["collection_id"], row["generation"]) for table in (records_table, embeddings_table)
    )
    rows = await read.fetch(f"SELECT r.*, e.embedding FROM {records} r FULL JOIN {embeddings} e USING (id)")
    found = {row["id"]: row for row in rows}
    different = len(found.keys() ^ expected.keys())
    for vector_id in found.keys() & expected.keys():
        have, want = found[vector_id], expected[vector_id]
        same = (
            have["content"] == want["content"]
            and orjson.loads(have["metadata"]) == want["metadata"]
            and (have["version"], have["position"]) == (want["version"], want["position"])
            and np.array_equal(have["embedding"].to_numpy(), want["embedding"])
        )
        different += not same
    return different
