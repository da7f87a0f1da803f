"""Every refusal that a read can meet."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.query.read_model import ReadModel

_SEARCH = "/api/v1/collections/plain/vectors/search"


@pytest_asyncio.fixture(scope="module", autouse=True)
async def _plain(read_model: ReadModel) -> None:
    await read_model.create("plain", 2)
    await read_model.create("half", 2, metric="l2", vector_type="halfvec")


@pytest.mark.parametrize(
    ("body", "name", "pointer"),
    [
        ({}, "validation", "/embedding"),
        ({"embedding": [1, 2], "id": "a"}, "validation", "/id"),
        ({"query": "text"}, "model-mismatch", "/query"),
        ({"query": " "}, "validation", "/query"),
        ({"query": "a\u0000"}, "validation", "/query"),
        ({"query": "x" * 40_000}, "validation", "/query"),
        ({"query": "text", "embedding": [1, 2]}, "validation", "/query"),
        ({"embedding": [1, 2], "model": "other"}, "model-mismatch", "/model"),
        ({"embedding": [1, 2], "k": 0}, "validation", "/k"),
        ({"embedding": [1, 2], "k": 1001}, "validation", "/k"),
        ({"embedding": [1, 2], "k": "5"}, "validation", "/k"),
        ({"embedding": [1, 2], "k": True}, "validation", "/k"),
        ({"embedding": [1, 2], "ef_search": 1001}, "validation", "/ef_search"),
        ({"embedding": [1, 2], "min_score": False}, "validation", "/min_score"),
        ({"embedding": [1, 2], "exact": 1}, "validation", "/exact"),
        ({"embedding": [1, 2], "include": ["vector"]}, "validation", "/include/0"),
        ({"embedding": [1, 2], "timeout_ms": 30001}, "validation", "/timeout_ms"),
        ({"embedding": [1, 2], "explain": 1}, "validation", "/explain"),
        ({"embedding": [1, "2"]}, "validation", "/embedding"),
        ({"embedding": [True, 2]}, "validation", "/embedding"),
        ({"embedding": "AAA"}, "validation", "/embedding"),
        ({"embedding": [1, 1e39]}, "not-finite", "/embedding"),
        ({"embedding": [1e30, 1e30]}, "not-finite", "/embedding"),
        ({"embedding": [0, 0]}, "zero-vector", "/embedding"),
        ({"embedding": [1, 2, 3]}, "dimension-mismatch", "/embedding"),
        ({"embedding": [1, 2], "filter": []}, "invalid-filter", "/filter"),
        ({"embedding": [1, 2], "filter": {"a": {"$near": 1}}}, "invalid-filter", "/filter/a/$near"),
    ],
)
async def test_a_search_that_breaks_a_rule_names_the_field(
    service: httpx.AsyncClient, body: dict[str, Any], name: str, pointer: str
) -> None:
    answer = await service.post(_SEARCH, json=body)
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (422, f"/problems/{name}"), answer.text
    assert problem["errors"][0]["pointer"] == pointer
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_dimension_mismatch_names_both_dimensions(service: httpx.AsyncClient) -> None:
    problem = (await service.post(_SEARCH, json={"embedding": [1, 2, 3]})).json()
    assert (problem["expected"], problem["got"]) == (2, 3)


async def test_a_number_beyond_half_precision_is_not_finite_in_a_halfvec_collection(
    service: httpx.AsyncClient,
) -> None:
    answer = await service.post("/api/v1/collections/half/vectors/search", json={"embedding": [70000, 0]})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/not-finite")


@pytest.mark.parametrize(
    ("path", "status", "name"),
    [
        ("/api/v1/collections/absent", 404, "collection-not-found"),
        ("/api/v1/collections/absent/vectors", 404, "collection-not-found"),
        ("/api/v1/collections/absent/vectors/a", 404, "collection-not-found"),
        ("/api/v1/collections/plain/vectors/a", 404, "vector-not-found"),
        ("/api/v1/collections/Plain", 422, "validation"),
        ("/api/v1/collections/plain/vectors/search", 422, "validation"),
        ("/api/v1/collections/plain/vectors/a%00b", 422, "validation"),
        ("/api/v1/collections/plain/vectors?limit=1001", 422, "validation"),
        ("/api/v1/collections/plain/vectors?limt=1", 422, "validation"),
        ("/api/v1/collections?limit=x", 422, "validation"),
        ("/api/v1/nowhere", 404, "route-not-found"),
    ],
)
async def test_a_get_that_cannot_be_answered(service: httpx.AsyncClient, path: str, status: int, name: str) -> None:
    answer = await service.get(path)
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{name}"), answer.text


@pytest.mark.parametrize(
    ("content", "media_type", "status", "name"),
    [
        (b'{"embedding": [1, 2], "k": 1, "k": 2}', "application/json", 400, "malformed-json"),
        (b'{"embedding": [NaN, 2]}', "application/json", 400, "malformed-json"),
        (b"{", "application/json", 400, "malformed-json"),
        (b"{}", "text/plain", 415, "unsupported-media-type"),
        (b" " * (32 * 1024 * 1024 + 1), "application/json", 413, "body-too-large"),
    ],
)
async def test_a_body_that_cannot_be_read(
    service: httpx.AsyncClient, content: bytes, media_type: str, status: int, name: str
) -> None:
    answer = await service.post(_SEARCH, content=content, headers={"Content-Type": media_type})
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{name}")


async def test_a_method_that_a_route_does_not_have(service: httpx.AsyncClient) -> None:
    answer = await service.put(_SEARCH, json={})
    assert (answer.status_code, answer.json()["type"]) == (405, "/problems/method-not-allowed")


async def test_an_invalid_search_in_an_unknown_collection_is_invalid_first(service: httpx.AsyncClient) -> None:
    path = "/api/v1/collections/absent/vectors/search"
    for body in ({"embedding": [1], "k": 0}, {"embedding": [1], "filter": {"$x": 1}}):
        assert (await service.post(path, json=body)).status_code == 422
    assert (await service.post(path, json={"embedding": [1]})).status_code == 404
