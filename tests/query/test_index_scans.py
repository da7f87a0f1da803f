"""How far an IVFFlat index is searched."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from uuid import UUID

import httpx
import numpy as np
import pytest
import pytest_asyncio
from pgvector.asyncpg import register_vector
from prometheus_client import CollectorRegistry

from events_schema.embedding import Float32Array
from query_service.catalogue import LiveCollection
from query_service.index_scans import probes_for, scan_settings
from query_service.metrics import QueryMetrics
from query_service.parts import Include
from query_service.polls import take_poll
from query_service.search import SearchVectors
from shared.read_model.filters import parse_filter
from tests.query.read_model import TENANT, ReadModel, Row
from tests.servers import Databases, connected

NUMBER, DIMENSION, LISTS = 4_000, 8, 64

_EMBEDDINGS = np.random.default_rng(11).standard_normal((NUMBER, DIMENSION)).astype(np.float32)


@pytest_asyncio.fixture(scope="module")
async def listed(read_model: ReadModel) -> UUID:
    collection_id = await read_model.create("listed", DIMENSION, index="ivfflat")
    await read_model.put(
        collection_id, [Row(f"v{n:04}", embedding, {"some": n % 5 == 0}) for n, embedding in enumerate(_EMBEDDINGS)]
    )
    await read_model.index(collection_id, LISTS)
    await read_model.connection.execute("ANALYZE")
    return collection_id


async def _collection(databases: Databases) -> LiveCollection:
    async with connected(databases.read_reader_dsn) as connection:
        poll = await take_poll(connection, None, 5)
    collection = poll.catalogue.find(TENANT, "listed")
    assert collection is not None
    return collection


def _query(k: int) -> SearchVectors:
    return SearchVectors(
        origin=_EMBEDDINGS[0], k=k, filter=None, ef_search=40, exact=False, min_score=None, include=Include(),
        metrics=QueryMetrics(CollectorRegistry()),
    )  # fmt: skip


async def _plan(databases: Databases, settings: Mapping[str, str]) -> str:
    sql, values = _query(k=1).statement(await _collection(databases), settings)
    for number, value in reversed(list(enumerate(values, start=1))):
        text = f"'[{','.join(map(str, value))}]'" if isinstance(value, np.ndarray) else f"'{value}'"
        sql = sql.replace(f"${number}::", f"{text}::")
    async with connected(databases.read_reader_dsn) as connection:
        return "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN (ANALYZE, COSTS OFF, BUFFERS) {sql}"))


def _nearest(query: Float32Array, among: np.ndarray) -> list[str]:
    similarity = _EMBEDDINGS[among] @ query / np.linalg.norm(_EMBEDDINGS[among], axis=1)
    return [f"v{n:04}" for n in among[np.argsort(-similarity)[:10]]]


@pytest.mark.usefixtures("listed")
async def test_probes_take_effect_in_the_statement_that_brings_them(databases: Databases) -> None:
    settings = scan_settings(await _collection(databases), k=1, ef_search=40)
    assert settings is not None
    assert settings["ivfflat.probes"] == "8"
    touched = []
    for probes in (1, 8, LISTS, 1):
        plan = await _plan(databases, {**settings, "ivfflat.probes": str(probes)})
        scan = plan[plan.index("_ivfflat") :]
        buffers = scan[scan.index("Buffers:") :].splitlines()[0]
        touched.append(int(buffers.split("hit=")[1].split()[0]))
    assert touched[0] < touched[1] < touched[2]
    assert touched[0] == touched[3]


@pytest.mark.usefixtures("listed")
async def test_a_search_through_the_lists_finds_nearly_what_an_exact_one_finds(service: httpx.AsyncClient) -> None:
    shares = []
    for query in np.random.default_rng(12).standard_normal((50, DIMENSION)).astype(np.float32):
        body = {"embedding": query.tolist(), "k": 10, "include": []}
        answer = await service.post("/api/v1/collections/listed/vectors/search", json=body)
        found = [hit["id"] for hit in answer.json()["hits"]]
        distances = [hit["distance"] for hit in answer.json()["hits"]]
        assert distances == sorted(distances)
        shares.append(len(set(found) & set(_nearest(query, np.arange(NUMBER)))) / 10)
    assert 0.8 < np.mean(shares) < 1.0  # some lists were left out, so it was the index that answered


@pytest.mark.usefixtures("listed")
async def test_a_filtered_search_goes_on_to_further_lists_instead_of_beginning_anew(databases: Databases) -> None:
    query = replace(_query(k=200), filter=parse_filter({"some": False}))
    collection = await _collection(databases)
    settings = query.settings(collection)
    assert settings is not None
    async with connected(databases.read_reader_dsn) as connection:
        await register_vector(connection)
        # The index is the planner's only way in; the lists that the search begins with hold fewer that match.
        for node in ("seqscan", "sort"):
            await connection.execute(f"SET enable_{node} = off")
        scans = {}
        for iterative_scan in ("relaxed_order", "off"):
            begun = {**settings, "ivfflat.probes": "'2'", "ivfflat.iterative_scan": f"'{iterative_scan}'"}
            sql, values = query.statement(collection, begun)
            rows = await connection.fetch(sql, *values)
            assert len(rows) == 200
            scans[iterative_scan] = rows[0]["scan"]
    assert scans == {"relaxed_order": "index", "off": "finished_exactly"}


async def test_a_collection_whose_index_is_still_to_be_made_is_searched_exactly(
    service: httpx.AsyncClient, read_model: ReadModel
) -> None:
    collection_id = await read_model.create("not-yet-listed", DIMENSION, index="ivfflat")
    await read_model.put(collection_id, [Row(f"v{n:04}", _EMBEDDINGS[n]) for n in range(200)])
    await asyncio.sleep(0.03)
    for query in _EMBEDDINGS[300:310]:
        body = {"embedding": query.tolist(), "k": 10, "include": []}
        answer = await service.post("/api/v1/collections/not-yet-listed/vectors/search", json=body)
        assert [hit["id"] for hit in answer.json()["hits"]] == _nearest(query, np.arange(200))


def test_probes_are_the_square_root_of_the_lists() -> None:
    assert [probes_for(lists) for lists in (1, 10, 20, 64, 1_000, 32_768)] == [1, 4, 5, 8, 32, 182]
