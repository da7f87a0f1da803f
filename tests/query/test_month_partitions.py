"""A filter on `$created_at` asks only the months that it speaks of, whatever way a search takes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import numpy as np
import pytest
import pytest_asyncio

from tests.query.read_model import ReadModel, Row

MONTHS, OF_EACH, DIMENSION = 4, 1_000, 8
_PATH = "/api/v1/collections/dated/vectors"
_EMBEDDINGS = np.random.default_rng(3).standard_normal((MONTHS * OF_EACH, DIMENSION)).astype(np.float32)
_UNIT = _EMBEDDINGS / np.linalg.norm(_EMBEDDINGS, axis=1, keepdims=True)
_BEGIN = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
_MIDDLES = [_BEGIN - timedelta(days=31 * month - 14) for month in range(MONTHS)]
"""A day in each of the last months, the newest first."""


@pytest_asyncio.fixture(scope="module")
async def dated(read_model: ReadModel) -> None:
    collection_id = await read_model.create("dated", DIMENSION, month_partitions=True)
    rows = [
        Row(f"v{n:04}", _EMBEDDINGS[n], {"n": n, "even": n % 2 == 0}, created_at=_MIDDLES[n % MONTHS])
        for n in range(MONTHS * OF_EACH)
    ]
    await read_model.put(collection_id, rows)
    await read_model.connection.execute("ANALYZE")
    await asyncio.sleep(0.03)


def _executed(plan: dict[str, Any]) -> Iterator[str]:
    if plan["Actual Loops"]:
        if "Relation Name" in plan:
            yield plan["Relation Name"]
        for inner in plan.get("Plans", ()):
            yield from _executed(inner)


def _months(found: dict[str, Any]) -> set[str]:
    """Those whose embeddings were read."""
    names = _executed(found["explain"]["plan"])
    return {match[1] for name in names if (match := re.fullmatch(r"embeddings_.*_(\d{6})", name))}


def _since(month: int) -> dict[str, Any]:
    return {"$created_at": {"$gte": {"$date": (_MIDDLES[month] - timedelta(days=1)).isoformat()}}}


@pytest.mark.usefixtures("dated")
@pytest.mark.parametrize(
    ("filter_", "exact", "scan", "months"),
    [
        ({}, False, "index", MONTHS),
        (_since(0), False, "index", 1),
        (_since(1), False, "index", 2),
        ({**_since(0), "even": True}, False, "index", 1),
        ({**_since(0), "n": {"$lt": 40}}, False, "exact", 1),
        ({**_since(0), "n": {"$lt": 2000}}, True, "exact", 1),
        (_since(1), True, "exact", 2),
        ({"$or": [_since(0), {"n": 17}]}, True, "exact", MONTHS),
    ],
)
async def test_only_the_months_that_the_filter_speaks_of_are_searched(
    service: httpx.AsyncClient, filter_: dict[str, Any], exact: bool, scan: str, months: int
) -> None:
    query = np.random.default_rng(5).standard_normal(DIMENSION).astype(np.float32)
    body = {"embedding": query.tolist(), "filter": filter_, "k": 5, "include": [], "exact": exact, "explain": True}
    answer = await service.post(f"{_PATH}/search", json={**body, "ef_search": 200})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["explain"]["scan"], len(_months(found))) == (scan, months)
    numbers = np.arange(MONTHS * OF_EACH)
    among = numbers % MONTHS < months
    among &= (numbers % 2 == 0) | ("even" not in filter_)
    among &= numbers < filter_.get("n", {"$lt": len(numbers)})["$lt"]
    if "$or" in filter_:
        among = (numbers % MONTHS == 0) | (numbers == 17)
    nearest = numbers[among][np.argsort(-(_UNIT[among] @ query))[:5]]
    assert [hit["id"] for hit in found["hits"]] == [f"v{n:04}" for n in nearest]
    counted = (await service.post(f"{_PATH}/count", json={"filter": filter_})).json()
    assert counted["count"] == among.sum()
