"""Changes of what a collection is: its metric, type, index and partitions."""

from __future__ import annotations

from itertools import count
from typing import Any, TypeAlias

import asyncpg
import httpx
import orjson
import pytest

from tests.command.conftest import running_service
from tests.servers import Databases

Log: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

API = "/api/v1/collections"

_numbers = count()


async def _create(service: httpx.AsyncClient, name: str, **fields: Any) -> str:
    answer = await service.post(API, json={"name": name, "dimension": 3, **fields})
    assert answer.status_code == 201, answer.text
    return f"{API}/{name}"


async def _last_event(log: Log) -> tuple[str, dict[str, Any]]:
    row = await log.fetchrow("SELECT event_type, event_data FROM events ORDER BY position DESC LIMIT 1")
    assert row is not None
    return row["event_type"], orjson.loads(row["event_data"])


async def test_a_change_is_one_event_with_whole_new_values_of_what_changed(
    service: httpx.AsyncClient, log: Log
) -> None:
    collection = await _create(service, "changed", metric="l2", index={"kind": "hnsw", "m": 8, "ef_construction": 20})
    body = {"metric": "ip", "type": "vector", "index": {"kind": "hnsw", "m": 32}}
    changed = (await service.patch(collection, json=body)).json()
    index = {"kind": "hnsw", "m": 32, "ef_construction": 64, "lists": None}
    assert (changed["metric"], changed["index"], changed["version"]) == ("ip", index, 2)
    assert await _last_event(log) == ("CollectionUpdated", {"metric": "ip", "index": index})
    again = (await service.patch(collection, json=body)).json()
    assert (again["version"], again["position"]) == (2, changed["position"])


async def test_partitions_by_month_are_asked_for_switched_on_and_off_and_brought_back(
    service: httpx.AsyncClient, log: Log
) -> None:
    plain = await _create(service, "plain")
    assert "month_partitions" not in (await _last_event(log))[1]  # older software can read it
    switched_on = (await service.patch(plain, json={"month_partitions": True})).json()
    assert (switched_on["month_partitions"], switched_on["version"]) == (True, 2)
    assert await _last_event(log) == ("CollectionUpdated", {"month_partitions": True})
    assert (await service.patch(plain, json={"month_partitions": True})).json()["version"] == 2
    assert (await service.patch(plain, json={"month_partitions": False})).json()["month_partitions"] is False
    dated = await _create(service, "dated", month_partitions=True)
    assert (await _last_event(log))[1]["month_partitions"] is True
    deleted = (await service.delete(dated)).json()
    assert deleted["month_partitions"] is True
    await service.post(f"{dated}/restore", json={"collection_id": deleted["collection_id"]})
    assert (await _last_event(log))[1]["month_partitions"] is True


async def test_indexes_over_metadata_are_declared_changed_dropped_and_brought_back(
    service: httpx.AsyncClient, log: Log
) -> None:
    price, name = {"field": "price", "type": "number"}, {"field": "author.name", "type": "string"}
    plain = await _create(service, "without")
    assert "metadata_indexes" not in (await _last_event(log))[1]  # older software can read it
    assert (await service.patch(plain, json={"metadata_indexes": [price]})).json()["metadata_indexes"] == [price]
    indexed = await _create(service, "with", metadata_indexes=[price, name])
    assert (await _last_event(log))[1]["metadata_indexes"] == [name, price]
    again = (await service.patch(indexed, json={"metadata_indexes": [name, price]})).json()
    assert (again["version"], again["metadata_indexes"]) == (1, [name, price])
    deleted = (await service.delete(indexed)).json()
    await service.post(f"{indexed}/restore", json={"collection_id": deleted["collection_id"]})
    assert (await _last_event(log))[1]["metadata_indexes"] == [name, price]
    assert (await service.patch(indexed, json={"metadata_indexes": []})).json()["metadata_indexes"] == []
    assert await _last_event(log) == ("CollectionUpdated", {"metadata_indexes": []})


def _indexes(*fields: Any) -> dict[str, Any]:
    return {"metadata_indexes": [{"field": field, "type": "number"} for field in fields]}


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (_indexes("price", ""), "/metadata_indexes/1/field"),
        (_indexes("a..b"), "/metadata_indexes/0/field"),
        (_indexes("$id"), "/metadata_indexes/0/field"),
        (_indexes("a\\b"), "/metadata_indexes/0/field"),
        (_indexes("a\0"), "/metadata_indexes/0/field"),
        (_indexes("a.b.c.d.e.f.g.h.i"), "/metadata_indexes/0/field"),
        (_indexes("x" * 256), "/metadata_indexes/0/field"),
        (_indexes("a", "b", "a"), "/metadata_indexes/2/field"),
        (_indexes("a$b", "a\\$b"), "/metadata_indexes/1/field"),
        (_indexes(*map(str, range(17))), "/metadata_indexes"),
        ({"metadata_indexes": [{"field": "a", "type": "text"}]}, "/metadata_indexes/0/type"),
        ({"metadata_indexes": [{"field": "a"}]}, "/metadata_indexes/0/type"),
        ({"metadata_indexes": None}, "/metadata_indexes"),
    ],
)
async def test_a_bad_index_over_metadata_is_refused_by_field_at_creation_and_by_patch(
    service: httpx.AsyncClient, body: dict[str, Any], pointer: str
) -> None:
    collection = await _create(service, f"unindexed-{next(_numbers)}")
    for answer in (
        await service.patch(collection, json=body),
        await service.post(API, json={"name": "refused", "dimension": 3, **body}),
    ):
        assert (answer.status_code, answer.json()["type"]) == (422, "/problems/validation"), answer.text
        assert answer.json()["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"metric": None}, "/metric"),
        ({"type": None}, "/type"),
        ({"index": None}, "/index"),
        ({"month_partitions": None}, "/month_partitions"),
        ({"month_partitions": "yes"}, "/month_partitions"),
        ({"metric": "manhattan"}, "/metric"),
        ({"index": {"kind": "ivfflat", "m": 3}}, "/index"),
        ({"dimension": 4}, "/dimension"),
    ],
)
async def test_a_bad_change_is_refused_by_field(service: httpx.AsyncClient, body: dict[str, Any], pointer: str) -> None:
    collection = await _create(service, f"bad-{next(_numbers)}")
    answer = await service.patch(collection, json=body)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/validation")
    assert answer.json()["errors"][0]["pointer"].startswith(pointer)


