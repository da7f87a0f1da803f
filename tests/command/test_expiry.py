"""Vectors with an instant at which they expire, and collections with a retention, as writes bring them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import httpx
import orjson
import pytest

from events_schema.embedding import EmbeddingSpec
from tests.projector.log_writer import LogWriter, NewCollection
from tests.servers import Databases, connected

Log: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

API = "/api/v1/collections"
VECTOR = {"embedding": [1, 2, 3]}
FAR = "2100-01-01T00:00:00Z"
PAST = "2020-01-01T00:00:00Z"


async def _collection(service: httpx.AsyncClient, name: str, **fields: Any) -> dict[str, Any]:
    answer = await service.post(API, json={"name": name, "dimension": 3, **fields})
    assert answer.status_code == 201, answer.text
    document: dict[str, Any] = answer.json()
    return document


async def _history(log: Log, vector_id: str, name: str) -> list[tuple[str, dict[str, Any]]]:
    rows = await log.fetch(
        "SELECT event_type, event_data FROM events WHERE event_data ->> 'id' = $1 AND collection_id ="
        " (SELECT collection_id FROM events WHERE event_data ->> 'name' = $2 LIMIT 1) ORDER BY position",
        vector_id,
        name,
    )
    return [(row["event_type"], orjson.loads(row["event_data"])) for row in rows]


async def test_an_instant_is_written_changed_kept_and_removed(service: httpx.AsyncClient, log: Log) -> None:
    await _collection(service, "instants")
    vectors = f"{API}/instants/vectors"
    brought = {**VECTOR, "expires_at": "2100-01-01T02:00:00.5+02:00"}
    assert (await service.put(f"{vectors}/v", json=brought)).status_code == 201
    again = (await service.put(f"{vectors}/v", json={**VECTOR, "expires_at": "2100-01-01T00:00:00.500Z"})).json()
    assert again["version"] == 1  # the same instant is no change
    later = (await service.patch(f"{vectors}/v", json={"expires_at": FAR})).json()
    assert later["version"] == 2
    assert (await service.patch(f"{vectors}/v", json={"metadata": {"a": 1}})).json()["version"] == 3
    assert (await service.patch(f"{vectors}/v", json={"expires_at": None})).json()["version"] == 4
    batch = {"operations": [{"op": "upsert", "id": "v", **VECTOR, "metadata": {"a": 1}, "expires_at": FAR}]}
    assert (await service.post(f"{vectors}/batch", json=batch)).json()["results"][0]["result"] == "updated"
    # Whatever was there is replaced, so without one it never expires.
    assert (await service.put(f"{vectors}/v", json={**VECTOR, "metadata": {"a": 1}})).json()["version"] == 6
    history = await _history(log, "v", "instants")
    assert [data.get("expires_at", "unsaid") for _, data in history] == [
        "2100-01-01T00:00:00.500000Z", FAR, "unsaid", None, FAR, None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "expires_at",
    [
        "2100-01-01", "2100-01-01T00:00:00", "2100-01-01T00:00Z", "2100-13-01T00:00:00Z", "", "soon", 4102444800, True,
        "10000-01-01T00:00:00Z", "9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+14:00",
    ],
)  # fmt: skip
async def test_what_is_no_instant_with_a_zone_is_refused_by_its_field(
    service: httpx.AsyncClient, expires_at: Any
) -> None:
    answer = await service.post("/api/v1/vectors", json={**VECTOR, "expires_at": expires_at})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/expires_at")
    assert "RFC 3339" in answer.json()["detail"]


async def test_an_instant_that_is_not_to_come_is_refused_everywhere(service: httpx.AsyncClient, log: Log) -> None:
    await _collection(service, "past")
    vectors = f"{API}/past/vectors"
    await service.put(f"{vectors}/v", json=VECTOR)
    past = {"expires_at": PAST}
    for answer in (
        await service.post(vectors, json={**VECTOR, **past}),
        await service.put(f"{vectors}/v", json={**VECTOR, **past}),
        await service.patch(f"{vectors}/v", json=past),
    ):
        problem = answer.json()
        assert (answer.status_code, problem["type"]) == (422, "/problems/validation"), problem
        assert problem["errors"][0]["pointer"] == "/expires_at"
        assert "not in the future" in problem["detail"]
    operations = [{"op": "create", "id": "new", **VECTOR}, {"op": "patch", "id": "v", **past}]
    problem = (await service.post(f"{vectors}/batch", json={"operations": operations})).json()
    assert [error["pointer"] for error in problem["errors"]] == ["/operations/1/expires_at"]
    lines = [{"id": f"l{number}", **VECTOR, **(past if number % 2 else {})} for number in range(4)]
    body = b"\n".join(map(orjson.dumps, lines))
    headers = {"Content-Type": "application/x-ndjson"}
    skipped = (await service.post(f"{vectors}/import?on_error=skip", content=body, headers=headers)).json()
    assert (skipped["created"], skipped["failed"]) == (2, 2)
    assert [(error["line"], error["pointer"]) for error in skipped["errors"]] == [
        (2, "/expires_at"),
        (4, "/expires_at"),
    ]
    stopped = (await service.post(f"{vectors}/import?on_error=stop", content=body, headers=headers)).json()
    assert (stopped["unchanged"], stopped["stopped_at"]) == (1, 2)
    assert [kind for kind, _ in await _history(log, "v", "past")] == ["VectorCreated"]


async def test_what_has_expired_is_not_there_for_whoever_writes(
    service: httpx.AsyncClient, log: Log, databases: Databases
) -> None:
    created = await _collection(service, "gone")
    vectors = f"{API}/gone/vectors"
    collection = NewCollection(
        "gone", EmbeddingSpec(provider="client", model=None, dimension=3), UUID(created["collection_id"])
    )
    writer = LogWriter(log)
    past = datetime.now(UTC) - timedelta(seconds=1)
    for vector_id in ("patched", "deleted", "created", "upserted", "batched"):
        await writer.create(collection, vector_id, (1, 2, 3))
        await writer.update(collection, vector_id, expires_at=past)
    assert (await service.patch(f"{vectors}/patched", json={"expires_at": FAR})).status_code == 404
    assert (await service.delete(f"{vectors}/deleted")).status_code == 404
    answer = await service.put(f"{vectors}/upserted", json=VECTOR, headers={"If-Match": '"2"'})
    assert (answer.status_code, answer.json()["current"]) == (412, 0)
    answer = await service.put(f"{vectors}/upserted", json=VECTOR)
    assert (answer.status_code, answer.json()["version"]) == (201, 4)
    answer = await service.post(vectors, json={"id": "created", **VECTOR})
    assert (answer.status_code, answer.json()["version"]) == (201, 4)
    operations = [{"op": "delete", "id": "deleted"}, {"op": "upsert", "id": "batched", **VECTOR, "expires_at": FAR}]
    batch = (await service.post(f"{vectors}/batch", json={"operations": operations})).json()
    assert [(one["result"], one["version"]) for one in batch["results"]] == [("unchanged", 2), ("created", 4)]
    for vector_id in ("created", "upserted", "batched"):
        history = await _history(log, vector_id, "gone")
        assert [kind for kind, _ in history] == ["VectorCreated", "VectorUpdated", "VectorDeleted", "VectorCreated"]
        assert history[2][1] == {"id": vector_id, "reason": "expired"}
    async with connected(databases.events_owner_dsn) as events:
        positions = [row["position"] for row in await events.fetch("SELECT position FROM events ORDER BY position")]
    assert positions == list(range(1, len(positions) + 1))


async def test_a_retention_is_set_changed_and_removed_and_comes_back_with_its_collection(
    service: httpx.AsyncClient, log: Log
) -> None:
    created = await _collection(service, "kept", retention_seconds=3600)
    assert created["retention_seconds"] == 3600
    collection = f"{API}/kept"
    assert (await service.patch(collection, json={"retention_seconds": 3600})).json()["version"] == 1
    assert (await service.patch(collection, json={"description": "x"})).json()["retention_seconds"] == 3600
    assert (await service.patch(collection, json={"retention_seconds": None})).json()["retention_seconds"] is None
    assert (await service.patch(collection, json={"retention_seconds": 60})).json()["retention_seconds"] == 60
    for refused in (0, -1, 1.5, "60", 2**40):
        answer = await service.patch(collection, json={"retention_seconds": refused})
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/retention_seconds"), refused
    deleted = (await service.delete(collection)).json()
    await service.post(f"{collection}/restore", json={"collection_id": deleted["collection_id"]})
    event = await log.fetchval("SELECT event_data FROM events ORDER BY position DESC LIMIT 1")
    assert orjson.loads(event)["retention_seconds"] == 60


async def test_a_restored_vector_comes_back_without_an_instant_that_has_passed(
    service: httpx.AsyncClient, log: Log
) -> None:
    created = await _collection(service, "restored")
    collection = NewCollection(
        "restored", EmbeddingSpec(provider="client", model=None, dimension=3), UUID(created["collection_id"])
    )
    vectors = f"{API}/restored/vectors"
    writer = LogWriter(log)
    for vector_id, expires_at in (("past", datetime.now(UTC) - timedelta(seconds=1)), ("future", FAR)):
        await service.put(f"{vectors}/{vector_id}", json=VECTOR)
        await writer.update(collection, vector_id, expires_at=expires_at)
        await writer.delete(collection, vector_id)
        answer = await service.post(f"{vectors}/{vector_id}/restore", json={"version": 2})
        assert answer.status_code == 201, answer.text
    assert "expires_at" not in (await _history(log, "past", "restored"))[-1][1]
    assert (await _history(log, "future", "restored"))[-1][1]["expires_at"] == FAR
