"""What is wrong in the same way at both services is refused in the same way, and nothing is written."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from typing import Any

import httpx
import pytest

from tests.contract.documents import DOCUMENTS
from tests.contract.running import PLAIN, Running

JSON = {"Content-Type": "application/json"}
DEEP = "[" * 500
DIGITS = "9" * 400

UNREADABLE = {
    "not JSON": (b"{", JSON, 400, "malformed-json", None),
    "bytes that are no text": (b"\xff", JSON, 400, "malformed-json", None),
    "more behind the end": (b"{} {}", JSON, 400, "malformed-json", None),
    "a key twice": (b'{"a": 1, "a": 2}', JSON, 400, "malformed-json", None),
    "NaN": (b'{"a": NaN}', JSON, 400, "malformed-json", None),
    "infinity": (b'{"a": -Infinity}', JSON, 400, "malformed-json", None),
    "half a surrogate pair": (b'{"a": "\\ud800"}', JSON, 400, "malformed-json", None),
    "deep nesting": (DEEP.encode(), JSON, 400, "malformed-json", None),
    "an array": (b"[]", JSON, 422, "validation", ""),
    "nothing": (b"", JSON, 422, "validation", ""),
    "an unknown field": (b'{"surprise": 1}', JSON, 422, "validation", "/surprise"),
    "text": (b"{}", {"Content-Type": "text/plain"}, 415, "unsupported-media-type", None),
    "an unknown packing": (b"{}", {**JSON, "Content-Encoding": "br"}, 415, "unsupported-media-type", None),
}

EMBEDDINGS = {
    "too short": ("[1, 2]", "dimension-mismatch"),
    "too long": ('"AACAPwAAAEAAAEBAAACAQA=="', "dimension-mismatch"),
    "zero under cosine": ("[0, 0, 0]", "zero-vector"),
    "beyond 32 bits": ("[1e39, 2, 3]", "not-finite"),
    "beyond 64 bits": ("[1e400, 2, 3]", "not-finite"),
    "a huge integer": (f"[{DIGITS}, 2, 3]", "not-finite"),
    "infinity in base64": ('"AACAfwAAAEAAAEBA"', "not-finite"),
    "too far from everything": ("[1e30, 1e30, 3]", "not-finite"),
    "strings for numbers": ('["1", 2, 3]', "validation"),
    "a boolean": ("[true, 2, 3]", "validation"),
    "nested": ("[[1], 2, 3]", "validation"),
    "empty": ("[]", "validation"),
    "null": ("null", "validation"),
    "no base64": ('"!!!!"', "validation"),
    "half a number in base64": ('"AAA="', "validation"),
}

PATHS = {
    "an invalid name": ("/api/v1/collections/Plain/vectors/a", 422, "validation", "name"),
    "an invalid id": ("/api/v1/collections/plain/vectors/a%00b", 422, "validation", "id"),
    "a reserved id": ("/api/v1/collections/plain/vectors/batch", 422, "validation", "id"),
    "an id that is no text": ("/api/v1/collections/plain/vectors/%FF", 422, "validation", "path"),
    "an id that is too long": (f"/api/v1/collections/plain/vectors/{'x' * 256}", 422, "validation", "id"),
    "an unknown collection": ("/api/v1/collections/absent/vectors/a", 404, "collection-not-found", None),
    "an unknown vector": ("/api/v1/collections/plain/vectors/absent", 404, "vector-not-found", None),
    "no route": ("/api/v1/nowhere", 404, "route-not-found", None),
}


def routes_with_a_body() -> Iterator[Any]:
    """Those that take a JSON document; an import takes lines, and says of each what is wrong with it."""
    for service, document in DOCUMENTS.items():
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                if "application/json" in operation.get("requestBody", {}).get("content", {}):
                    filled = path.replace("{name}", PLAIN).replace("{id}", "a")
                    yield pytest.param(service, method.upper(), filled, id=f"{service} {method.upper()} {path}")


ROUTES = list(routes_with_a_body())
EMBEDDING_ROUTES = [
    ("command_service", "POST", "/api/v1/collections/plain/vectors"),
    ("command_service", "PUT", "/api/v1/collections/plain/vectors/a"),
    ("command_service", "PATCH", "/api/v1/collections/plain/vectors/a"),
    ("query_service", "POST", "/api/v1/collections/plain/vectors/search"),
]


async def assert_refused(
    running: Running, answering: Awaitable[httpx.Response], status: int, problem: str, pointer: str | None
) -> None:
    head = await running.log.fetchval("SELECT max(position) FROM events")
    answer = await answering
    document = answer.json()
    assert (answer.status_code, document["type"]) == (status, f"/problems/{problem}"), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert document["request_id"] == answer.headers["x-request-id"]
    assert document["detail"]
    if pointer is not None:
        assert pointer in [error["pointer"] for error in document["errors"]], answer.text
    assert await running.log.fetchval("SELECT max(position) FROM events") == head, "something was written"


@pytest.mark.parametrize("fault", UNREADABLE)
@pytest.mark.parametrize(("service", "method", "path"), ROUTES)
async def test_body_that_cannot_be_read_is_refused(
    running: Running, service: str, method: str, path: str, fault: str
) -> None:
    body, headers, status, problem, pointer = UNREADABLE[fault]
    answering = running.clients[service].request(method, path, content=body, headers=headers)
    await assert_refused(running, answering, status, problem, pointer)


@pytest.mark.parametrize("fault", EMBEDDINGS)
@pytest.mark.parametrize(("service", "method", "path"), EMBEDDING_ROUTES)
async def test_embedding_that_is_none_is_refused(
    running: Running, service: str, method: str, path: str, fault: str
) -> None:
    embedding, problem = EMBEDDINGS[fault]
    body = f'{{"embedding": {embedding}}}'
    answering = running.clients[service].request(method, path, content=body, headers=JSON)
    await assert_refused(running, answering, 422, problem, "/embedding")


@pytest.mark.parametrize("fault", PATHS)
@pytest.mark.parametrize(("service", "method"), [("command_service", "DELETE"), ("query_service", "GET")])
async def test_path_that_leads_nowhere_is_refused(running: Running, service: str, method: str, fault: str) -> None:
    path, status, problem, pointer = PATHS[fault]
    answering = running.clients[service].request(method, path)
    await assert_refused(running, answering, status, problem, pointer)


@pytest.mark.parametrize(("service", "method", "path"), EMBEDDING_ROUTES)
async def test_body_over_the_limit_is_refused(running: Running, service: str, method: str, path: str) -> None:
    body = b" " * (32 * 1024 * 1024 + 1)
    answering = running.clients[service].request(method, path, content=body, headers=JSON)
    await assert_refused(running, answering, 413, "body-too-large", None)


QUERIES = {
    "k too large": ('{"embedding": [1, 2, 3], "k": 1001}', "validation", "/k"),
    "k too small": ('{"embedding": [1, 2, 3], "k": 0}', "validation", "/k"),
    "a huge k": (f'{{"embedding": [1, 2, 3], "k": {DIGITS}}}', "validation", "/k"),
    "a string for k": ('{"embedding": [1, 2, 3], "k": "10"}', "validation", "/k"),
    "NUL in a filter's value": ('{"embedding": [1, 2, 3], "filter": {"a": "\\u0000"}}', "invalid-filter", "/filter/a"),
    "NUL in a filter's field": (
        '{"embedding": [1, 2, 3], "filter": {"\\u0000": 1}}', "invalid-filter", "/filter/\x00"
    ),
    "a huge number in a filter": (
        f'{{"embedding": [1, 2, 3], "filter": {{"a": {DIGITS}}}}}', "invalid-filter", "/filter/a"
    ),
    "a filter nested too deeply": (
        '{"embedding": [1, 2, 3], "filter": {"a.b.c.d.e.f.g.h.i": 1}}', "invalid-filter", "/filter/a.b.c.d.e.f.g.h.i"
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", QUERIES)
async def test_search_that_breaks_a_rule_is_refused(running: Running, fault: str) -> None:
    body, problem, pointer = QUERIES[fault]
    path = "/api/v1/collections/plain/vectors/search"
    answering = running.clients["query_service"].post(path, content=body, headers=JSON)
    await assert_refused(running, answering, 422, problem, pointer)
