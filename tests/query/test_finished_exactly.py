"""A search whose index scan stops before it has found enough is finished exactly, and nobody can tell."""

from __future__ import annotations

from urllib.parse import urlsplit

import numpy as np
import pytest

from tests.query.conftest import running_service
from tests.query.read_model import ReadModel, Row
from tests.servers import Databases, connected

NUMBER, DIMENSION = 400, 8


@pytest.mark.parametrize("deleted", [0, 380])
async def test_an_index_scan_that_stops_short_is_finished_exactly(
    databases: Databases, read_model: ReadModel, deleted: int
) -> None:
    """What was deleted a moment ago is still in the index, and a scan that finds only that gives up."""
    name = f"short-{deleted}"
    embeddings = np.random.default_rng(1).standard_normal((NUMBER, DIMENSION)).astype(np.float32)
    query = embeddings[0]
    nearest = np.argsort(-(embeddings @ query / np.linalg.norm(embeddings, axis=1)))
    collection_id = await read_model.create(name, DIMENSION)
    await read_model.put(collection_id, [Row(f"v{n:03}", embedding) for n, embedding in enumerate(embeddings)])
    await read_model.delete(collection_id, [f"v{n:03}" for n in nearest[:deleted]])
    # The index is the planner's only way in, and its scan gives up after a few rows.
    database = urlsplit(databases.read_reader_dsn).path.lstrip("/")
    async with connected(databases.read_admin_dsn) as admin:
        for setting in ("hnsw.max_scan_tuples = 1", "enable_seqscan = off", "enable_sort = off"):
            await admin.execute(f'ALTER ROLE aindusdb_query IN DATABASE "{database}" SET {setting}')
    body = {"embedding": query.tolist(), "k": 5, "include": [], "explain": True}
    async with running_service(databases.read_reader_dsn) as service:
        answer = (await service.post(f"/api/v1/collections/{name}/vectors/search", json=body)).json()
    assert [hit["id"] for hit in answer["hits"]] == [f"v{n:03}" for n in nearest[deleted : deleted + 5]]
    assert answer["explain"]["scan"] == ("finished_exactly" if deleted else "index")
