"""Searches by text: by a tiny model in the service, and by an endpoint that the test holds in its hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import pytest_asyncio
from starlette.responses import JSONResponse, PlainTextResponse, Response

from shared.embedding.fastembed_model import load_model
from tests.embedding.endpoint import Endpoint, answered, numbers_of, running_endpoint
from tests.embedding.tiny_model import DIMENSION, MAX_TOKENS, write_tiny_model
from tests.query.conftest import running_service
from tests.query.read_model import ReadModel, Row
from tests.servers import Databases

API = "/api/v1/collections"
TINY = "tiny-searched"
WORDS = ["wing", "flutter", "slipstream", "boundary layer", "shock wave", "heat transfer", "orbit", "re-entry"]

_names = (f"searched{number}" for number in count())


@pytest_asyncio.fixture(scope="module")
async def tiny(databases: Databases, read_model: ReadModel, tmp_path_factory: Any) -> AsyncIterator[Tiny]:
    folder = write_tiny_model(tmp_path_factory.mktemp("models") / TINY)
    model = load_model(TINY, folder)
    rows = [
        Row(word, text.numbers, {"length": len(word)}, word)
        for word, text in zip(WORDS, model.embed(WORDS, "content"), strict=True)
    ]
    name = next(_names)
    await read_model.put(await read_model.create(name, DIMENSION, provider="fastembed", model=TINY), rows)
    async with running_service(databases.read_reader_dsn, embedding_path=folder) as client:
        yield Tiny(client, name)


class Tiny:
    """The service with the tiny model, and a collection that holds the words."""

    def __init__(self, client: httpx.AsyncClient, name: str) -> None:
        self.client = client
        self.path = f"{API}/{name}/vectors/search"


@pytest_asyncio.fixture(scope="module")
async def endpoint() -> AsyncIterator[Endpoint]:
    async with running_endpoint() as running:
        yield running


@pytest.fixture(autouse=True)
def healthy(endpoint: Endpoint) -> None:
    endpoint.healthy()


def embedding_by(endpoint: Endpoint, model: str = "a-model", **changes: Any) -> dict[str, Any]:
    return {
        "embedding_provider": "openai", "embedding_url": endpoint.url, "embedding_model": model,
        "embedding_timeout_seconds": 0.5, **changes,
    }  # fmt: skip


@pytest.mark.parametrize("word", WORDS)
async def test_each_text_finds_itself_first(tiny: Tiny, word: str) -> None:
    answer = await tiny.client.post(tiny.path, json={"query": word, "k": 3})
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert document["hits"][0]["id"] == word
    assert document["hits"][0]["score"] == pytest.approx(1, abs=1e-6)
    assert (len(document["hits"]), document["truncated"]) == (3, False)


async def test_get_finds_what_the_post_finds(tiny: Tiny) -> None:
    wanted: dict[str, Any] = {
        "query": "wave of a shock",
        "k": 4,
        "ef_search": 50,
        "include": ["metadata"],
        "min_score": -0.5,
    }
    posted = (await tiny.client.post(tiny.path, json={**wanted, "filter": {"length": 10}})).json()
    parameters = {**wanted, "filter": json.dumps({"length": 10})}
    got = (await tiny.client.get(tiny.path, params=parameters)).json()
    assert got["hits"] == posted["hits"]
    assert [hit["metadata"] for hit in got["hits"]] == [{"length": 10}] * len(got["hits"])
    assert got["hits"]
    assert {"content", "embedding"}.isdisjoint(got["hits"][0])
    assert got["truncated"] is False


@pytest.mark.parametrize(
    ("parameters", "problem", "names"),
    [
        ({}, "validation", "query"),
        ({"query": ""}, "validation", "query"),
        ({"query": " "}, "validation", "query"),
        ({"query": "x", "k": "0"}, "validation", "k"),
        ({"query": "x", "unknown": "1"}, "validation", "unknown"),
        ({"query": "x", "embedding": "1"}, "validation", "embedding"),
        ({"query": "x", "include": "everything"}, "validation", "include"),
        ({"query": "x", "filter": "{"}, "invalid-filter", "/filter"),
        ({"query": "x", "filter": "[1]"}, "invalid-filter", "/filter"),
        ({"query": "x", "filter": '{"$no": 1}'}, "invalid-filter", "/filter"),
        ({"query": "x", "filter": '{"a": 1, "a": 2}'}, "invalid-filter", "/filter"),
        ({"query": "x", "model": "other"}, "model-mismatch", "/model"),
    ],
)
async def test_parameter_that_breaks_a_rule_is_named(
    tiny: Tiny, parameters: dict[str, str], problem: str, names: str
) -> None:
    answer = await tiny.client.get(tiny.path, params=parameters)
    assert (answer.status_code, answer.json()["type"]) == (422, f"/problems/{problem}"), answer.text
    assert answer.json()["errors"][0]["pointer"].startswith(names)


async def test_query_that_is_longer_than_the_model_sees_is_answered_as_truncated(tiny: Tiny) -> None:
    start = "w" * MAX_TOKENS
    whole = (await tiny.client.post(tiny.path, json={"query": start})).json()
    longer = (await tiny.client.post(tiny.path, json={"query": start + "i" * 500})).json()
    assert (whole["truncated"], longer["truncated"]) == (False, True)
    assert [hit["distance"] for hit in longer["hits"]] == [hit["distance"] for hit in whole["hits"]]
    assert "truncated" not in (await tiny.client.post(tiny.path, json={"embedding": [1.0] * DIMENSION})).json()


async def _metric(service: httpx.AsyncClient, source: str) -> float:
    start = f'aindusdb_embedding_texts_total{{source="{source}"}} '
    lines = (await service.get("/metrics")).text.splitlines()
    return next(float(line.removeprefix(start)) for line in lines if line.startswith(start))


async def test_the_same_query_is_embedded_once_here_and_found_in_redis_elsewhere(
    databases: Databases, read_model: ReadModel, endpoint: Endpoint, redis_url: str
) -> None:
    name = next(_names)
    await read_model.create(name, 8, provider="openai", model="a-model")
    settings = embedding_by(endpoint, redis_url=redis_url)
    body = {"query": f"only once {name}"}
    asked = len(endpoint.requests)
    async with running_service(databases.read_reader_dsn, **settings) as service:
        for _ in range(3):
            assert (await service.post(f"{API}/{name}/vectors/search", json=body)).status_code == 200
        assert (await _metric(service, "computed"), await _metric(service, "l1")) == (1, 2)
    async with running_service(databases.read_reader_dsn, **settings) as service:
        assert (await service.post(f"{API}/{name}/vectors/search", json=body)).status_code == 200
        assert (await _metric(service, "computed"), await _metric(service, "l2")) == (0, 1)
    assert len(endpoint.requests) == asked + 1


async def test_many_at_once_with_the_same_query_embed_it_once(
    databases: Databases, read_model: ReadModel, endpoint: Endpoint
) -> None:
    name = next(_names)
    await read_model.create(name, 8, provider="openai", model="a-model")
    asked = len(endpoint.requests)
    async with running_service(databases.read_reader_dsn, **embedding_by(endpoint)) as service:
        endpoint.fault = lambda _number, _texts: 0.1
        searches = [service.get(f"{API}/{name}/vectors/search", params={"query": "all at once"}) for _ in range(20)]
        assert {answer.status_code for answer in await asyncio.gather(*searches)} == {200}
    assert len(endpoint.requests) == asked + 1


@pytest.mark.parametrize(
    "spec", [("client", None), ("client", "a-model"), ("openai", "another"), ("fastembed", "a-model")]
)
async def test_collection_of_another_model_is_refused_before_anybody_is_asked(
    databases: Databases, read_model: ReadModel, endpoint: Endpoint, spec: tuple[str, str | None]
) -> None:
    name = next(_names)
    await read_model.create(name, 8, provider=spec[0], model=spec[1])
    asked = len(endpoint.requests)
    async with running_service(databases.read_reader_dsn, **embedding_by(endpoint)) as service:
        answer = await service.get(f"{API}/{name}/vectors/search", params={"query": "x"})
        assert (answer.status_code, answer.json()["type"]) == (422, "/problems/model-mismatch")
        assert answer.json()["expected"] == {"provider": spec[0], "model": spec[1], "dimension": 8}
        assert answer.json()["errors"][0]["pointer"] == "/query"
        missing = await service.get(f"{API}/absent/vectors/search", params={"query": "x"})
        assert (missing.status_code, missing.json()["type"]) == (404, "/problems/collection-not-found")
    assert len(endpoint.requests) == asked


AWAY: dict[str, Callable[[int, list[str]], Response | float]] = {
    "silent": lambda _number, _texts: 3.0,
    "failing": lambda _number, _texts: PlainTextResponse("no", 500),
    "nonsense": lambda _number, _texts: JSONResponse({"data": "no"}),
    "wrong dimension": lambda _number, texts: answered([numbers_of(text, 9) for text in texts]),
}


@pytest.mark.parametrize("fault", AWAY.values(), ids=AWAY.keys())
async def test_endpoint_that_fails_fails_searches_by_text_only(
    databases: Databases,
    read_model: ReadModel,
    endpoint: Endpoint,
    fault: Callable[[int, list[str]], Response | float],
) -> None:
    name = next(_names)
    collection_id = await read_model.create(name, 8, provider="openai", model="a-model")
    await read_model.put(collection_id, [Row("a", np.ones(8, dtype=np.float32))])
    async with running_service(databases.read_reader_dsn, **embedding_by(endpoint)) as service:
        endpoint.fault = fault
        answer = await service.get(f"{API}/{name}/vectors/search", params={"query": f"unlucky {name}"})
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/dependency-unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        brought = await service.post(f"{API}/{name}/vectors/search", json={"embedding": [1.0] * 8, "model": "a-model"})
        assert [hit["id"] for hit in brought.json()["hits"]] == ["a"]
        assert (await service.get("/ready")).status_code == 200


async def test_zero_embedding_of_a_text_is_a_problem_of_the_query(
    databases: Databases, read_model: ReadModel, endpoint: Endpoint
) -> None:
    name = next(_names)
    await read_model.create(name, 8, provider="openai", model="a-model")
    async with running_service(databases.read_reader_dsn, **embedding_by(endpoint)) as service:
        endpoint.fault = lambda _number, texts: answered([[0.0] * 8 for _ in texts])
        answer = await service.get(f"{API}/{name}/vectors/search", params={"query": "nothing at all"})
        assert (answer.status_code, answer.json()["type"]) == (422, "/problems/zero-vector")
        assert answer.json()["errors"][0]["pointer"] == "/query"


async def test_service_without_provider_says_how_to_switch_one_on(databases: Databases, read_model: ReadModel) -> None:
    name = next(_names)
    await read_model.create(name, 8, provider="fastembed", model="m")
    async with running_service(databases.read_reader_dsn, embedding_provider="none") as service:
        answer = await service.post(f"{API}/{name}/vectors/search", json={"query": "x"})
        assert (answer.status_code, answer.json()["type"]) == (422, "/problems/validation")
        assert "AINDUSDB_EMBEDDING_PROVIDER" in answer.json()["detail"]


async def test_model_that_is_missing_is_said_in_the_answer_and_by_ready(
    databases: Databases, read_model: ReadModel, tmp_path: Path
) -> None:
    name = next(_names)
    await read_model.create(name, 8, provider="fastembed", model="gone")
    async with running_service(databases.read_reader_dsn, embedding_path=tmp_path / "gone") as service:
        answer = await service.post(f"{API}/{name}/vectors/search", json={"query": "x"})
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/dependency-unavailable")
        assert "AINDUSDB_EMBEDDING_PATH" in answer.json()["detail"]
        ready = await service.get("/ready")
        assert (ready.status_code, ready.json()["status"]) == (200, "ready")
        assert "AINDUSDB_EMBEDDING_PATH" in ready.json()["checks"]["embedding"]
