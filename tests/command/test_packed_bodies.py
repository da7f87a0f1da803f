"""Bodies packed by gzip or Zstandard, through the write API."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable
from uuid import uuid4

import httpx
import orjson
import pytest

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_API = "/api/v1/collections"
_PACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstd.compress}


async def _vectors(service: httpx.AsyncClient) -> str:
    name = f"packed-{uuid4().hex[:12]}"
    created = await service.post(_API, json={"name": name, "dimension": 3})
    assert created.status_code == 201
    return f"{_API}/{name}/vectors"


async def _post(service: httpx.AsyncClient, path: str, body: bytes, encoding: str) -> httpx.Response:
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
    return await service.post(path, content=body, headers=headers)


def _batch(count: int) -> bytes:
    operations = [{"op": "create", "id": f"v{n}", "embedding": [1, 2, 3], "content": "x" * 500} for n in range(count)]
    return orjson.dumps({"operations": operations})


@pytest.mark.parametrize("encoding", [*_PACK, "GZIP"])
async def test_a_packed_batch_is_written_as_its_contents_say(service: httpx.AsyncClient, encoding: str) -> None:
    packed = _PACK[encoding.lower()](_batch(500))
    assert len(packed) < len(_batch(500)) / 10
    answer = await _post(service, f"{await _vectors(service)}/batch", packed, encoding)
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["results"]) == 500


@pytest.mark.parametrize("encoding", _PACK)
async def test_a_body_that_unpacks_to_more_than_the_limit_is_refused(service: httpx.AsyncClient, encoding: str) -> None:
    bomb = b'{"id": "a", "embedding": [1, 2, 3], "content": "' + b"x" * (200 * 1024 * 1024) + b'"}'
    packed = _PACK[encoding](bomb)
    assert len(packed) < 1024 * 1024
    answer = await _post(service, await _vectors(service), packed, encoding)
    assert (answer.status_code, answer.json()["type"]) == (413, "/problems/body-too-large")


@pytest.mark.parametrize("encoding", _PACK)
async def test_a_body_that_is_not_what_its_encoding_says_is_malformed(
    service: httpx.AsyncClient, encoding: str
) -> None:
    path = await _vectors(service)
    body = b'{"id": "a", "embedding": [1, 2, 3]}'
    for broken in (body, _PACK[encoding](body)[:-5], b"\0" * 50):
        answer = await _post(service, path, broken, encoding)
        assert (answer.status_code, answer.json()["type"]) == (400, "/problems/malformed-json")
        assert encoding in answer.json()["detail"]


async def test_other_encodings_are_refused_with_those_that_there_are(service: httpx.AsyncClient) -> None:
    answer = await _post(service, await _vectors(service), b"x", "br")
    assert (answer.status_code, answer.json()["type"]) == (415, "/problems/unsupported-media-type")
    assert answer.headers["accept-encoding"] == "gzip, zstd"
