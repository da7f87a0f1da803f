"""Recommendations by examples are what a plain computation finds."""

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

from events_schema.collections import Metric
from tests.query.read_model import ReadModel, Row

ROWS, DIMENSION = 120, 4
_EMBEDDINGS = np.random.default_rng(21).standard_normal((ROWS, DIMENSION)).astype(np.float32)
_METRICS: tuple[Metric, ...] = ("cosine", "l2", "ip")
_examples = st.integers(0, ROWS - 1) | st.lists(st.sampled_from([-1.0, 0.25, 0.5, 2.0]), min_size=4, max_size=4)


@pytest_asyncio.fixture(scope="module")
async def liked(read_model: ReadModel) -> dict[str, UUID]:
    rows = [Row(f"v{n:03}", _EMBEDDINGS[n], {"even": n % 2 == 0, "n": n}) for n in range(ROWS)]
    made: dict[str, UUID] = {}
    for metric in _METRICS:
        made[metric] = await read_model.create(
            f"liked-{metric}", DIMENSION, metric=metric, month_partitions=metric == "l2"
        )
        await read_model.put(made[metric], rows)
    await asyncio.sleep(0.03)
    return made


async def _recommend(service: httpx.AsyncClient, metric: str, **body: Any) -> httpx.Response:
    return await service.post(f"/api/v1/collections/liked-{metric}/vectors/recommend", json=body)


def _distances(metric: str, point: Any) -> Any:
    rows, point = _EMBEDDINGS.astype(np.float64), np.asarray(point, dtype=np.float64)
    match metric:
        case "cosine":
            return 1 - rows @ point / (np.linalg.norm(rows, axis=1) * np.linalg.norm(point))
        case "l2":
            return np.linalg.norm(rows - point, axis=1)
        case _:
            return -(rows @ point)


def _expected(
    metric: str, strategy: str, positive: list[Any], negative: list[Any], *, even: bool
) -> tuple[list[tuple[int, float]], set[int]]:
    """Number and distance of each vector that is to be found, in order; and the numbers of those that are as near to a
    positive example as to a negative one, which rounding puts to either side."""
    like, unlike = (
        [_EMBEDDINGS[one] if isinstance(one, int) else one for one in examples] for examples in (positive, negative)
    )
    unclear: set[int] = set()
    mask = np.ones(ROWS, dtype=bool)
    mask[[one for one in (*positive, *negative) if isinstance(one, int)]] = False
    if even:
        mask[1::2] = False
    if strategy == "best_score":
        distances = np.min([_distances(metric, one) for one in like], axis=0)
        if unlike:
            margins = np.min([_distances(metric, one) for one in unlike], axis=0) - distances
            unclear = {int(n) for n in np.flatnonzero(abs(margins) < 1e-5) if mask[n]}
            mask &= margins > 0
    else:
        unit = (lambda one: np.asarray(one) / np.linalg.norm(one)) if metric == "cosine" else np.asarray
        point = np.mean([unit(one) for one in like], axis=0)
        if unlike:
            point = 2 * point - np.mean([unit(one) for one in unlike], axis=0)
        distances = _distances(metric, point)
    return [(int(n), float(distances[n])) for n in np.argsort(distances, kind="stable") if mask[n]], unclear


@given(
    metric=st.sampled_from(_METRICS),
    strategy=st.sampled_from(["average_vector", "best_score"]),
    positive=st.lists(_examples, min_size=1, max_size=3),
    negative=st.lists(_examples, max_size=2),
    even=st.booleans(),
)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_what_is_recommended_is_what_a_plain_computation_finds(
    service: httpx.AsyncClient,
    liked: dict[str, UUID],
    metric: Metric,
    strategy: str,
    positive: list[Any],
    negative: list[Any],
    even: bool,
) -> None:
    del liked

    def example(one: Any) -> dict[str, Any]:
        return {"id": f"v{one:03}"} if isinstance(one, int) else {"embedding": one}

    answer = await _recommend(
        service, metric, strategy=strategy, k=ROWS, include=["metadata.n"], exact=True,
        positive=[example(one) for one in positive], negative=[example(one) for one in negative],
        **({"filter": {"even": True}} if even else {}),
    )  # fmt: skip
    if answer.status_code == 422:
        assert answer.json()["type"] == "/problems/zero-vector"
        assert (metric, strategy) == ("cosine", "average_vector")
        return
    assert answer.status_code == 200, answer.text
    document = answer.json()
    expected, unclear = _expected(metric, strategy, positive, negative, even=even)
    found = {hit["metadata"]["n"]: hit["distance"] for hit in document["hits"]}
    assert document["complete"] is True
    assert found.keys() ^ {n for n, _ in expected} <= unclear
    assert list(found.values()) == sorted(found.values())
    assert all(found[n] == pytest.approx(distance, abs=1e-4) for n, distance in expected if n in found)


