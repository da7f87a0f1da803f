"""Searches: equal to a plain computation, by the index where there is one, and never silently short."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import numpy as np
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pgvector.asyncpg import register_vector
from prometheus_client import CollectorRegistry

from events_schema.collections import IndexKind, Metric, VectorType
from events_schema.embedding import Float32Array, encode
from query_service.catalogue import LiveCollection
from query_service.metrics import QueryMetrics
from query_service.parts import Include
from query_service.polls import take_poll
from query_service.search import SearchVectors
from tests.query.read_model import TENANT, ReadModel, Row
from tests.servers import Databases, connected

DIMENSION = 8
ROWS = 3000

_rng = np.random.default_rng(7)
_EMBEDDINGS = _rng.normal(size=(ROWS, DIMENSION)).astype(np.float32)


def _vector_id(number: int) -> str:
    return f"v{number:05}"


@pytest_asyncio.fixture(scope="module")
async def articles(read_model: ReadModel) -> UUID:
    collection_id = await read_model.create("articles", DIMENSION)
    rows = [
        Row(_vector_id(n), _EMBEDDINGS[n], {"group": n % 10, "rare": n == 1234, "n": n}, f"text {n}")
        for n in range(ROWS)
    ]
    await read_model.put(collection_id, rows)
    await read_model.connection.execute("ANALYZE")
    return collection_id


async def _search(service: httpx.AsyncClient, name: str, **body: Any) -> dict[str, Any]:
    embedding = body.pop("embedding")
    if isinstance(embedding, np.ndarray):
        embedding = embedding.tolist()
    answer = await service.post(f"/api/v1/collections/{name}/vectors/search", json={"embedding": embedding, **body})
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def _cosine(matrix: Float32Array, query: Float32Array) -> Any:
    wide, q = matrix.astype(np.float64), query.astype(np.float64)
    return 1 - wide @ q / (np.linalg.norm(wide, axis=1) * np.linalg.norm(q))


def _l2(matrix: Float32Array, query: Float32Array) -> Any:
    return np.linalg.norm(matrix.astype(np.float64) - query.astype(np.float64), axis=1)


def _ip(matrix: Float32Array, query: Float32Array) -> Any:
    return -(matrix.astype(np.float64) @ query.astype(np.float64))


_DISTANCES = {"cosine": _cosine, "l2": _l2, "ip": _ip}
_SCORES = {"cosine": lambda d: 1 - d, "l2": lambda d: 1 / (1 + d), "ip": lambda d: -d}


@pytest.mark.usefixtures("articles")
async def test_a_search_answers_content_metadata_and_version_but_no_embedding(service: httpx.AsyncClient) -> None:
    found = await _search(service, "articles", embedding=_EMBEDDINGS[17], k=1)
    [hit] = found["hits"]
    assert hit.keys() == {"id", "score", "distance", "content", "metadata", "version"}
    assert (hit["id"], hit["content"], hit["version"]) == (_vector_id(17), "text 17", 1)
    assert hit["metadata"] == {"group": 7, "rare": False, "n": 17}
    assert hit["score"] == pytest.approx(1.0)
    assert found["complete"] is True
    assert found["cached"] is False
    assert found["freshness"]["parked"] == 0


@pytest.mark.usefixtures("articles")
async def test_include_chooses_the_parts(service: httpx.AsyncClient) -> None:
    found = await _search(service, "articles", embedding=_EMBEDDINGS[17], k=1, include=["embedding"])
    assert found["hits"][0].keys() == {"id", "score", "distance", "embedding", "version"}
    assert np.array_equal(np.array(found["hits"][0]["embedding"], dtype=np.float32), _EMBEDDINGS[17])


@pytest.mark.usefixtures("articles")
async def test_base64_and_numbers_are_the_same_question(service: httpx.AsyncClient) -> None:
    by_text = await _search(service, "articles", embedding=encode(_EMBEDDINGS[5]), k=20)
    by_numbers = await _search(service, "articles", embedding=_EMBEDDINGS[5], k=20)
    assert by_text["hits"] == by_numbers["hits"]


@pytest.mark.usefixtures("articles")
async def test_min_score_leaves_out_what_is_farther(service: httpx.AsyncClient) -> None:
    whole = (await _search(service, "articles", embedding=_EMBEDDINGS[3], k=50))["hits"]
    threshold = whole[20]["score"]
    near = (await _search(service, "articles", embedding=_EMBEDDINGS[3], k=50, min_score=threshold))["hits"]
    assert near == [hit for hit in whole if hit["score"] >= threshold]
    assert len(near) >= 21


@pytest.mark.parametrize("metric", ["cosine", "l2", "ip"])
@pytest.mark.parametrize("vector_type", ["vector", "halfvec"])
@pytest.mark.parametrize("index", ["hnsw", "ivfflat", "none"])
@pytest.mark.parametrize("month_partitions", [False, True])
async def test_every_kind_of_collection_answers_exact_and_other_searches(
    service: httpx.AsyncClient,
    read_model: ReadModel,
    metric: Metric,
    vector_type: VectorType,
    index: IndexKind,
    month_partitions: bool,
) -> None:
    name = f"kind-{metric}-{vector_type}-{index}-{month_partitions}".lower()
    collection_id = await read_model.create(
        name, DIMENSION, metric=metric, vector_type=vector_type, index=index, month_partitions=month_partitions
    )
    matrix = _EMBEDDINGS[:200]
    stored = matrix.astype(np.float16).astype(np.float32) if vector_type == "halfvec" else matrix
    await read_model.put(collection_id, [Row(_vector_id(n), matrix[n]) for n in range(200)])
    if index == "ivfflat":
        await read_model.index(collection_id, lists=1)
    query = _EMBEDDINGS[500]
    asked = query.astype(np.float16).astype(np.float32) if vector_type == "halfvec" else query
    distances = _DISTANCES[metric](stored, asked)
    expected = np.argsort(distances, kind="stable")[:10]
    await asyncio.sleep(0.03)
    for exact in (True, False):
        hits = (await _search(service, name, embedding=query, exact=exact, ef_search=400))["hits"]
        assert [hit["id"] for hit in hits] == [_vector_id(n) for n in expected]
        for hit, n in zip(hits, expected, strict=True):
            assert hit["distance"] == pytest.approx(distances[n], abs=1e-4)
            assert hit["score"] == pytest.approx(_SCORES[metric](hit["distance"]), rel=1e-9)


@given(number=st.integers(0, 2**32 - 1), k=st.integers(1, 300))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_an_exact_search_equals_numpy(service: httpx.AsyncClient, articles: UUID, number: int, k: int) -> None:
    del articles
    query = np.random.default_rng(number).normal(size=DIMENSION).astype(np.float32)
    hits = (await _search(service, "articles", embedding=query, k=k, exact=True, include=[]))["hits"]
    distances = _cosine(_EMBEDDINGS, query)
    assert len(hits) == k
    found = [int(hit["id"][1:]) for hit in hits]
    assert np.allclose(distances[found], np.sort(distances)[:k], atol=1e-6)
    assert np.allclose([hit["distance"] for hit in hits], distances[found], atol=1e-6)


async def test_ties_are_in_order_of_id(service: httpx.AsyncClient, read_model: ReadModel) -> None:
    collection_id = await read_model.create("ties", 2, index="none")
    await read_model.put(collection_id, [Row(f"t{n}", [1.0, 1.0]) for n in (3, 1, 2, 10)])
    await asyncio.sleep(0.03)
    hits = (await _search(service, "ties", embedding=[1.0, 2.0], k=3))["hits"]
    assert [hit["id"] for hit in hits] == ["t1", "t10", "t2"]


async def test_an_empty_collection_has_no_hits_and_says_how_fresh_it_is(
    service: httpx.AsyncClient, read_model: ReadModel
) -> None:
    await read_model.create("empty", 2)
    await asyncio.sleep(0.03)
    found = await _search(service, "empty", embedding=[1.0, 2.0])
    assert found["hits"] == []
    assert found["complete"] is True
    assert found["freshness"]["position"] == read_model.position


@pytest.mark.usefixtures("articles")
async def test_a_filter_that_the_index_cannot_fill_is_finished_exactly(service: httpx.AsyncClient) -> None:
    hits = (await _search(service, "articles", embedding=_EMBEDDINGS[0], k=10, filter={"rare": True}))["hits"]
    assert [hit["id"] for hit in hits] == [_vector_id(1234)]
    metrics = (await service.get("/metrics")).text
    assert 'aindusdb_query_searches_total{kind="finished_exactly"}' in metrics


@pytest.mark.usefixtures("articles")
async def test_a_filtered_search_finds_the_nearest_of_those_that_match(service: httpx.AsyncClient) -> None:
    query = _EMBEDDINGS[42]
    found = await _search(service, "articles", embedding=query, k=10, filter={"group": 3}, exact=True)
    distances = _cosine(_EMBEDDINGS, query)
    expected = [n for n in np.argsort(distances) if n % 10 == 3][:10]
    assert [hit["id"] for hit in found["hits"]] == [_vector_id(n) for n in expected]


async def _live(databases: Databases, name: str) -> LiveCollection:
    async with connected(databases.read_reader_dsn) as connection:
        poll = await take_poll(connection, None, 5)
    collection = poll.catalogue.find(TENANT, name)
    assert collection is not None
    return collection


def _query(k: int, ef_search: int) -> SearchVectors:
    return SearchVectors(
        origin=_EMBEDDINGS[0],
        k=k,
        filter=None,
        ef_search=ef_search,
        exact=False,
        min_score=None,
        include=Include(),
        metrics=QueryMetrics(CollectorRegistry()),
    )


async def _explained(databases: Databases, query: SearchVectors, *, exact: bool = False) -> str:
    collection = await _live(databases, "articles")
    sql, values = query.statement(collection, None if exact else query.settings(collection))
    literals = [f"'[{','.join(map(str, one))}]'" if isinstance(one, np.ndarray) else f"'{one}'" for one in values]
    for number in reversed(range(len(literals))):
        sql = sql.replace(f"${number + 1}::", f"{literals[number]}::")
    async with connected(databases.read_reader_dsn) as connection:
        return "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN (ANALYZE, COSTS OFF, BUFFERS) {sql}"))


@pytest.mark.usefixtures("articles")
async def test_the_search_uses_the_hnsw_index_and_the_exact_one_does_not(databases: Databases) -> None:
    assert "_hnsw" in await _explained(databases, _query(10, 40))
    assert "_hnsw" not in await _explained(databases, _query(10, 40), exact=True)


@pytest.mark.usefixtures("articles")
async def test_ef_search_takes_effect_in_the_statement_that_brings_it(databases: Databases) -> None:
    """A wider search touches more of the graph; the session's own setting stays what it was."""
    touched = []
    for ef_search in (1, 400, 1):
        plan = await _explained(databases, _query(1, ef_search))
        scan = plan[plan.index("_hnsw") :]
        buffers = scan[scan.index("Buffers:") :].splitlines()[0]
        touched.append(int(buffers.split("hit=")[1].split()[0]))
    assert touched[1] > 3 * touched[0]
    assert touched[0] == touched[2]


