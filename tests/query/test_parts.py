"""What an answer brings of each vector: parts, fields of the metadata, embeddings in both formats, and how much."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import httpx
import numpy as np
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events_schema.embedding import decode
from query_service.metadata_fields import MetadataFields, ordered
from tests.query.conftest import running_service
from tests.query.read_model import ReadModel, Row
from tests.servers import Databases

_VECTORS = "/api/v1/collections/parted/vectors"
_EMBEDDING = [0.1, -3.4e38, 1e-45]
_METADATA = {
    "lang": "en",
    "author": {"name": "Ada", "born": 1815, "e.mail": "a@b"},
    "authors": [{"name": "Ada", "born": 1815}, "Max", [{"name": "Ludwig"}], {}],
    "none": None,
}


@pytest_asyncio.fixture(scope="module")
async def parted(read_model: ReadModel) -> UUID:
    collection_id = await read_model.create("parted", 3, metric="ip", index="none")
    await read_model.put(collection_id, [Row("a", _EMBEDDING, _METADATA, "text")])
    await asyncio.sleep(0.03)
    return collection_id


async def _everywhere(service: httpx.AsyncClient, **shown: Any) -> list[dict[str, Any]]:
    """The vector as a search, a get and a list answer it."""
    body = {"embedding": [1, 0, 0], "max_staleness_ms": 0, **shown}
    searched = await service.post(f"{_VECTORS}/search", json=body)
    got = await service.get(f"{_VECTORS}/a", params=shown)
    listed = await service.get(_VECTORS, params=shown)
    assert {answer.status_code for answer in (searched, got, listed)} == {200}, searched.text + got.text + listed.text
    return [searched.json()["hits"][0], got.json(), listed.json()["items"][0]]


@pytest.mark.usefixtures("parted")
async def test_an_embedding_is_answered_as_numbers_or_as_base64_of_the_same_numbers(service: httpx.AsyncClient) -> None:
    stored = np.array(_EMBEDDING, dtype=np.float32)
    for shown in await _everywhere(service, include=["embedding"]):
        assert shown["embedding"][0] == 0.1, "as many digits as tell 32-bit floats apart"
        assert np.array_equal(np.array(shown["embedding"], dtype=np.float32), stored)
    for _ in range(2):  # found, and kept
        for shown in await _everywhere(service, include=["embedding"], embedding_format="base64"):
            assert np.array_equal(decode(shown["embedding"]), stored)


async def test_an_embedding_of_half_precision_is_answered_in_32_bits(
    service: httpx.AsyncClient, read_model: ReadModel
) -> None:
    await read_model.put(await read_model.create("halved", 2, vector_type="halfvec"), [Row("a", [0.1, 2.0])])
    await asyncio.sleep(0.03)
    path = "/api/v1/collections/halved/vectors/a?include=embedding"
    base64 = (await service.get(f"{path}&embedding_format=base64")).json()["embedding"]
    assert decode(base64).tolist() == np.array([0.1, 2.0], dtype=np.float16).astype(np.float32).tolist()
    assert (await service.get(path)).json()["embedding"] == pytest.approx([0.1, 2.0], abs=1e-4)


@pytest.mark.usefixtures("parted")
@pytest.mark.parametrize(
    ("chosen", "parts", "metadata"),
    [
        ({}, {"content", "metadata"}, _METADATA),
        ({"exclude": ["content"]}, {"metadata"}, _METADATA),
        ({"exclude": ["metadata"]}, {"content"}, None),
        ({"include": ["metadata.lang"]}, {"metadata"}, {"lang": "en"}),
        ({"include": ["metadata.lang"], "exclude": ["metadata"]}, set(), None),
        ({"include": ["content", "metadata.none", "metadata.absent"]}, {"content", "metadata"}, {"none": None}),
        ({"include": ["metadata.author.name"]}, {"metadata"}, {"author": {"name": "Ada"}}),
        ({"include": [r"metadata.author.e\.mail"]}, {"metadata"}, {"author": {"e.mail": "a@b"}}),
        ({"include": ["metadata.lang.deeper"]}, {"metadata"}, {}),
        (
            {"include": ["metadata.authors.name"]},
            {"metadata"},
            {"authors": [{"name": "Ada"}, [{"name": "Ludwig"}], {}]},
        ),
        (
            {"include": ["metadata.author", "metadata.author.name"], "exclude": ["metadata.author.born"]},
            {"metadata"},
            {"author": {"name": "Ada", "e.mail": "a@b"}},
        ),
        (
            {"exclude": ["content", "metadata.author", "metadata.authors.born", "metadata.lang.deeper"]},
            {"metadata"},
            {"lang": "en", "authors": [{"name": "Ada"}, "Max", [{"name": "Ludwig"}], {}], "none": None},
        ),
        ({"include": ["embedding", "metadata.lang"], "exclude": ["metadata.lang"]}, {"embedding", "metadata"}, {}),
    ],
)
async def test_parts_and_fields_are_chosen(
    service: httpx.AsyncClient, chosen: dict[str, Any], parts: set[str], metadata: dict[str, Any] | None
) -> None:
    for shown in await _everywhere(service, **chosen):
        assert shown.keys() & {"content", "metadata", "embedding"} == parts
        assert shown.get("metadata") == metadata


_names = st.sampled_from(["a", "b", "c"])
_values = st.recursive(
    st.integers(0, 2) | st.none(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_names, inner, max_size=3),
    max_leaves=8,
)
_paths = st.lists(st.lists(_names, min_size=1, max_size=3).map(tuple), max_size=3)


@given(metadata=st.dictionaries(_names, _values, max_size=3), include=_paths, exclude=_paths)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_what_the_database_narrows_is_what_is_meant(
    service: httpx.AsyncClient,
    read_model: ReadModel,
    parted: UUID,
    metadata: dict[str, Any],
    include: list[tuple[str, ...]],
    exclude: list[tuple[str, ...]],
) -> None:
    await read_model.put(parted, [Row("b", [1.0, 0.0, 0.0], metadata)])
    parameters = {
        "include": [".".join(("metadata", *path)) for path in include] or ["metadata"],
        "exclude": [".".join(("metadata", *path)) for path in exclude],
        "max_staleness_ms": "0",
    }
    shown = (await service.get(f"{_VECTORS}/b", params=parameters)).json()["metadata"]
    assert shown == MetadataFields(ordered(include) if include else None, ordered(exclude)).of(metadata)
    await read_model.delete(parted, ["b"])


@pytest.mark.usefixtures("parted")
@pytest.mark.parametrize(
    ("shown", "pointer"),
    [
        ({"include": ["vector"]}, "/include/0"),
        ({"include": ["content", "metadata."]}, "/include/1"),
        ({"include": ["metadata.a..b"]}, "/include/0"),
        ({"include": ["metadata.a\\"]}, "/include/0"),
        ({"include": ["metadata" + ".a" * 9]}, "/include/0"),
        ({"include": ["metadata.a"] * 101}, "/include"),
        ({"exclude": ["metadata.\x00"]}, "/exclude/0"),
        ({"exclude": ["id"]}, "/exclude/0"),
        ({"embedding_format": "hex"}, "/embedding_format"),
    ],
)
async def test_a_choice_that_breaks_a_rule_is_named(
    service: httpx.AsyncClient, shown: dict[str, Any], pointer: str
) -> None:
    searched = await service.post(f"{_VECTORS}/search", json={"embedding": [1, 0, 0], **shown})
    assert (searched.status_code, searched.json()["errors"][0]["pointer"]) == (422, pointer)
    for path in ("", "/a"):
        answer = await service.get(_VECTORS + path, params=shown)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer.split("/")[1])


async def test_a_search_is_refused_and_a_list_goes_on_where_an_answer_would_be_too_large(
    databases: Databases, read_model: ReadModel
) -> None:
    collection_id = await read_model.create("heavy", 2, index="none")
    rows = [Row(f"v{n:02}", [1.0, n], {"large": "y" * 30_000, "n": n}, "x" * 60_000) for n in range(50)]
    await read_model.put(collection_id, rows)
    path = "/api/v1/collections/heavy/vectors"
    async with running_service(databases.read_reader_dsn, max_answer_bytes=2 * 1024 * 1024) as service:
        for more in ({}, {"filter": {"n": {"$gte": 0}}}, {"exact": True}):
            body = {"embedding": [1, 0], "k": 50, **more}
            refused = await service.post(f"{path}/search", json=body)
            problem = refused.json()
            assert (refused.status_code, problem["type"]) == (422, "/problems/answer-too-large"), refused.text
            assert problem["limit"] == 2 * 1024 * 1024
            assert 50 * 90_000 < problem["found"] < 50 * 90_100
            for narrower in ({"k": 20}, {"include": ["metadata.n"]}, {"exclude": ["content", "metadata.large"]}):
                answer = await service.post(f"{path}/search", json={**body, **narrower})
                assert answer.status_code == 200, answer.text
                assert len(answer.json()["hits"]) == narrower.get("k", 50)
        seen: list[str] = []
        parameters: dict[str, Any] = {"limit": 1000}
        while True:
            page = (await service.get(path, params=parameters)).json()
            seen += [item["id"] for item in page["items"]]
            if page["next_cursor"] is None:
                break
            assert len(page["items"]) == 23, "as many as there is room for"
            parameters["cursor"] = page["next_cursor"]
        assert seen == [row.id for row in rows]
