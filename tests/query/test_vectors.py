"""Stored vectors and collections: one, all in pages, how many."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import httpx
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.query.read_model import ReadModel, Row

_ANY_FIXTURE = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
_POLLED = 0.03


async def test_a_vector_by_its_id(service: httpx.AsyncClient, read_model: ReadModel) -> None:
    collection_id = await read_model.create("single", 2)
    await read_model.put(collection_id, [Row("ü b", [0.5, 1.0], {"a": [1, {"b": None}]}, "text")])
    await asyncio.sleep(_POLLED)
    path = "/api/v1/collections/single/vectors/%C3%BC%20b"
    answer = await service.get(path)
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert answer.headers["etag"] == '"1"'
    assert document.keys() == {
        "id", "content", "metadata", "version", "created_at", "updated_at", "position", "expires_at", "collection",
        "freshness",
    }  # fmt: skip
    assert (document["id"], document["content"], document["metadata"]) == ("ü b", "text", {"a": [1, {"b": None}]})
    assert document["position"] == read_model.position
    with_embedding = (await service.get(path, params={"include": "embedding"})).json()
    assert with_embedding["embedding"] == [0.5, 1.0]
    assert "content" not in with_embedding


async def test_the_collection_default_has_routes_of_its_own(service: httpx.AsyncClient, read_model: ReadModel) -> None:
    absent = await service.get("/api/v1/vectors/a")
    assert (absent.status_code, absent.json()["type"]) == (404, "/problems/collection-not-found")
    await read_model.put(await read_model.create("default", 2), [Row("a", [0.5, 1.0])])
    await asyncio.sleep(_POLLED)
    assert (await service.get("/api/v1/vectors/a")).json()["id"] == "a"
    assert len((await service.get("/api/v1/vectors")).json()["items"]) == 1
    assert (await service.post("/api/v1/vectors/count", json={})).json()["count"] == 1
    hits = (await service.post("/api/v1/vectors/search", json={"embedding": [1, 1]})).json()["hits"]
    assert [hit["id"] for hit in hits] == ["a"]


_Change = tuple[bool, int]
_names = st.integers(0, 60)


@given(
    month_partitions=st.booleans(),
    start=st.sets(_names, min_size=1),
    limit=st.integers(1, 7),
    changes=st.lists(st.lists(st.tuples(st.booleans(), _names), max_size=4), max_size=12),
)
@settings(max_examples=15, deadline=None, suppress_health_check=_ANY_FIXTURE)
async def test_pages_neither_repeat_nor_skip_while_rows_come_and_go(
    service: httpx.AsyncClient,
    read_model: ReadModel,
    month_partitions: bool,
    start: set[int],
    limit: int,
    changes: list[list[_Change]],
) -> None:
    name = f"paged-{read_model.position}"
    collection_id = await read_model.create(name, 2, index="none", month_partitions=month_partitions)
    await read_model.put(collection_id, [Row(f"v{n:03}", [1.0, 1.0]) for n in sorted(start)])
    await asyncio.sleep(_POLLED)
    always, ever = set(start), set(start)
    pending = iter(changes)
    seen: list[str] = []
    parameters: dict[str, Any] = {"limit": limit}
    while True:
        answer = await service.get(f"/api/v1/collections/{name}/vectors", params=parameters)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        seen += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        parameters["cursor"] = page["next_cursor"]
        for inserts, number in next(pending, []):
            if inserts:
                await read_model.put(collection_id, [Row(f"v{number:03}", [1.0, 1.0])])
                ever.add(number)
            else:
                await read_model.delete(collection_id, [f"v{number:03}"])
                always.discard(number)
    assert seen == sorted(set(seen))
    assert {f"v{n:03}" for n in always} <= set(seen) <= {f"v{n:03}" for n in ever}


async def test_a_cursor_is_bound_to_its_list(service: httpx.AsyncClient, read_model: ReadModel) -> None:
    for name in ("list-a", "list-b"):
        collection_id = await read_model.create(name, 2)
        await read_model.put(collection_id, [Row("1", [1.0, 1.0]), Row("2", [1.0, 1.0])])
    await asyncio.sleep(_POLLED)
    page = (await service.get("/api/v1/collections/list-a/vectors", params={"limit": 1})).json()
    cursor = {"cursor": page["next_cursor"]}
    for path in ("/collections/list-b/vectors", "/collections"):
        answer = await service.get(f"/api/v1{path}", params=cursor)
        assert (answer.status_code, answer.json()["type"]) == (400, "/problems/malformed-cursor")
    broken = await service.get("/api/v1/collections/absent/vectors", params={"cursor": "rubbish", "limit": 0})
    assert (broken.status_code, broken.json()["type"]) == (400, "/problems/malformed-cursor")


async def test_collections_are_listed_in_pages_for_their_tenant_only(
    service: httpx.AsyncClient, read_model: ReadModel
) -> None:
    for name in ("zz-1", "zz-2", "zz-3"):
        await read_model.create(name, 2, metric="l2", index="none")
    await read_model.create("zz-4", 2, tenant="other")
    await asyncio.sleep(_POLLED)
    names: list[str] = []
    parameters: dict[str, Any] = {"limit": 2}
    while True:
        page = (await service.get("/api/v1/collections", params=parameters)).json()
        names += [item["name"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        parameters["cursor"] = page["next_cursor"]
    assert names == sorted(names)
    assert {"zz-1", "zz-2", "zz-3"} <= set(names)
    assert "zz-4" not in names
    one = await service.get("/api/v1/collections/zz-1")
    assert one.headers["etag"] == '"1"'
    assert one.json()["dimension"] == 2
    assert (one.json()["metric"], one.json()["index"]["kind"]) == ("l2", "none")
    assert (await service.get("/api/v1/collections/zz-4")).status_code == 404


_scalars = st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from([0.5, 1.0, -2.0, "", "a", "1", "é"]))
_values = st.one_of(_scalars, st.lists(_scalars, max_size=3))
_fields = st.sampled_from(["a", "b", "c"])
_metadata = st.dictionaries(_fields, st.one_of(_values, st.dictionaries(_fields, _values, max_size=2)), max_size=3)
_filters = st.dictionaries(
    st.one_of(_fields, st.tuples(_fields, _fields).map(".".join)),
    st.one_of(_scalars, _scalars.map(lambda value: {"$eq": value})),
    max_size=3,
)


def _same(left: Any, right: Any) -> bool:
    """JSON equality: true is not 1, but 1 is 1.0."""
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


def _matches(metadata: Mapping[str, Any], document: Mapping[str, Any]) -> bool:
    return all(_holds(metadata, name.split("."), value) for name, value in document.items())


def _holds(metadata: Any, path: list[str], value: Any) -> bool:
    wanted = value["$eq"] if isinstance(value, dict) else value
    for name in path:
        if not isinstance(metadata, dict) or name not in metadata:
            return wanted is None
        metadata = metadata[name]
    if isinstance(metadata, list):
        return any(_same(item, wanted) for item in metadata)
    return _same(metadata, wanted)


@given(rows=st.lists(_metadata, min_size=1, max_size=12), filters=st.lists(_filters, min_size=1, max_size=6))
@settings(max_examples=30, deadline=None, suppress_health_check=_ANY_FIXTURE)
async def test_a_filter_means_what_a_plain_evaluation_means(
    service: httpx.AsyncClient,
    read_model: ReadModel,
    filtered: UUID,
    rows: list[dict[str, Any]],
    filters: list[dict[str, Any]],
) -> None:
    await read_model.delete(filtered, [f"r{n:02}" for n in range(12)])
    await read_model.put(filtered, [Row(f"r{n:02}", [1.0, 1.0], metadata) for n, metadata in enumerate(rows)])
    for document in filters:
        expected = [f"r{n:02}" for n, metadata in enumerate(rows) if _matches(metadata, document)]
        path = "/api/v1/collections/filtered/vectors"
        counted = (await service.post(f"{path}/count", json={"filter": document, "max_staleness_ms": 0})).json()
        assert (counted["count"], counted["exact"]) == (len(expected), True)
        body = {"embedding": [1, 1], "k": 12, "filter": document, "max_staleness_ms": 0}
        hits = (await service.post(f"{path}/search", json=body)).json()["hits"]
        assert [hit["id"] for hit in hits] == expected


@pytest_asyncio.fixture
async def filtered(service: httpx.AsyncClient, read_model: ReadModel) -> UUID:
    collection_id = await read_model.create("filtered", 2)
    await asyncio.sleep(_POLLED)
    return collection_id