@pytest.mark.parametrize(
    ("created", "body", "pointer"),
    [
        ({"dimension": 3_000, "index": {"kind": "none"}}, {"index": {"kind": "ivfflat"}}, "/index"),
        ({"dimension": 3_000, "type": "halfvec"}, {"type": "vector"}, "/type"),
        ({"dimension": 4_001, "index": {"kind": "none"}}, {"type": "halfvec", "index": {}}, "/index"),
    ],
)
async def test_a_change_to_an_index_that_cannot_hold_the_dimension_is_refused(
    service: httpx.AsyncClient, created: dict[str, Any], body: dict[str, Any], pointer: str
) -> None:
    collection = await _create(service, f"wide-{created['dimension']}{pointer[1:]}", **created)
    answer = await service.patch(collection, json=body)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/validation")
    assert answer.json()["errors"][0]["pointer"] == pointer


async def test_a_change_of_type_and_index_together_is_judged_as_a_whole(service: httpx.AsyncClient) -> None:
    collection = await _create(service, "whole", dimension=3_000, index={"kind": "none"})
    answer = await service.patch(collection, json={"type": "halfvec", "index": {"kind": "hnsw"}})
    assert answer.status_code == 200, answer.text


async def test_a_service_that_has_not_heard_of_a_change_holds_embeddings_against_it_all_the_same(
    service: httpx.AsyncClient, databases: Databases
) -> None:
    collection = await _create(service, "heard", metric="l2", type="vector")
    zero, large, plain = [0, 0, 0], [100_000, 0, 0], [1, 2, 3]
    async with running_service(databases) as other:
        assert (await other.put(f"{collection}/vectors/a", json={"embedding": plain})).status_code == 201
        await service.patch(collection, json={"metric": "cosine"})
        refused = await other.put(f"{collection}/vectors/b", json={"embedding": zero})
        assert (refused.status_code, refused.json()["type"]) == (422, "/problems/zero-vector")
        await service.patch(collection, json={"type": "halfvec"})
        operations = [{"op": "upsert", "id": "c", "embedding": plain}, {"op": "upsert", "id": "d", "embedding": large}]
        refused = await other.post(f"{collection}/vectors/batch", json={"operations": operations})
        assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/operations/1/embedding")
        await service.patch(collection, json={"type": "vector"})
        await service.patch(collection, json={"type": "halfvec"})
        await service.patch(collection, json={"metric": "ip"})
        assert (await other.patch(f"{collection}/vectors/a", json={"embedding": zero})).status_code == 200
        assert (await other.post(f"{collection}/vectors", json={"embedding": plain})).status_code == 201


async def test_an_import_by_a_service_that_has_not_heard_of_a_change_is_judged_by_what_the_collection_is(
    service: httpx.AsyncClient, databases: Databases
) -> None:
    collection = await _create(service, "imported", metric="cosine")
    zero = [b'{"id": "a", "embedding": [1, 2, 3]}', b'{"id": "b", "embedding": [0, 0, 0]}']

    async def imported(client: httpx.AsyncClient) -> dict[str, Any]:
        answer = await client.post(
            f"{collection}/vectors/import", content=b"\n".join(zero), headers={"Content-Type": "application/x-ndjson"}
        )
        assert answer.status_code == 200, answer.text
        report: dict[str, Any] = answer.json()
        return report

    async with running_service(databases) as other:
        assert (await other.put(f"{collection}/vectors/known", json={"embedding": [1, 2, 3]})).status_code == 201
        await service.patch(collection, json={"metric": "ip"})
        assert (await imported(other))["failed"] == 0
        await service.patch(collection, json={"metric": "cosine"})
        assert (await imported(other))["failed"] == 1


async def test_what_has_no_place_any_more_does_not_come_back(service: httpx.AsyncClient) -> None:
    collection = await _create(service, "restored", metric="l2")
    await service.put(f"{collection}/vectors/a", json={"embedding": [0, 0, 0]})
    await service.put(f"{collection}/vectors/a", json={"embedding": [1, 2, 3]})
    await service.patch(collection, json={"metric": "cosine"})
    refused = await service.post(f"{collection}/vectors/a/restore", json={"version": 1})
    assert (refused.status_code, refused.json()["type"]) == (422, "/problems/zero-vector")
    await service.patch(collection, json={"metric": "l2"})
    assert (await service.post(f"{collection}/vectors/a/restore", json={"version": 1})).status_code == 200
