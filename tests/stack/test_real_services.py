"""The whole product behind one URL: what is written is found, before and after a restart."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from aindusdb.local_stack.ports import HOST
from tests.stack.running import StackUnderTest


@pytest.fixture
def product() -> Iterator[StackUnderTest]:
    with tempfile.TemporaryDirectory(prefix="aindusdb-stack-") as folder:
        under_test = StackUnderTest(Path(folder) / "data", module="aindusdb")
        under_test.up()
        yield under_test
        under_test.remove()


def test_what_is_written_is_found_before_and_after_a_restart(product: StackUnderTest) -> None:
    with httpx.Client(base_url=f"http://{HOST}:{product.port}", trust_env=False, timeout=30) as edge:
        created = edge.post("/api/v1/collections", json={"name": "stars", "dimension": 3})
        assert created.status_code == 201, created.text
        written = edge.put("/api/v1/collections/stars/vectors/vega", json={"embedding": [1, 0, 0], "content": "bright"})
        assert written.status_code == 201, written.text
        token = written.json()["consistency_token"]
        assert found(edge, token) == ["vega"]

        document = edge.get("/openapi.json").json()
        assert {"post", "get"} <= set(document["paths"]["/api/v1/collections"])
        assert len(edge.get("/docs/swagger-ui-bundle.js").content) > 100_000
        nowhere = edge.get("/nowhere")
        assert (nowhere.status_code, nowhere.json()["type"]) == (404, "/problems/route-not-found")
        status = product.status()
        assert all(process["state"] == "running" and process["restarts"] == 0 for process in status["processes"])
        assert status["log"]["head_position"] == status["log"]["watermark"] == 2

        product.down()
        product.up()
        assert found(edge, token) == ["vega"]


def found(edge: httpx.Client, token: str) -> list[str]:
    query: dict[str, Any] = {"embedding": [1, 0.1, 0], "k": 1, "consistency_token": token, "timeout_ms": 10_000}
    answer = edge.post("/api/v1/collections/stars/vectors/search", json=query)
    assert answer.status_code == 200, answer.text
    return [hit["id"] for hit in answer.json()["hits"]]
