"""A search whose index scan stops before it has found enough is finished exactly, and nobody can tell."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest

from tests.query.conftest import running_service
from tests.query.read_model import ReadModel, Row
from tests.servers import Databases, connected

NUMBER, DIMENSION = 400, 8


async def finished_exactly(service: httpx.AsyncClient) -> float:
    found = re.search(
        r'^aindusdb_query_searches_total\{kind="finished_exactly"\} (\S+)$',
        (await service.get("/metrics")).text,
        re.MULTILINE,
    )
    return float(found.group(1)) if found else 0.0


@pytest.mark.parametrize("rare", [True, False])
async def test_an_index_scan_that_stops_short_is_finished_exactly(
    databases: Databases, read_model: ReadModel, rare: bool
) -> None:
    name = f"short-{rare}".lower()
    embeddings = np.random.default_rng(1).standard_normal((NUMBER, DIMENSION)).astype(np.float32)
    query = embeddings[0]
    similarity = embeddings @ query / np.linalg.norm(embeddings, axis=1)
    far = np.argsort(similarity)[:5]
    collection_id = await read_model.create(name, DIMENSION)
    await read_model.put(
        collection_id, [Row(f"v{n:03}", embedding, {"far": bool(n in far)}) for n, embedding in enumerate(embeddings)]
    )
    # The index is the planner's only way in, and its scan gives up after a few rows.
    database = urlsplit(databases.read_reader_dsn).path.lstrip("/")
    async with connected(databases.read_admin_dsn) as admin:
        for setting in ("hnsw.max_scan_tuples = 1", "enable_seqscan = off", "enable_bitmapscan = off",
                        "enable_sort = off", "enable_hashjoin = off", "enable_mergejoin = off"):  # fmt: skip
            await admin.execute(f'ALTER ROLE aindusdb_query IN DATABASE "{database}" SET {setting}')
    body = {"embedding": query.tolist(), "k": 5, "ef_search": 1 if rare else 40, "include": []}
    if rare:
        body["filter"] = {"far": True}
    async with running_service(databases.read_reader_dsn) as service:
        answer = await service.post(f"/api/v1/collections/{name}/vectors/search", json=body)
        hits = [hit["id"] for hit in answer.json()["hits"]]
        finished = await finished_exactly(service)
    nearest = [f"v{n:03}" for n in (sorted(far, key=lambda n: -similarity[n]) if rare else np.argsort(-similarity)[:5])]
    assert hits == nearest
    assert finished == (1 if rare else 0)