async def _post(service: httpx.AsyncClient, **body: Any) -> httpx.Response:
    return await service.post("/api/v1/collections/articles/vectors/search", json=body)


@pytest.mark.usefixtures("articles")
@pytest.mark.parametrize("exact", [False, True])
async def test_a_search_by_a_stored_vector_finds_its_neighbours_and_not_itself(
    service: httpx.AsyncClient, exact: bool
) -> None:
    by_id = (await _post(service, id=_vector_id(42), k=10, exact=exact, ef_search=200, explain=True)).json()
    expected = [_vector_id(n) for n in np.argsort(_cosine(_EMBEDDINGS, _EMBEDDINGS[42])) if n != 42][:10]
    assert [hit["id"] for hit in by_id["hits"]] == expected
    assert any(name.endswith("_hnsw") for name in by_id["explain"]["indexes"]) is not exact
    everything = (await _post(service, id=_vector_id(42), k=1000, exact=True)).json()
    assert _vector_id(42) not in {hit["id"] for hit in everything["hits"]}


async def test_the_only_vector_has_no_neighbours_and_one_that_is_not_there_is_not_found(
    service: httpx.AsyncClient, read_model: ReadModel
) -> None:
    await read_model.put(await read_model.create("alone", 2), [Row("a", [1.0, 0.0])])
    await asyncio.sleep(0.05)
    path = "/api/v1/collections/alone/vectors/search"
    assert (await service.post(path, json={"id": "a"})).json()["hits"] == []
    for _ in range(2):
        missing = await service.post(path, json={"id": "b"})
        assert (missing.status_code, missing.json()["type"]) == (404, "/problems/vector-not-found")


