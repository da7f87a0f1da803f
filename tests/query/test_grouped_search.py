"""Searches by groups find what a plain computation finds, also where one group has all of the neighbourhood."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.query.read_model import ReadModel, Row

_PATH = "/api/v1/collections/{}/vectors/search/groups"
_ROWS = 2_000
_RNG = np.random.default_rng(31)
_EMBEDDINGS = _RNG.standard_normal((_ROWS, 4)).astype(np.float32)
_QUERY = np.array([1, 0, 0, 0], dtype=np.float32)
_DISTANCES = 1 - (_EMBEDDINGS / np.linalg.norm(_EMBEDDINGS, axis=1, keepdims=True)).astype(np.float64) @ _QUERY
_PLACE = np.argsort(np.argsort(_DISTANCES))
"""How many are nearer."""


@pytest_asyncio.fixture(scope="module", autouse=True, params=[False, True], ids=["one table", "by month"])
async def _crowd(request: pytest.FixtureRequest, read_model: ReadModel) -> AsyncIterator[None]:
    collection_id = await read_model.create("crowd", 4, month_partitions=request.param)
    await read_model.put(
        collection_id, [Row(f"v{n:04}", _EMBEDDINGS[n], _metadata(n), f"text {n}") for n in range(_ROWS)]
    )
    await read_model.connection.execute("ANALYZE")
    await asyncio.sleep(0.03)
    yield
    await read_model.delete_collection(collection_id)
    await asyncio.sleep(0.03)


def _metadata(n: int) -> dict[str, Any]:
    # `big` has the nearest 1,500 of all, and five small groups share the others; of documents each has four parts.
    group = "big" if _PLACE[n] < 1_500 else f"small {n % 5}"
    return {"group": group, "document": {"number": n // 4}, "even": n % 2 == 0}


async def _groups(service: httpx.AsyncClient, name: str = "crowd", **body: Any) -> dict[str, Any]:
    answer = await service.post(_PATH.format(name), json={"embedding": _QUERY.tolist(), "include": [], **body})
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def _plain(values: list[list[Any]], distances: Any, groups: int, per_group: int) -> list[tuple[Any, list[int]]]:
    """The value and the numbers of the members of each group; `values` are those of each vector."""
    found: dict[Any, tuple[Any, list[int]]] = {}
    for n in np.lexsort((np.arange(len(distances)), distances)):
        for value in values[n]:
            found.setdefault((isinstance(value, bool), value), (value, []))[1].append(int(n))
    return [(value, numbers[:per_group]) for value, numbers in list(found.values())[:groups]]


def _shown(document: dict[str, Any]) -> list[tuple[Any, list[int]]]:
    assert document["complete"] is True
    return [(group["value"], [int(hit["id"][1:]) for hit in group["hits"]]) for group in document["groups"]]


@pytest.mark.parametrize(
    ("field", "groups", "per_group", "more", "scan"),
    [
        ("group", 6, 3, {}, "finished_exactly"),
        ("group", 1, 3, {}, "index"),
        ("group", 3, 2, {"filter": {"even": True}}, "finished_exactly"),
        ("group", 6, 3, {"exact": True}, "exact"),
        ("document.number", 10, 4, {}, "index"),
        ("document.number", 10, 4, {"filter": {"even": True}}, None),
    ],
)
async def test_no_group_is_silently_short(
    service: httpx.AsyncClient, field: str, groups: int, per_group: int, more: dict[str, Any], scan: str | None
) -> None:
    body = {"group_by": f"metadata.{field}", "groups": groups, "per_group": per_group, "ef_search": 200, **more}
    kept = [n for n in range(_ROWS) if "filter" not in more or n % 2 == 0]
    values = [[_metadata(n)["group"] if field == "group" else n // 4] for n in kept]
    expected = [
        (value, [kept[n] for n in numbers]) for value, numbers in _plain(values, _DISTANCES[kept], groups, per_group)
    ]
    first, second = await _groups(service, **body), await _groups(service, **body)
    assert _shown(first) == _shown(second) == expected
    assert (first["cached"], second["cached"]) == (False, True)
    explained = await _groups(service, **body, explain=True)
    assert _shown(explained) == expected
    assert scan in (None, explained["explain"]["scan"])


_scalars = st.sampled_from([None, True, False, 0, 1, 1.0, 2.5, "", "a", "é", {"b": "a"}])
_fields = st.one_of(_scalars, st.lists(_scalars, max_size=3))


@given(
    values=st.lists(_fields, min_size=1, max_size=12),
    groups=st.integers(1, 4),
    per_group=st.integers(1, 3),
    exact=st.booleans(),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_groups_of_any_values_equal_a_plain_computation(
    service: httpx.AsyncClient, read_model: ReadModel, values: list[Any], groups: int, per_group: int, exact: bool
) -> None:
    if "any-values" not in read_model.ids:
        await read_model.create("any-values", 2, metric="l2", index="none", month_partitions=True)
    collection_id = read_model.ids["any-values"]
    await read_model.delete(collection_id, [f"v{n:02}" for n in range(12)])
    rows = [Row(f"v{n:02}", [float(n // 2), 0.0], {"a": value}) for n, value in enumerate(values)]
    await read_model.put(collection_id, rows)
    document = await _groups(
        service, "any-values", embedding=[0, 0], group_by="metadata.a", groups=groups, per_group=per_group,
        exact=exact, max_staleness_ms=0,
    )  # fmt: skip
    reached = [
        sorted({(isinstance(one, bool), one): one for one in (value if isinstance(value, list) else [value])
                if isinstance(one, str | bool | int | float)}.values(), key=repr)
        for value in values
    ]  # fmt: skip
    # The order of groups with the same nearest vector is of no account here.
    plain = _plain(reached, np.array([float(n // 2) for n in range(len(values))]), 99, per_group)
    shown = _shown(document)
    assert len(shown) == min(groups, len(plain))
    for value, numbers in shown:
        assert numbers in [of for one, of in plain if isinstance(one, bool) == isinstance(value, bool) and one == value]
    assert [numbers[0] for _, numbers in shown] == [numbers[0] for _, numbers in plain][: len(shown)]


async def test_groups_take_what_a_search_takes(service: httpx.AsyncClient) -> None:
    of_id = await _groups(service, embedding=None, id="v0001", group_by="metadata.group", include=["content"])
    hits = [hit for group in of_id["groups"] for hit in group["hits"]]
    assert "v0001" not in {hit["id"] for hit in hits}
    assert all(hit["content"] == f"text {int(hit['id'][1:])}" for hit in hits)
    best = max(1 - _DISTANCES)
    document = await _groups(service, group_by="metadata.group", groups=6, min_score=best - 1e-3)
    assert [value for value, _ in _shown(document)] == ["big"]
    assert all(hit["score"] >= best - 1e-3 for hit in document["groups"][0]["hits"])
    assert _shown(await _groups(service, group_by="metadata.absent")) == []


@pytest.mark.parametrize(
    ("body", "status", "name", "pointer"),
    [
        ({}, 422, "validation", "/group_by"),
        ({"group_by": "lang"}, 422, "validation", "/group_by"),
        ({"group_by": "metadata"}, 422, "validation", "/group_by"),
        ({"group_by": "metadata.a..b"}, 422, "validation", "/group_by"),
        ({"group_by": "metadata.a", "groups": 0}, 422, "validation", "/groups"),
        ({"group_by": "metadata.a", "groups": 101}, 422, "validation", "/groups"),
        ({"group_by": "metadata.a", "per_group": 101}, 422, "validation", "/per_group"),
        ({"group_by": "metadata.a", "groups": 100, "per_group": 11}, 422, "validation", "/per_group"),
        ({"group_by": "metadata.a", "k": 3}, 422, "validation", "/k"),
        ({"group_by": "metadata.a", "id": "v0001"}, 422, "validation", "/id"),
        ({"group_by": "metadata.a", "embedding": [1]}, 422, "dimension-mismatch", "/embedding"),
        ({"group_by": "metadata.a", "filter": {"$x": 1}}, 422, "invalid-filter", "/filter/$x"),
    ],
)
async def test_a_grouped_search_that_breaks_a_rule_names_the_field(
    service: httpx.AsyncClient, body: dict[str, Any], status: int, name: str, pointer: str
) -> None:
    answer = await service.post(_PATH.format("crowd"), json={"embedding": _QUERY.tolist(), **body})
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{name}"), answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer


async def test_groups_about_a_vector_that_is_not_there_are_not_found(service: httpx.AsyncClient) -> None:
    for _ in range(2):
        answer = await service.post(_PATH.format("crowd"), json={"id": "absent", "group_by": "metadata.group"})
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/vector-not-found")
