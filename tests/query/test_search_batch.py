"""Several searches in one request: as good as each alone, and all of one snapshot."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import numpy as np
import pytest
import pytest_asyncio
from pgvector.asyncpg import register_vector
from prometheus_client import CollectorRegistry

from query_service.metrics import QueryMetrics
from query_service.parts import Include
from query_service.polls import take_poll
from query_service.search import SearchVectors
from query_service.search_batch import SearchBatch
from tests.embedding.tiny_model import DIMENSION as TINY_DIMENSION
from tests.embedding.tiny_model import write_tiny_model
from tests.query.conftest import running_service
from tests.query.read_model import TENANT, ReadModel, Row
from tests.servers import Databases, connected

DIMENSION = 4
_PATH = "/api/v1/collections/batched/vectors/search"
_EMBEDDINGS = np.random.default_rng(11).standard_normal((300, DIMENSION)).astype(np.float32)


@pytest_asyncio.fixture(scope="module")
async def batched(read_model: ReadModel) -> UUID:
    collection_id = await read_model.create("batched", DIMENSION)
    rows = [Row(f"v{n:03}", _EMBEDDINGS[n], {"n": n, "even": n % 2 == 0}, f"text {n}") for n in range(300)]
    await read_model.put(collection_id, rows)
    await asyncio.sleep(0.03)
    return collection_id


def _at(n: int, **more: Any) -> dict[str, Any]:
    return {"embedding": _EMBEDDINGS[n].tolist(), **more}


@pytest.mark.usefixtures("batched")
async def test_each_query_is_answered_as_it_is_alone(service: httpx.AsyncClient) -> None:
    queries = [
        _at(1, k=3),
        _at(2, k=5, filter={"even": True}, include=["metadata.n"]),
        {"id": "v007", "k": 4, "exact": True, "include": []},
        _at(4, k=300, min_score=0.5, include=["embedding"], embedding_format="base64"),
        _at(5, k=2, filter={"n": -1}),
    ]
    alone = [(await service.post(_PATH, json=query)).json() for query in queries]
    for cached in (False, True):
        together = await service.post(f"{_PATH}/batch", json={"queries": queries})
        assert together.status_code == 200, together.text
        document = together.json()
        assert document["results"] == [{"hits": one["hits"], "complete": one["complete"]} for one in alone]
        assert document["cached"] is cached
        assert document["freshness"]["position"] == alone[0]["freshness"]["position"]
    changed = {"queries": [queries[1], queries[0], *queries[2:]]}
    assert (await service.post(f"{_PATH}/batch", json=changed)).json()["cached"] is False
    explained = (await service.post(f"{_PATH}/batch", json={"queries": queries[:2], "explain": True})).json()
    assert [one["explain"]["role"] for one in explained["results"]] == ["primary", "primary"]


async def test_texts_are_embedded_and_their_results_say_what_was_seen(
    databases: Databases, read_model: ReadModel, tmp_path: Path
) -> None:
    folder = write_tiny_model(tmp_path / "tiny-batched")
    await read_model.put(
        await read_model.create("batched-texts", TINY_DIMENSION, provider="fastembed", model="tiny-batched"),
        [Row("a", [1.0] * TINY_DIMENSION)],
    )
    path = "/api/v1/collections/batched-texts/vectors/search"
    texts = ["wing", "flutter", "wing"]
    async with running_service(databases.read_reader_dsn, embedding_path=folder) as client:
        body = {"queries": [*({"query": text} for text in texts), {"id": "a"}]}
        results = (await client.post(f"{path}/batch", json=body)).json()["results"]
        assert [result.get("truncated") for result in results] == [False, False, False, None]
        for text, result in zip(texts, results, strict=False):
            assert result["hits"] == (await client.post(path, json={"query": text})).json()["hits"]


class _Interrupted:
    """A connection on which something is written after the first statement."""

    def __init__(self, connection: Any, model: ReadModel, collection_id: UUID) -> None:
        self._connection, self._model, self._collection_id = connection, model, collection_id
        self._written = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def fetch(self, sql: str, *values: Any) -> Any:
        rows = await self._connection.fetch(sql, *values)
        if not self._written:
            self._written = True
            await self._model.put(self._collection_id, [Row("0-late", [1.0, 0.0])])
        return rows


async def test_all_queries_see_one_snapshot(databases: Databases, read_model: ReadModel) -> None:
    collection_id = await read_model.create("batched-still", 2)
    await read_model.put(collection_id, [Row("a", [1.0, 0.0])])
    search = SearchVectors(
        origin=np.array([1, 0], dtype=np.float32), k=1, filter=None, ef_search=40, exact=True, min_score=None,
        include=Include(), metrics=QueryMetrics(CollectorRegistry()),
    )  # fmt: skip
    before = read_model.position
    async with connected(databases.read_reader_dsn) as connection:
        await register_vector(connection)
        collection = (await take_poll(connection, None, 5)).catalogue.find(TENANT, "batched-still")
        assert collection is not None
        interrupted: Any = _Interrupted(connection, read_model, collection_id)
        reading = await SearchBatch([search] * 3, 1 << 20).read(interrupted, collection)
    assert [[hit.id for hit in one.hits] for one in reading.found] == [["a"]] * 3
    assert (reading.snapshot.low, reading.snapshot.high) == (before, before)
    assert read_model.position > before


@pytest.mark.usefixtures("batched")
@pytest.mark.parametrize(
    ("queries", "status", "name", "pointer"),
    [
        ([], 422, "validation", "/queries"),
        ([_at(1)] * 101, 422, "validation", "/queries"),
        ([_at(1, k=1000)] * 11, 422, "validation", "/queries"),
        ([_at(1), {}], 422, "validation", "/queries/1/embedding"),
        ([_at(1), _at(1, k=0)], 422, "validation", "/queries/1/k"),
        ([_at(1), _at(1, explain=True)], 422, "validation", "/queries/1/explain"),
        ([_at(1), _at(1, filter={"a": {"$near": 1}})], 422, "invalid-filter", "/queries/1/filter/a/$near"),
        ([_at(1), {"embedding": [1, 2]}], 422, "dimension-mismatch", "/queries/1/embedding"),
        ([_at(1), {"embedding": [0] * DIMENSION}], 422, "zero-vector", "/queries/1/embedding"),
        ([_at(1), {"embedding": [1e39] * DIMENSION}], 422, "not-finite", "/queries/1/embedding"),
        ([_at(1), _at(1, model="other")], 422, "model-mismatch", "/queries/1/model"),
        ([_at(1), {"query": "text"}], 422, "model-mismatch", "/queries/1/query"),
        ([_at(1), {"id": "v001"}, {"id": "absent"}], 404, "vector-not-found", "/queries/2/id"),
    ],
)
async def test_what_is_wrong_with_one_query_is_said_with_its_index(
    service: httpx.AsyncClient, queries: list[dict[str, Any]], status: int, name: str, pointer: str
) -> None:
    answer = await service.post(f"{_PATH}/batch", json={"queries": queries})
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (status, f"/problems/{name}"), answer.text
    assert problem["errors"][0]["pointer"] == pointer


async def test_a_batch_is_bounded_as_a_whole(databases: Databases, read_model: ReadModel) -> None:
    collection_id = await read_model.create("batched-heavy", 2, index="none")
    await read_model.put(collection_id, [Row(f"v{n}", [1.0, n], content="x" * 100_000) for n in range(10)])
    path = "/api/v1/collections/batched-heavy/vectors/search/batch"
    async with running_service(databases.read_reader_dsn, max_answer_bytes=2 * 1024 * 1024) as client:
        query = {"embedding": [1, 0]}
        assert (await client.post(path, json={"queries": [query] * 2})).status_code == 200
        refused = await client.post(path, json={"queries": [query] * 3})
        assert (refused.status_code, refused.json()["type"]) == (422, "/problems/answer-too-large"), refused.text
        assert 3_000_000 <= refused.json()["found"] < 3_001_000
