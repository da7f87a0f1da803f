"""The examples of docs/concepts/filters.md find what the page says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from tests.query.read_model import ReadModel, Row

_PAGE = (Path(__file__).parents[2] / "docs" / "concepts" / "filters.md").read_text(encoding="utf-8")
_BLOCKS = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", _PAGE, re.DOTALL)]
_EXAMPLES = re.findall(r"\| `(\{.*?\})` \|(.*)\|$", _PAGE, re.MULTILINE)


@pytest_asyncio.fixture(scope="module", autouse=True)
async def _papers(read_model: ReadModel) -> None:
    collection_id = await read_model.create("papers", 2)
    vectors = _BLOCKS[1]
    await read_model.put(
        collection_id, [Row(one["id"], [1.0, 1.0], one.get("metadata", {}), one.get("content")) for one in vectors]
    )


def test_the_page_has_examples() -> None:
    assert len(_EXAMPLES) > 40


@pytest.mark.parametrize(("example", "finds"), _EXAMPLES)
async def test_an_example_finds_what_the_page_says(service: httpx.AsyncClient, example: str, finds: str) -> None:
    expected = {name.strip() for name in finds.split(",") if name.strip()}
    body = {"embedding": [1, 1], "filter": json.loads(example), "max_staleness_ms": 0}
    answer = await service.post("/api/v1/collections/papers/vectors/search", json=body)
    assert answer.status_code == 200, answer.text
    assert {hit["id"] for hit in answer.json()["hits"]} == expected


async def test_the_first_example_is_a_filter(service: httpx.AsyncClient) -> None:
    body = {"embedding": [1, 1], "filter": _BLOCKS[0]}
    answer = await service.post("/api/v1/collections/papers/vectors/search", json=body)
    assert [hit["id"] for hit in answer.json()["hits"]] == ["flutter"]
