"""NDJSON imports over HTTP: every good line once, every bad one named, however the bytes arrive."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any
from uuid import uuid4, uuid5

import asyncpg
import httpx
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from command_service.importing import MAX_LINE_BYTES
from tests.command.conftest import running_service
from tests.servers import Databases

_API = "/api/v1/collections"

Log = asyncpg.Connection


async def _collection(service: httpx.AsyncClient) -> tuple[str, str]:
    """The path of its vectors, and its id."""
    name = f"imported-{uuid4().hex[:12]}"
    created = await service.post(_API, json={"name": name, "dimension": 3})
    return f"{_API}/{name}/vectors", created.json()["collection_id"]


async def _import(
    service: httpx.AsyncClient, vectors: str, body: bytes | AsyncIterator[bytes], **parameters: str
) -> httpx.Response:
    headers = {"Content-Type": "application/x-ndjson"}
    return await service.post(f"{vectors}/import", content=body, params=parameters, headers=headers)


async def _ids(log: Log, collection_id: str) -> list[str]:
    rows = await log.fetch(
        "SELECT event_data ->> 'id' AS id FROM events WHERE collection_id = $1 AND aggregate_type = 'vector'"
        " ORDER BY position",
        collection_id,
    )
    return [row["id"] for row in rows]


def _line(vector_id: str | None, **changes: Any) -> bytes:
    document = {"embedding": [1, 2, 3], **({} if vector_id is None else {"id": vector_id}), **changes}
    return orjson.dumps(document) + b"\n"


async def test_every_line_is_written_in_order_and_the_same_file_again_appends_nothing(
    service: httpx.AsyncClient, log: Log
) -> None:
    vectors, collection_id = await _collection(service)
    names = [f"v{number:05}" for number in range(1_700)]
    body = b"".join(_line(name, content="x" * 300) for name in names)
    first = (await _import(service, vectors, body)).json()
    assert {name: first[name] for name in ("lines", "created", "updated", "unchanged", "failed", "stopped_at")} == {
        "lines": 1_700, "created": 1_700, "updated": 0, "unchanged": 0, "failed": 0, "stopped_at": None,
    }  # fmt: skip
    assert first["consistency_token"]
    assert await _ids(log, collection_id) == names
    again = (await _import(service, vectors, body)).json()
    assert (again["created"], again["unchanged"]) == (0, 1_700)
    assert await _ids(log, collection_id) == names


_BAD: dict[str, tuple[bytes, str, str]] = {
    "no json": (b'{"id": "x", \n', "", "malformed-json"),
    "no object": (b"[1, 2]\n", "", "validation"),
    "a key twice": (b'{"id": "x", "id": "y", "embedding": [1, 2, 3]}\n', "", "malformed-json"),
    "an unknown field": (_line("x", colour="red"), "/colour", "extra-forbidden"),
    "an operation": (_line("x", op="delete"), "/op", "extra-forbidden"),
    "no id": (_line(None), "/id", "missing"),
    "an invalid id": (_line("a/b"), "/id", "vector-id"),
    "another dimension": (_line("x", embedding=[1, 2]), "/embedding", "dimension-mismatch"),
    "no number": (_line("x", embedding=[1, "2", 3]), "/embedding", "embedding-type"),
    "a zero vector": (_line("x", embedding=[0, 0, 0]), "/embedding", "zero-vector"),
    "too long": (_line("x", content="y" * (MAX_LINE_BYTES + 1)), "", "line-too-long"),
    "no text": (b'{"id": "\xff", "embedding": [1, 2, 3]}\n', "", "malformed-json"),
}


@pytest.mark.parametrize("what", _BAD)
async def test_a_bad_line_is_named_and_the_rest_goes_on_or_nothing_behind_it_is_written(
    service: httpx.AsyncClient, log: Log, what: str
) -> None:
    bad, pointer, kind = _BAD[what]
    vectors, collection_id = await _collection(service)
    body = _line("a") + b"\n" + bad + _line("b")
    answer = (await _import(service, vectors, body)).json()
    assert (answer["lines"], answer["created"], answer["failed"]) == (4, 2, 1)
    [error] = answer["errors"]
    assert (error["line"], error["pointer"], error["type"]) == (3, pointer, kind)
    assert await _ids(log, collection_id) == ["a", "b"]

    vectors, collection_id = await _collection(service)
    answer = (await _import(service, vectors, body, on_error="stop")).json()
    assert (answer["lines"], answer["created"], answer["failed"], answer["stopped_at"]) == (3, 1, 1, 3)
    assert await _ids(log, collection_id) == ["a"]


async def test_lines_without_ids_get_the_same_ones_each_time(service: httpx.AsyncClient, log: Log) -> None:
    vectors, collection_id = await _collection(service)
    import_id = uuid4()
    body = _line(None) + _line("named") + _line(None)
    for created in (3, 0):
        answer = (await _import(service, vectors, body, import_id=str(import_id))).json()
        assert (answer["created"], answer["failed"]) == (created, 0)
    assert await _ids(log, collection_id) == [str(uuid5(import_id, "1")), "named", str(uuid5(import_id, "3"))]


@given(cuts=st.lists(st.integers(0, 400), max_size=8), ends_with_newline=st.booleans(), packed=st.booleans())
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_lines_are_found_however_the_bytes_are_cut(
    service: httpx.AsyncClient, log: Log, cuts: list[int], ends_with_newline: bool, packed: bool
) -> None:
    vectors, collection_id = await _collection(service)
    names = [f"ü{number}" for number in range(5)]
    body = b"\r\n".join(_line(name).strip() for name in names) + (b"\n" if ends_with_newline else b"")
    body = gzip.compress(body) if packed else body
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]

    async def pieces() -> AsyncIterator[bytes]:
        for start, end in pairwise(edges):
            yield body[start:end]

    headers = {"Content-Type": "application/x-ndjson", **({"Content-Encoding": "gzip"} if packed else {})}
    answer = await service.post(f"{vectors}/import", content=pieces(), headers=headers)
    assert answer.json()["created"] == 5, answer.text
    assert await _ids(log, collection_id) == names


async def test_an_import_larger_than_any_body_and_longer_than_any_request_goes_through(databases: Databases) -> None:
    async with running_service(databases, max_body_bytes=64 * 1024, request_timeout_seconds=1) as service:
        vectors, _ = await _collection(service)

        async def pieces() -> AsyncIterator[bytes]:
            for number in range(12):
                yield b"".join(_line(f"v{number}-{n}", content="x" * 1_000) for n in range(100))
                await asyncio.sleep(0.15)

        answer = await _import(service, vectors, pieces())
        assert answer.json()["created"] == 1_200, answer.text
        large = await service.post(
            f"{vectors}/batch", content=b"x" * (65 * 1024), headers={"Content-Type": "application/json"}
        )
        assert large.status_code == 413


async def test_other_types_keys_and_collections_are_refused(service: httpx.AsyncClient) -> None:
    vectors, _ = await _collection(service)
    wrong = await service.post(f"{vectors}/import", content=_line("a"), headers={"Content-Type": "application/json"})
    assert (wrong.status_code, wrong.json()["type"]) == (415, "/problems/unsupported-media-type")
    key = await service.post(
        f"{vectors}/import", content=_line("a"),
        headers={"Content-Type": "application/x-ndjson", "Idempotency-Key": "k"},
    )  # fmt: skip
    assert (key.status_code, key.json()["errors"][0]["pointer"]) == (422, "Idempotency-Key")
    nowhere = await _import(service, f"{_API}/never-was/vectors", _line("a"))
    assert (nowhere.status_code, nowhere.json()["type"]) == (404, "/problems/collection-not-found")
    for parameters, pointer in (
        ({"on_error": "ask"}, "on_error"),
        ({"import_id": "x"}, "import_id"),
        ({"a": "b"}, "a"),
    ):
        refused = await _import(service, vectors, _line("a"), **parameters)
        assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, pointer)
    empty = (await _import(service, vectors, b"\n\n")).json()
    assert (empty["lines"], empty["created"], empty["consistency_token"]) == (0, 0, None)
