"""Searches with a filter are as good as exact ones, whatever the filter's share and wherever its matches lie."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import numpy as np
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.query.conftest import running_service
from tests.query.read_model import ReadModel, Row
from tests.servers import Databases, connected

NUMBER, DIMENSION = 6_000, 8
_SEARCH = "/api/v1/collections/shares/vectors/search"

_EMBEDDINGS = np.random.default_rng(3).standard_normal((NUMBER, DIMENSION)).astype(np.float32)
_UNIT = _EMBEDDINGS / np.linalg.norm(_EMBEDDINGS, axis=1, keepdims=True)
_ALONG = np.argsort(np.argsort(_UNIT[:, 0])) / NUMBER
"""Where each vector is between the far end of the first axis, 0, and its near end, 1."""
_ANYWHERE = np.random.default_rng(4).random(NUMBER)
_FIRST_AXIS = [1.0] + [0.0] * (DIMENSION - 1)

_SHARES = (0.5, 0.1, 0.01, 0.001)


@pytest_asyncio.fixture(scope="module", params=[False, True], ids=["one table", "by month"])
async def shares(request: pytest.FixtureRequest, read_model: ReadModel) -> AsyncIterator[UUID]:
    collection_id = await read_model.create("shares", DIMENSION, month_partitions=request.param)
    await read_model.put(collection_id, [Row(f"v{n:04}", _EMBEDDINGS[n], _metadata(n)) for n in range(NUMBER)])
    await read_model.connection.execute("ANALYZE")
    await asyncio.sleep(0.03)
    yield collection_id
    await read_model.delete_collection(collection_id)
    await asyncio.sleep(0.03)


def _metadata(n: int) -> dict[str, Any]:
    return {
        "anywhere": [share for share in _SHARES if _ANYWHERE[n] < share],
        "far": [share for share in _SHARES if _ALONG[n] < share],
        "near": [share for share in _SHARES if 1 - _ALONG[n] < share],
        "along": float(_ALONG[n]),
    }


def _matching(field: str, share: float) -> Any:
    return {"anywhere": share > _ANYWHERE, "far": share > _ALONG, "near": share > 1 - _ALONG}[field]


def _distances(query: Any) -> Any:
    """To all vectors, in double precision."""
    return 1 - _UNIT.astype(np.float64) @ (np.asarray(query) / np.linalg.norm(query))


def _nearest(query: Any, mask: Any, k: int) -> list[str]:
    among = np.flatnonzero(mask)
    return [f"v{n:04}" for n in among[np.argsort(_distances(query)[among])[:k]]]


def _assert_nearest(found: list[str], query: Any, mask: Any, k: int) -> None:
    """The k nearest in order; which of two comes first that single precision cannot tell apart is left open."""
    numbers = np.array([int(vector_id[1:]) for vector_id in found], dtype=int)
    expected = [int(vector_id[1:]) for vector_id in _nearest(query, mask, k)]
    assert len(set(found)) == len(found) == len(expected)
    assert mask[numbers].all()
    np.testing.assert_allclose(_distances(query)[numbers], _distances(query)[expected], rtol=0, atol=1e-6)


async def _search(service: httpx.AsyncClient, query: Any, document: Any, **more: Any) -> dict[str, Any]:
    body = {"embedding": list(map(float, query)), "filter": document, "include": [], "explain": True, **more}
    answer = await service.post(_SEARCH, json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert found["complete"] is True
    return found


def _ids(found: dict[str, Any]) -> list[str]:
    return [hit["id"] for hit in found["hits"]]


@pytest.mark.usefixtures("shares")
@pytest.mark.parametrize("share", _SHARES)
@pytest.mark.parametrize("field", ["anywhere", "near", "far"])
async def test_a_filtered_search_finds_what_an_exact_one_finds(
    service: httpx.AsyncClient, field: str, share: float
) -> None:
    rng = np.random.default_rng(5)
    recalls = []
    for _ in range(20):
        query = np.array(_FIRST_AXIS) + 0.1 * rng.standard_normal(DIMENSION)
        expected = _nearest(query, _matching(field, share), 10)
        found = _ids(await _search(service, query, {field: share}))
        assert len(found) == len(expected)
        recalls.append(len(set(found) & set(expected)) / len(expected))
    assert np.mean(recalls) >= 0.95


@pytest.mark.usefixtures("shares")
@pytest.mark.parametrize(
    ("document", "scan"),
    [
        ({"anywhere": 0.5}, "index"),
        ({"near": 0.5}, "index"),
        ({"anywhere": 0.01}, "exact"),
        ({"far": 0.001}, "exact"),
        ({"far": 0.5}, "finished_exactly"),
        ({"along": {"$lt": 0.5}}, "finished_exactly"),
        ({"along": {"$gt": 0.5}}, "index"),
    ],
)
async def test_the_way_is_chosen_by_how_many_match_and_checked_by_where_they_are(
    service: httpx.AsyncClient, document: dict[str, Any], scan: str
) -> None:
    found = await _search(service, _FIRST_AXIS, document)
    assert found["explain"]["scan"] == scan
    ways = {name.rpartition("_")[2] for name in found["explain"]["indexes"]}
    assert ("hnsw" in ways) == (scan != "exact")
    # Rare equality is looked up in the GIN index; a comparison has none.
    assert any("_metadata" in name for name in found["explain"]["indexes"]) or scan != "exact"


@pytest.mark.usefixtures("shares")
@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
async def test_the_way_does_not_depend_on_what_the_planner_knows(databases: Databases, mode: str) -> None:
    database = urlsplit(databases.read_reader_dsn).path.lstrip("/")
    async with connected(databases.read_admin_dsn) as admin:
        await admin.execute(f'ALTER ROLE aindusdb_query IN DATABASE "{database}" SET plan_cache_mode = {mode}')
        try:
            async with running_service(databases.read_reader_dsn) as service:
                for document, scan in [({"anywhere": 0.5}, "index"), ({"anywhere": 0.01}, "exact")]:
                    for query in _EMBEDDINGS[:3]:
                        found = await _search(service, query, document)
                        assert found["explain"]["scan"] == scan
                        assert any(name.endswith("_hnsw") for name in found["explain"]["indexes"]) == (scan == "index")
        finally:
            await admin.execute(f'ALTER ROLE aindusdb_query IN DATABASE "{database}" RESET plan_cache_mode')


@given(
    field=st.sampled_from(["anywhere", "near", "far"]),
    share=st.sampled_from(_SHARES),
    k=st.sampled_from([1, 10, 700]),
    number=st.integers(0, NUMBER - 1),
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_an_exact_filtered_search_equals_numpy(
    service: httpx.AsyncClient, shares: UUID, field: str, share: float, k: int, number: int
) -> None:
    del shares
    found = await _search(service, _EMBEDDINGS[number], {field: share}, k=k, exact=True)
    assert found["explain"]["scan"] == "exact"
    _assert_nearest(_ids(found), _EMBEDDINGS[number], _matching(field, share), k)


@pytest.mark.usefixtures("shares")
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("document", [{"anywhere": 0.5}, {"anywhere": 0.01}, {"far": 0.5}])
async def test_a_filtered_search_by_a_stored_vector_leaves_it_out(
    service: httpx.AsyncClient, document: dict[str, Any], exact: bool
) -> None:
    [(field, share)] = document.items()
    number = int(np.flatnonzero(_matching(field, share) & (_ANYWHERE < 0.5))[0])
    body = {"id": f"v{number:04}", "filter": document, "include": [], "k": 20, "exact": exact}
    found = _ids((await service.post(_SEARCH, json=body)).json())
    expected = _nearest(_EMBEDDINGS[number], _matching(field, share) & (np.arange(NUMBER) != number), 20)
    assert len(set(found) & set(expected)) >= 0.95 * len(expected)
    assert f"v{number:04}" not in found


@pytest.mark.usefixtures("shares")
async def test_when_fewer_match_than_asked_for_all_of_them_are_found(service: httpx.AsyncClient) -> None:
    for field, share in (("anywhere", 0.1), ("far", 0.001), ("far", 0.1)):
        mask = _matching(field, share)
        found = _ids(await _search(service, _FIRST_AXIS, {field: share}, k=1000))
        _assert_nearest(found, _FIRST_AXIS, mask, 1000)
    assert _ids(await _search(service, _FIRST_AXIS, {"anywhere": "nothing"})) == []


async def test_an_empty_table_and_one_of_dead_rows_are_searched(
    service: httpx.AsyncClient, read_model: ReadModel
) -> None:
    collection_id = await read_model.create("emptied", DIMENSION)
    path = "/api/v1/collections/emptied/vectors/search"
    body = {"embedding": _FIRST_AXIS, "filter": {"a": 1}, "max_staleness_ms": 0}
    assert (await service.post(path, json=body)).json()["hits"] == []
    rows = [Row(f"v{n:04}", _EMBEDDINGS[n], {"a": 1}) for n in range(2_000)]
    await read_model.put(collection_id, rows)
    await read_model.delete(collection_id, [row.id for row in rows[1:]])
    answer = (await service.post(path, json=body)).json()
    assert ([hit["id"] for hit in answer["hits"]], answer["complete"]) == (["v0000"], True)