@pytest.mark.usefixtures("liked")
async def test_a_recommendation_takes_what_a_search_takes(service: httpx.AsyncClient) -> None:
    body: dict[str, Any] = {"positive": [{"id": "v001"}], "k": 5}
    alone = (await service.post("/api/v1/collections/liked-cosine/vectors/search", json={"id": "v001", "k": 5})).json()
    first, second = [(await _recommend(service, "cosine", **body)).json() for _ in range(2)]
    assert [hit["id"] for hit in first["hits"]] == [hit["id"] for hit in alone["hits"]]
    assert (first["cached"], second["cached"]) == (False, True)
    assert first["hits"] == second["hits"]
    for strategy, scan in (("average_vector", "index"), ("best_score", "exact")):
        explained = (await _recommend(service, "cosine", **body, strategy=strategy, explain=True)).json()
        assert explained["explain"]["scan"] == scan
        assert (await _recommend(service, "cosine", **body, strategy=strategy, min_score=1.1)).json()["hits"] == []


@pytest.mark.usefixtures("liked")
@pytest.mark.parametrize(
    ("body", "status", "name", "pointers"),
    [
        ({}, 422, "validation", ["/positive"]),
        ({"positive": []}, 422, "validation", ["/positive"]),
        ({"positive": [{"id": "v001"}] * 101}, 422, "validation", ["/positive"]),
        ({"positive": ["v001"]}, 422, "validation", ["/positive/0"]),
        ({"positive": [{"id": "v001"}, {}]}, 422, "validation", ["/positive/1/embedding"]),
        ({"positive": [{"id": "v001"}], "negative": [{"id": ".."}]}, 422, "validation", ["/negative/0/id"]),
        ({"positive": [{"id": "v001"}], "strategy": "best"}, 422, "validation", ["/strategy"]),
        ({"positive": [{"id": "v001"}], "filter": 1}, 422, "invalid-filter", ["/filter"]),
        ({"positive": [{"id": "v001"}], "model": "other"}, 422, "model-mismatch", ["/model"]),
        ({"positive": [{"query": "text"}]}, 422, "model-mismatch", ["/positive/0/query"]),
        ({"positive": [{"id": "v001"}, {"embedding": [1]}]}, 422, "dimension-mismatch", ["/positive/1/embedding"]),
        ({"positive": [{"embedding": [0] * 4}]}, 422, "zero-vector", ["/positive/0/embedding"]),
        (
            {"positive": [{"embedding": [1, 0, 0, 0]}, {"embedding": [-1, 0, 0, 0]}]},
            422, "zero-vector", ["/positive"],
        ),
        (
            {"positive": [{"id": "v001"}, {"id": "absent"}], "negative": [{"id": "gone"}]},
            404, "vector-not-found", ["/positive/1/id", "/negative/0/id"],
        ),
    ],
)  # fmt: skip
async def test_examples_that_cannot_serve_are_named(
    service: httpx.AsyncClient, body: dict[str, Any], status: int, name: str, pointers: list[str]
) -> None:
    for strategy in ("average_vector", "best_score"):
        answer = await _recommend(service, "cosine", **{"strategy": strategy, **body})
        if (strategy, pointers) == ("best_score", ["/positive"]) and name == "zero-vector":
            continue  # there is no point between the examples
        problem = answer.json()
        assert (answer.status_code, problem["type"]) == (status, f"/problems/{name}"), answer.text
        assert [error["pointer"] for error in problem["errors"]] == pointers