class _Interrupted:
    """A connection on which something happens after the first statement."""

    def __init__(self, connection: asyncpg.Connection, happens: Callable[[], Awaitable[object]]) -> None:
        self._connection = connection
        self._to_happen = [happens]

    async def fetch(self, sql: str, *values: Any) -> list[asyncpg.Record]:
        rows = await self._connection.fetch(sql, *values)
        if self._to_happen:
            await self._to_happen.pop()()
        return rows


async def test_a_stored_vector_that_goes_between_two_statements_is_not_found_as_of_the_second(
    databases: Databases, read_model: ReadModel
) -> None:
    collection_id = await read_model.create("fleeting", 2)
    await read_model.put(collection_id, [Row("a", [1.0, 0.0]), Row("b", [0.0, 1.0])])
    query = replace(_query(10, 40), origin="a")
    async with connected(databases.read_reader_dsn) as connection:
        await register_vector(connection)
        interrupted: Any = _Interrupted(connection, lambda: read_model.delete(collection_id, ["a"]))
        reading = await query.read(interrupted, await _live(databases, "fleeting"))
    assert reading.found is None
    assert reading.snapshot.low == read_model.position


@pytest.mark.usefixtures("articles")
@pytest.mark.parametrize("body", [{}, {"id": "a", "embedding": [0.0] * DIMENSION}, {"id": "a", "query": "x"}])
async def test_a_search_has_one_origin(service: httpx.AsyncClient, body: dict[str, Any]) -> None:
    answer = await _post(service, **body)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/validation")


@pytest.mark.usefixtures("articles")
async def test_explain_says_how_and_where_the_hits_were_found(service: httpx.AsyncClient) -> None:
    body = {"embedding": _EMBEDDINGS[7].tolist(), "k": 5}
    plain = (await _post(service, **body)).json()
    assert "explain" not in plain
    explained = (await _post(service, **body, explain=True)).json()
    assert explained["hits"] == plain["hits"]
    found = explained["explain"]
    assert (found["scan"], found["role"], found["kept"], explained["cached"]) == ("index", "primary", "l1", False)
    assert found["server"].startswith("127.0.0.1:")
    assert found["execution_ms"] > 0
    assert found["plan"]["Node Type"]
    rare = (await _post(service, embedding=body["embedding"], filter={"rare": True}, explain=True)).json()
    assert rare["explain"]["scan"] == "exact"
