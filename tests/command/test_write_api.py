"""The write API's answers, over real appends."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from itertools import count
from typing import Any, TypeAlias

import asyncpg
import httpx
import numpy as np
import pytest

from tests.command.conftest import running_service
from tests.servers import DatabaseFactory, Databases, connected

Log: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

_names = (f"c{number}" for number in count())
API = "/api/v1"


async def _collection(service: httpx.AsyncClient, **fields: Any) -> str:
    name = next(_names)
    answer = await service.post(f"{API}/collections", json={"name": name, "dimension": 3, **fields})
    assert answer.status_code == 201, answer.text
    return f"{API}/collections/{name}"


async def _head(log: Log) -> int:
    head: int = await log.fetchval("SELECT coalesce(max(position), 0) FROM events")
    return head


async def test_created_collection_answers_with_its_whole_description(service: httpx.AsyncClient) -> None:
    answer = await service.post(f"{API}/collections", json={"name": "whole", "dimension": 8, "description": "d"})
    assert answer.status_code == 201
    assert answer.headers["location"] == f"{API}/collections/whole"
    body = answer.json()
    assert body["consistency_token"]
    assert {key: body[key] for key in ("name", "dimension", "metric", "type", "index", "model", "version")} == {
        "name": "whole", "dimension": 8, "metric": "cosine", "type": "vector", "model": None, "version": 1,
        "index": {"kind": "hnsw", "m": 16, "ef_construction": 64, "lists": None},
    }  # fmt: skip


async def test_collection_name_can_be_used_again_with_a_new_id(service: httpx.AsyncClient) -> None:
    collection = await _collection(service)
    name = collection.rsplit("/", 1)[-1]
    first = await service.delete(collection)
    assert first.status_code == 200
    second = await service.post(f"{API}/collections", json={"name": name, "dimension": 5})
    assert second.status_code == 201
    assert second.json()["collection_id"] != first.json()["collection_id"]
    assert second.json()["version"] == 3


async def test_existing_collection_is_refused(service: httpx.AsyncClient) -> None:
    collection = await _collection(service)
    answer = await service.post(f"{API}/collections", json={"name": collection.rsplit("/", 1)[-1]})
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/collection-exists")


async def test_patched_description_is_one_event_and_the_same_again_is_none(
    service: httpx.AsyncClient, log: Log
) -> None:
    collection = await _collection(service)
    assert (await service.patch(collection, json={"description": "new"})).json()["version"] == 2
    head = await _head(log)
    assert (await service.patch(collection, json={"description": "new"})).json()["version"] == 2
    assert (await service.patch(collection, json={})).json()["version"] == 2
    assert await _head(log) == head


async def test_vector_lives_through_create_put_patch_delete_with_versions(service: httpx.AsyncClient) -> None:
    vectors = f"{await _collection(service)}/vectors"
    created = await service.post(vectors, json={"id": "a", "embedding": [1, 2, 3], "metadata": {"x": 1, "y": 2}})
    assert (created.status_code, created.json()["version"], created.headers["etag"]) == (201, 1, '"1"')
    put = await service.put(f"{vectors}/a", json={"embedding": [1, 2, 4], "content": "text"})
    assert (put.status_code, put.json()["version"]) == (200, 2)
    patched = await service.patch(f"{vectors}/a", json={"metadata": {"z": 3}}, headers={"If-Match": '"2"'})
    assert (patched.status_code, patched.json()["version"]) == (200, 3)
    stale = await service.patch(f"{vectors}/a", json={"metadata": {"z": 4}}, headers={"If-Match": '"2"'})
    assert stale.status_code == 412
    assert (stale.json()["expected"], stale.json()["current"]) == (2, 3)
    deleted = await service.delete(f"{vectors}/a")
    assert (deleted.status_code, deleted.json()["version"]) == (200, 4)
    assert (await service.delete(f"{vectors}/a")).status_code == 404
    again = await service.put(f"{vectors}/a", json={"embedding": [1, 2, 3]})
    assert (again.status_code, again.json()["version"]) == (201, 5)


async def test_what_changes_nothing_appends_nothing(service: httpx.AsyncClient, log: Log) -> None:
    vectors = f"{await _collection(service)}/vectors"
    body = {"embedding": [0.1, 0.2, 0.3], "content": "é", "metadata": {"n": 1e16, "z": -0.0, "a": [1, {"b": None}]}}
    first = (await service.put(f"{vectors}/a", json=body)).json()
    head = await _head(log)
    second = await service.put(f"{vectors}/a", json=body)
    assert second.status_code == 200
    assert (second.json()["version"], second.json()["position"]) == (first["version"], first["position"])
    assert (await service.patch(f"{vectors}/a", json={"metadata": {"n": 10**16}})).json()["version"] == 1
    assert await _head(log) == head


async def test_event_holds_only_what_changed_and_the_embedding_bit_exactly(
    service: httpx.AsyncClient, log: Log
) -> None:
    embedding = np.array([1e-40, -3.4e18, 0.1], dtype="<f4")
    encoded = base64.b64encode(embedding.tobytes()).decode()
    vectors = f"{await _collection(service, metric='l2')}/vectors"
    answer = await service.post(vectors, json={"id": "a", "embedding": encoded, "metadata": {"k": 1}})
    assert answer.status_code == 201, answer.text
    await service.patch(f"{vectors}/a", json={"content": "text"})
    rows = await log.fetch("SELECT event_type, event_data FROM events ORDER BY position DESC LIMIT 2")
    import json

    updated, created = (json.loads(row["event_data"]) for row in rows)
    assert updated == {"id": "a", "content": "text"}
    assert created["embeddings"][0]["data"] == encoded


async def test_first_write_brings_the_default_collection_into_being(service: httpx.AsyncClient) -> None:
    refused = await service.patch(f"{API}/vectors/a", json={"content": "x"})
    assert (refused.status_code, refused.json()["type"]) == (404, "/problems/collection-not-found")
    first = await service.post(f"{API}/vectors", json={"embedding": [1, 2, 3, 4]})
    assert first.status_code == 201, first.text
    assert (await service.post(f"{API}/vectors", json={"embedding": [1, 2]})).status_code == 422
    assert (await service.delete(f"{API}/vectors/{first.json()['id']}")).status_code == 200


REFUSED_FIRST_WRITES = [
    ("POST", "", {"embedding": [0, 0]}, {}, "zero-vector", "/embedding"),
    ("POST", "", {"embedding": [0.5] * 2001}, {}, "validation", "/embedding"),
    ("PUT", "/a", {"embedding": [1, 2]}, {"If-Match": '"1"'}, "version-mismatch", None),
    ("POST", "/batch", {"operations": [{"op": "upsert", "id": "a", "embedding": [1, 2]},
                                       {"op": "upsert", "id": "b", "embedding": [1, 2, 3]}]}, {},
     "dimension-mismatch", "/operations/1/embedding"),
    ("POST", "/batch", {"operations": [{"op": "upsert", "id": "a", "embedding": [1, 2]},
                                       {"op": "patch", "id": "b", "content": "x"}]}, {},
     "vector-not-found", "/operations/1/id"),
]  # fmt: skip


async def test_refused_first_write_leaves_no_default_collection_behind(database_factory: DatabaseFactory) -> None:
    async with database_factory.pair() as databases, running_service(databases) as service:
        for method, path, body, headers, problem, pointer in REFUSED_FIRST_WRITES:
            answer = await service.request(method, f"{API}/vectors{path}", json=body, headers=headers)
            document = answer.json()
            assert document["type"] == f"/problems/{problem}", document
            assert [error["pointer"] for error in document.get("errors", [])] == ([pointer] if pointer else [])
        async with connected(databases.events_owner_dsn) as log:
            assert await _head(log) == 0
            batch = {"operations": [{"op": "upsert", "id": f"v{n}", "embedding": [1, n]} for n in range(3)]}
            written = (await service.post(f"{API}/vectors/batch", json=batch)).json()
            assert (written["first_position"], written["last_position"]) == (2, 4)
            assert await log.fetchval("SELECT event_type FROM events WHERE position = 1") == "CollectionCreated"


async def test_first_writes_at_once_to_two_services_share_one_default_collection(
    database_factory: DatabaseFactory,
) -> None:
    async with (
        database_factory.pair() as databases,
        running_service(databases) as one,
        running_service(databases) as other,
    ):
        answers = await asyncio.gather(
            *(service.post(f"{API}/vectors", json={"embedding": [1, 2]}) for service in (one, other) * 10)
        )
        assert {answer.status_code for answer in answers} == {201}
        async with connected(databases.events_owner_dsn) as log:
            assert await log.fetchval("SELECT count(DISTINCT collection_id) FROM events") == 1
            assert await _head(log) == 21


async def test_batch_takes_effect_whole_with_contiguous_positions(service: httpx.AsyncClient) -> None:
    vectors = f"{await _collection(service)}/vectors"
    operations = [{"op": "upsert", "id": f"v{n}", "embedding": [1, n, 2]} for n in range(50)]
    operations.append({"op": "delete", "id": "never"})
    body = (await service.post(f"{vectors}/batch", json={"operations": operations})).json()
    positions = [result["position"] for result in body["results"][:-1]]
    assert positions == list(range(body["first_position"], body["last_position"] + 1))
    assert body["results"][-1]["result"] == "unchanged"


async def test_refused_batch_names_every_fault_and_writes_nothing(service: httpx.AsyncClient, log: Log) -> None:
    vectors = f"{await _collection(service)}/vectors"
    await service.put(f"{vectors}/a", json={"embedding": [1, 2, 3]})
    head = await _head(log)
    operations = [
        {"op": "upsert", "id": "new", "embedding": [1, 2, 3]},
        {"op": "upsert", "id": "a", "embedding": [1, 2, 4], "if_version": 7},
        {"op": "create", "id": "a2", "embedding": [1, 2, 3]},
        {"op": "patch", "id": "gone", "content": "x"},
    ]
    answer = await service.post(f"{vectors}/batch", json={"operations": operations})
    body = answer.json()
    assert (answer.status_code, body["type"]) == (404, "/problems/vector-not-found")
    assert [(error["pointer"], error["type"]) for error in body["errors"]] == [
        ("/operations/1/if_version", "version-mismatch"),
        ("/operations/3/id", "vector-not-found"),
    ]
    assert await _head(log) == head


async def test_idempotency_key_replays_the_first_answer_and_refuses_another_request(
    service: httpx.AsyncClient, log: Log
) -> None:
    vectors = f"{await _collection(service)}/vectors"
    headers = {"Idempotency-Key": "key-1"}
    first = await service.post(vectors, json={"embedding": [1, 2, 3]}, headers=headers)
    head = await _head(log)
    second = await service.post(vectors, json={"embedding": [1, 2, 3]}, headers=headers)
    assert (second.status_code, second.json()) == (201, first.json())
    other = await service.post(vectors, json={"embedding": [1, 2, 4]}, headers=headers)
    assert (other.status_code, other.json()["type"]) == (422, "/problems/idempotency-key-reused")
    assert await _head(log) == head


async def test_request_id_is_answered_and_recorded(service: httpx.AsyncClient, log: Log) -> None:
    collection = await _collection(service)
    answer = await service.delete(collection, headers={"X-Request-ID": "my-request.1"})
    assert answer.headers["x-request-id"] == "my-request.1"
    recorded = await log.fetchval("SELECT metadata->>'request_id' FROM events ORDER BY position DESC LIMIT 1")
    assert recorded == "my-request.1"
    replaced = await service.delete(collection, headers={"X-Request-ID": "not allowed!"})
    assert replaced.headers["x-request-id"] != "not allowed!"


@pytest.mark.parametrize(
    ("given", "recorded"),
    [
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", True),
        ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", False),
        ("x" * 60_000, False),
    ],
    ids=["well-formed", "without a trace", "anything"],
)
async def test_only_a_well_formed_traceparent_is_recorded(
    service: httpx.AsyncClient, log: Log, given: str, recorded: bool
) -> None:
    await service.delete(await _collection(service), headers={"traceparent": given})
    found = await log.fetchval("SELECT metadata->>'traceparent' FROM events ORDER BY position DESC LIMIT 1")
    assert found == (given if recorded else None)


async def test_patches_cannot_make_metadata_grow_beyond_the_limit(service: httpx.AsyncClient, log: Log) -> None:
    vectors = f"{await _collection(service)}/vectors"
    await service.put(f"{vectors}/a", json={"embedding": [1, 2, 3], "metadata": {"a": [1e308] * 150}})
    head = await _head(log)
    for patch in ({"b": [1e308] * 150}, {"b": "x" * 40_000}):
        answer = await service.patch(f"{vectors}/a", json={"metadata": patch})
        assert (answer.status_code, answer.json()["type"]) == (422, "/problems/validation")
        assert "metadata" in answer.json()["detail"]
    assert await _head(log) == head


BIG = "9" * 400
DEEP = "[" * 9 + "]" * 9

REFUSED_BODIES = [
    (b"{", 400, "malformed-json", None),
    (b'{"embedding": [1,2,3], "embedding": [1,2,3]}', 400, "malformed-json", "duplicate key"),
    (b'{"embedding": [NaN,2,3]}', 400, "malformed-json", None),
    (b'{"embedding": [Infinity,2,3]}', 400, "malformed-json", None),
    (b'{"embedding": [1,2,3], "content": "\\ud800"}', 400, "malformed-json", "/content"),
    (b'{"embedding": [1,2,3]} x', 400, "malformed-json", None),
    (b"\xff", 400, "malformed-json", None),
    (b"[" * 500, 400, "malformed-json", "nested"),
    (b'{"embedding": [1,2]}', 422, "dimension-mismatch", "/embedding"),
    (b'{"embedding": [1,2,3,4]}', 422, "dimension-mismatch", "/embedding"),
    (b'{"embedding": [1e39,2,3]}', 422, "not-finite", "/embedding"),
    (b'{"embedding": [1e400,2,3]}', 422, "not-finite", "/embedding"),
    (f'{{"embedding": [{BIG},2,3]}}'.encode(), 422, "not-finite", "/embedding"),
    (b'{"embedding": [1e20,1e20,3]}', 422, "not-finite", "/embedding"),
    (b'{"embedding": [0,0,0]}', 422, "zero-vector", "/embedding"),
    (b'{"embedding": [1e-30,0,0]}', 422, "zero-vector", "/embedding"),
    (b'{"embedding": ["1",2,3]}', 422, "validation", "/embedding"),
    (b'{"embedding": [true,2,3]}', 422, "validation", "/embedding"),
    (b'{"embedding": []}', 422, "validation", "/embedding"),
    (b'{"embedding": null}', 422, "validation", "/embedding"),
    (b'{"embedding": "!!!"}', 422, "validation", "/embedding"),
    (b'{"embedding": "AAA="}', 422, "validation", "/embedding"),
    (b'{"content": "no embedding"}', 422, "model-mismatch", "/content"),
    (b'{"metadata": {"neither": 1}}', 422, "validation", "/embedding"),
    (b'{"embedding": null, "content": "x"}', 422, "validation", "/embedding"),
    (b'{"embedding": [1, 2, 3], "model": "m"}', 422, "model-mismatch", "/model"),
    (b'{"embedding": [1,2,3], "id": ""}', 422, "validation", "/id"),
    (b'{"embedding": [1,2,3], "id": "a/b"}', 422, "validation", "/id"),
    (b'{"embedding": [1,2,3], "id": "search"}', 422, "validation", "/id"),
    (b'{"embedding": [1,2,3], "id": "a\\u0000"}', 422, "validation", "/id"),
    (b'{"embedding": [1,2,3], "id": 5}', 422, "validation", "/id"),
    (b'{"embedding": [1,2,3], "content": "a\\u0000b"}', 422, "validation", "/content"),
    (b'{"embedding": [1,2,3], "content": 5}', 422, "validation", "/content"),
    (b'{"embedding": [1,2,3], "metadata": []}', 422, "validation", "/metadata"),
    (b'{"embedding": [1,2,3], "metadata": {"a": "\\u0000"}}', 422, "validation", "/metadata"),
    (b'{"embedding": [1,2,3], "metadata": {"\\u0000": 1}}', 422, "validation", "/metadata"),
    (b'{"embedding": [1,2,3], "metadata": {"a": 1e131071}}', 422, "validation", "/metadata"),
    (b'{"embedding": [1,2,3], "metadata": {"a": 9223372036854775808}}', 422, "validation", "/metadata"),
    (f'{{"embedding": [1,2,3], "metadata": {{"a": {DEEP}}}}}'.encode(), 422, "validation", "/metadata"),
    (b'{"embedding": [1,2,3], "unknown": 1}', 422, "validation", "/unknown"),
    (b'{"embedding": [1,2,3], "content": "' + b"x" * 262_145 + b'"}', 422, "validation", "/content"),
    (b'{"embedding": [1,2,3], "content": "' + b"\\u0001" * 200_000 + b'"}', 422, "validation", None),
    (b'{"embedding": [1,2,3], "metadata": {"a": "' + b"x" * 65_536 + b'"}}', 422, "validation", "/metadata"),
    (b'{"embedding": [1,2,3], "metadata": {"a": [' + b"1e308," * 300 + b"0]}}", 422, "validation", "/metadata"),
    (b"[]", 422, "validation", None),
    (b"", 422, "validation", None),
]


@pytest.mark.parametrize(("body", "status", "problem", "names"), REFUSED_BODIES, ids=lambda value: str(value)[:60])
async def test_bad_vector_is_refused_by_field_and_rule(
    service: httpx.AsyncClient, log: Log, body: bytes, status: int, problem: str, names: str | None
) -> None:
    vectors = f"{await _collection(service)}/vectors"
    head = await _head(log)
    answer = await service.post(vectors, content=body, headers={"Content-Type": "application/json"})
    document = answer.json()
    assert (answer.status_code, document["type"]) == (status, f"/problems/{problem}"), document
    assert answer.headers["content-type"] == "application/problem+json"
    assert document["request_id"] == answer.headers["x-request-id"]
    if names is not None:
        assert names in document["detail"]
    assert await _head(log) == head


@pytest.mark.parametrize(
    ("metric", "vector_type", "embedding", "problem"),
    [
        ("l2", "vector", [3e38, 3e38], "not-finite"),
        ("ip", "vector", [1e19, 1e19], "not-finite"),
        ("l2", "halfvec", [70_000, 1], "not-finite"),
        ("cosine", "halfvec", [-65_520, 1], "not-finite"),
        ("cosine", "halfvec", [1e-9, -1e-9], "zero-vector"),
        ("l2", "halfvec", [1e-9, 65_504], None),
        ("ip", "vector", [0, 0], None),
    ],
)
async def test_embedding_must_have_a_distance_in_its_kind_of_collection(
    service: httpx.AsyncClient, metric: str, vector_type: str, embedding: list[float], problem: str | None
) -> None:
    vectors = f"{await _collection(service, dimension=2, metric=metric, type=vector_type)}/vectors"
    answer = await service.post(vectors, json={"embedding": embedding})
    assert answer.json().get("type") == (problem and f"/problems/{problem}"), answer.text
    if problem:
        assert answer.json()["errors"][0]["pointer"] == "/embedding"


REFUSED_COLLECTIONS = [
    ({"name": "Upper"}, "/name"),
    ({"name": "a" * 64}, "/name"),
    ({"name": "a\n"}, "/name"),
    ({"name": ""}, "/name"),
    ({}, "/name"),
    ({"name": "x", "dimension": 0}, "/dimension"),
    ({"name": "x", "dimension": "3"}, "/dimension"),
    ({"name": "x", "dimension": 3.5}, "/dimension"),
    ({"name": "x", "dimension": 2001}, "dimension"),
    ({"name": "x", "dimension": 16001, "index": {"kind": "none"}}, "/dimension"),
    ({"name": "x", "metric": "manhattan"}, "/metric"),
    ({"name": "x", "index": {"kind": "hnsw", "m": 1}}, "/index/m"),
    ({"name": "x", "index": {"kind": "none", "m": 16}}, "/index"),
    ({"name": "x", "index": {"kind": "hnsw", "m": 64, "ef_construction": 64}}, "/index"),
    ({"name": "x", "surprise": True}, "/surprise"),
]


@pytest.mark.parametrize(("body", "names"), REFUSED_COLLECTIONS, ids=lambda value: str(value)[:60])
async def test_bad_collection_is_refused_by_field_and_rule(
    service: httpx.AsyncClient, body: dict[str, Any], names: str
) -> None:
    answer = await service.post(f"{API}/collections", json=body)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/validation")
    assert names in answer.json()["detail"]


async def test_other_refusals_have_their_problem(service: httpx.AsyncClient) -> None:
    collection = await _collection(service)
    vectors = f"{collection}/vectors"
    good = {"id": "a", "embedding": [1, 2, 3]}
    assert (await service.post(vectors, json=good)).status_code == 201
    cases = [
        (await service.post(vectors, json=good), 409, "vector-exists"),
        (await service.post(f"{API}/collections/none/vectors", json=good), 404, "collection-not-found"),
        (await service.post(f"{API}/collections/NONE/vectors", json=good), 422, "validation"),
        (await service.post(vectors, content=b"{}", headers={"Content-Type": "text/plain"}), 415,
         "unsupported-media-type"),
        (await service.post(vectors, content=b"x" * (33 * 1024 * 1024)), 413, "body-too-large"),
        (await service.get("/nowhere"), 404, "route-not-found"),
        (await service.put(f"{vectors}/%FF", json={"embedding": [1, 2, 3]}), 422, "validation"),
        (await service.put(f"{API}/collections", json={}), 405, "method-not-allowed"),
        (await service.put(f"{vectors}/search", json={"embedding": [1, 2, 3]}), 422, "validation"),
        (await service.delete(f"{vectors}/a", headers={"If-Match": "W/1"}), 422, "validation"),
        (await service.post(vectors, json=good, headers={"Idempotency-Key": "x" * 256}), 422, "validation"),
        (await service.patch(f"{vectors}/a", json={"embedding": None}), 422, "validation"),
        (await service.post(f"{vectors}/batch", json={"operations": []}), 422, "validation"),
        (await service.post(f"{vectors}/batch", json={"operations": [
            {"op": "delete", "id": "x"}, {"op": "delete", "id": "x"}]}), 422, "validation"),
        (await service.post(f"{vectors}/batch", json={"operations": [{"op": "nothing", "id": "x"}]}), 422,
         "validation"),
    ]  # fmt: skip
    for answer, status, problem in cases:
        assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{problem}"), answer.text


async def test_pointer_of_a_fault_in_a_batch_leads_to_the_field(service: httpx.AsyncClient) -> None:
    vectors = f"{await _collection(service)}/vectors"
    operations = [{"op": "delete", "id": "x"}, {"op": "upsert", "id": "y", "embedding": [1, "2", 3]}]
    answer = await service.post(f"{vectors}/batch", json={"operations": operations})
    assert answer.json()["errors"][0]["pointer"] == "/operations/1/embedding"
    twice = [{"op": "delete", "id": "x"}, {"op": "delete", "id": "x"}]
    answer = await service.post(f"{vectors}/batch", json={"operations": twice})
    assert answer.json()["errors"][0]["pointer"] == "/operations/1/id"
    answer = await service.patch(f"{vectors}/x", json={"embedding": None})
    assert answer.json()["errors"][0]["pointer"] == "/embedding"
    answer = await service.post(f"{vectors}/batch", json=[])
    assert answer.json()["errors"][0]["pointer"] == ""


async def test_bodies_of_many_requests_are_bounded_together_and_room_comes_back(databases: Databases) -> None:
    async with running_service(databases, max_bodies_bytes=3000) as service:
        answers = await asyncio.gather(*(slow_post(service, b"x" * 1000) for _ in range(5)))
        assert sorted({answer.status_code for answer in answers}) == [400, 503]
        refused = next(answer for answer in answers if answer.status_code == 503)
        assert (refused.json()["type"], refused.headers["retry-after"]) == ("/problems/overloaded", "1")
        assert (await slow_post(service, b"x" * 2000)).status_code == 400


async def slow_post(service: httpx.AsyncClient, body: bytes) -> httpx.Response:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 500):
            yield body[start : start + 500]
            await asyncio.sleep(0.05)

    return await service.post(f"{API}/collections", content=chunks(), headers={"Content-Type": "application/json"})
