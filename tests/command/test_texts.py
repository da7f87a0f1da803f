"""Texts that become vectors: over real appends, embedded by an endpoint that the test holds in its hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import httpx
import pytest
import pytest_asyncio
from starlette.responses import JSONResponse, PlainTextResponse, Response

from aindusdb.local_stack.ports import free_port
from events_schema.embedding import decode
from tests.command.conftest import running_service
from tests.embedding.endpoint import DIMENSION, Endpoint, answered, numbers_of, running_endpoint
from tests.embedding.tiny_model import DIMENSION as TINY_DIMENSION
from tests.embedding.tiny_model import MAX_TOKENS, write_tiny_model
from tests.servers import Databases, connected

Log: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

API = "/api/v1"
MODEL = "a-model"

_names = (f"texts{number}" for number in count())


@pytest_asyncio.fixture(scope="module")
async def endpoint() -> AsyncIterator[Endpoint]:
    async with running_endpoint() as running:
        yield running


@pytest_asyncio.fixture(scope="module")
async def texts(databases: Databases, endpoint: Endpoint, redis_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """The service with an endpoint for its provider."""
    async with running_service(databases, redis_url=redis_url, **embedding_by(endpoint)) as client:
        yield client


@pytest.fixture(autouse=True)
def healthy(endpoint: Endpoint) -> None:
    endpoint.healthy()


def embedding_by(endpoint: Endpoint, model: str = MODEL, **changes: Any) -> dict[str, Any]:
    return {
        "embedding_provider": "openai", "embedding_url": endpoint.url, "embedding_model": model,
        "embedding_timeout_seconds": 0.5, **changes,
    }  # fmt: skip


async def collection(service: httpx.AsyncClient, **fields: Any) -> str:
    name = next(_names)
    answer = await service.post(f"{API}/collections", json={"name": name, **fields})
    assert answer.status_code == 201, answer.text
    return f"{API}/collections/{name}"


async def head(log: Log) -> int:
    position: int = await log.fetchval("SELECT coalesce(max(position), 0) FROM events")
    return position


async def last_event(log: Log) -> dict[str, Any]:
    row = await log.fetchrow("SELECT event_type, event_data FROM events ORDER BY position DESC LIMIT 1")
    assert row is not None
    return {"event_type": row["event_type"], **json.loads(row["event_data"])}


def embedded(event: dict[str, Any]) -> list[float]:
    numbers: list[float] = decode(event["embeddings"][0]["data"]).tolist()
    return numbers


async def test_collection_without_dimension_and_model_takes_those_of_the_service(texts: httpx.AsyncClient) -> None:
    created = (await texts.post(f"{API}/collections", json={"name": "service-model"})).json()
    assert {key: created[key] for key in ("dimension", "model", "provider")} == {
        "dimension": DIMENSION, "model": MODEL, "provider": "openai",
    }  # fmt: skip
    named = (await texts.post(f"{API}/collections", json={"name": "named-model", "model": MODEL})).json()
    assert (named["dimension"], named["provider"]) == (DIMENSION, "openai")


async def test_collection_with_a_dimension_alone_or_another_model_is_for_embeddings_that_are_brought(
    texts: httpx.AsyncClient,
) -> None:
    plain = (await texts.post(f"{API}/collections", json={"name": "plain", "dimension": DIMENSION})).json()
    assert (plain["model"], plain["provider"]) == (None, "client")
    other = (await texts.post(f"{API}/collections", json={"name": "other", "dimension": 5, "model": "other"})).json()
    assert (other["dimension"], other["model"], other["provider"]) == (5, "other", "client")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"model": MODEL, "dimension": DIMENSION + 1}, "dimension-mismatch"),
        ({"model": "other"}, "validation"),
    ],
)
async def test_dimension_that_is_not_the_models_is_refused_and_no_collection_made(
    texts: httpx.AsyncClient, log: Log, fields: dict[str, Any], problem: str
) -> None:
    before = await head(log)
    answer = await texts.post(f"{API}/collections", json={"name": next(_names), **fields})
    assert (answer.status_code, answer.json()["type"]) == (422, f"/problems/{problem}")
    assert answer.json()["errors"][0]["pointer"] == "/dimension"
    assert await head(log) == before


async def test_model_too_large_for_the_index_is_refused_at_creation(
    texts: httpx.AsyncClient, endpoint: Endpoint, databases: Databases
) -> None:
    endpoint.fault = lambda _number, asked: answered([numbers_of(text, 2_001) for text in asked])
    async with running_service(databases, **embedding_by(endpoint)) as service:
        body = {"name": next(_names), "model": MODEL}
        refused = await service.post(f"{API}/collections", json=body)
        assert (refused.status_code, refused.json()["type"]) == (422, "/problems/validation")
        assert "halfvec" in refused.json()["detail"]
        assert (await service.post(f"{API}/collections", json={**body, "type": "halfvec"})).status_code == 201


async def test_content_is_embedded_and_its_event_names_the_spec(texts: httpx.AsyncClient, log: Log) -> None:
    vectors = f"{await collection(texts)}/vectors"
    answer = await texts.post(vectors, json={"id": "a", "content": "wing flutter"})
    assert (answer.status_code, answer.json()["truncated"]) == (201, False)
    event = await last_event(log)
    assert event["embeddings"][0]["spec"] == {"provider": "openai", "model": MODEL, "dimension": DIMENSION}
    assert embedded(event) == numbers_of("wing flutter")
    assert (await texts.put(f"{vectors}/a", json={"content": "other"})).json()["version"] == 2
    assert embedded(await last_event(log)) == numbers_of("other")


async def test_patched_content_is_embedded_anew_and_metadata_alone_is_not(
    texts: httpx.AsyncClient, endpoint: Endpoint, log: Log
) -> None:
    vectors = f"{await collection(texts)}/vectors"
    await texts.post(vectors, json={"id": "a", "content": "before the patch"})
    assert (await texts.patch(f"{vectors}/a", json={"content": "after the patch"})).json()["version"] == 2
    event = await last_event(log)
    assert event.keys() == {"event_type", "id", "embeddings", "content"}
    assert embedded(event) == numbers_of("after the patch")
    asked = len(endpoint.requests)
    assert (await texts.patch(f"{vectors}/a", json={"metadata": {"x": 1}})).json()["version"] == 3
    assert (await texts.patch(f"{vectors}/a", json={"content": None})).json()["version"] == 4
    assert (await last_event(log)).keys() == {"event_type", "id", "content"}
    assert len(endpoint.requests) == asked


async def test_patched_content_of_a_collection_of_brought_embeddings_leaves_the_embedding(
    texts: httpx.AsyncClient, endpoint: Endpoint, log: Log
) -> None:
    vectors = f"{await collection(texts, dimension=3)}/vectors"
    await texts.post(vectors, json={"id": "a", "embedding": [1, 2, 3], "content": "x"})
    asked = len(endpoint.requests)
    assert (await texts.patch(f"{vectors}/a", json={"content": "y"})).json()["version"] == 2
    assert (await last_event(log)).keys() == {"event_type", "id", "content"}
    assert len(endpoint.requests) == asked


async def test_embedding_that_is_brought_along_is_taken_as_it_is(
    texts: httpx.AsyncClient, endpoint: Endpoint, log: Log
) -> None:
    vectors = f"{await collection(texts)}/vectors"
    asked = len(endpoint.requests)
    brought = [float(number) for number in range(1, DIMENSION + 1)]
    for body in ({"embedding": brought, "content": "x"}, {"embedding": brought, "content": "", "model": MODEL}):
        assert (await texts.post(vectors, json=body)).status_code == 201
    assert embedded(await last_event(log)) == brought
    assert len(endpoint.requests) == asked
    short = await texts.post(vectors, json={"embedding": [1.0], "content": "x"})
    assert (short.status_code, short.json()["type"]) == (422, "/problems/dimension-mismatch")


async def test_batch_of_texts_and_embeddings_is_one_transaction_and_few_requests(
    texts: httpx.AsyncClient, endpoint: Endpoint, log: Log
) -> None:
    vectors = f"{await collection(texts)}/vectors"
    brought = [1.0] * DIMENSION
    operations: list[dict[str, Any]] = [
        {"op": "upsert", "id": f"t{number}", "content": f"batch text {number}"} for number in range(150)
    ]
    operations.insert(7, {"op": "create", "id": "e", "embedding": brought})
    asked = len(endpoint.requests)
    answer = (await texts.post(f"{vectors}/batch", json={"operations": operations})).json()
    assert answer["last_position"] - answer["first_position"] == 150
    assert len(endpoint.requests) - asked == 3
    rows = await log.fetch(
        "SELECT event_data->>'content' AS content, event_data->'embeddings'->0->>'data' AS data FROM events "
        "WHERE position BETWEEN $1 AND $2 ORDER BY position",
        answer["first_position"], answer["last_position"],
    )  # fmt: skip
    assert all(
        decode(row["data"]).tolist() == (numbers_of(row["content"]) if row["content"] else brought) for row in rows
    )


async def _metric(service: httpx.AsyncClient, source: str) -> float:
    lines = (await service.get("/metrics")).text.splitlines()
    start = f'aindusdb_embedding_texts_total{{source="{source}"}} '
    return next(float(line.removeprefix(start)) for line in lines if line.startswith(start))


async def test_the_same_texts_again_append_nothing_and_compute_nothing(
    databases: Databases, endpoint: Endpoint, log: Log
) -> None:
    operations = [{"op": "upsert", "id": str(number), "content": f"twice {number}"} for number in range(100)]
    async with running_service(databases, **embedding_by(endpoint)) as service:
        vectors = f"{await collection(service)}/vectors"
        await service.post(f"{vectors}/batch", json={"operations": operations})
        before, asked = await head(log), len(endpoint.requests)
        computed = await _metric(service, "computed")
        answer = await service.post(f"{vectors}/batch", json={"operations": operations})
        assert {one["result"] for one in answer.json()["results"]} == {"unchanged"}
        assert await _metric(service, "l1") == 100
        assert await _metric(service, "computed") == computed
    async with running_service(databases, **embedding_by(endpoint)) as restarted:
        answer = await restarted.post(f"{vectors}/batch", json={"operations": operations})
        assert {one["result"] for one in answer.json()["results"]} == {"unchanged"}
        assert (await _metric(restarted, "l3"), await _metric(restarted, "computed")) == (100, 0)
    assert (await head(log), len(endpoint.requests)) == (before, asked)


async def test_unchanged_text_appends_nothing_though_it_is_embedded_anew_and_differently(
    databases: Databases, endpoint: Endpoint, log: Log
) -> None:
    async with running_service(databases, **embedding_by(endpoint)) as service:
        vectors = f"{await collection(service)}/vectors"
        await service.put(f"{vectors}/a", json={"content": "drifting"})
    await log.execute("DELETE FROM text_embeddings")
    before = await head(log)
    endpoint.fault = lambda _number, asked: answered([[n * 1.0000001 + 1e-6 for n in numbers_of(t)] for t in asked])
    async with running_service(databases, **embedding_by(endpoint)) as service:
        asked = len(endpoint.requests)
        assert (await service.put(f"{vectors}/a", json={"content": "drifting"})).json()["version"] == 1
        assert (await service.patch(f"{vectors}/a", json={"content": "drifting"})).json()["version"] == 1
        assert len(endpoint.requests) == asked + 1
        assert await head(log) == before
        changed = await service.put(f"{vectors}/a", json={"content": "drifting", "metadata": {"x": 1}})
        assert changed.json()["version"] == 2
        assert (await last_event(log)).keys() == {"event_type", "id", "metadata"}


@pytest.mark.parametrize("content", ["", " ", "\n\t　"])
async def test_blank_content_is_refused_by_its_field(
    texts: httpx.AsyncClient, endpoint: Endpoint, log: Log, content: str
) -> None:
    vectors = f"{await collection(texts)}/vectors"
    await texts.post(vectors, json={"id": "a", "content": "x"})
    before, asked = await head(log), len(endpoint.requests)
    for answer in (
        await texts.post(vectors, json={"content": content}),
        await texts.put(f"{vectors}/a", json={"content": content}),
        await texts.patch(f"{vectors}/a", json={"content": content}),
    ):
        assert (answer.status_code, answer.json()["type"]) == (422, "/problems/validation")
        assert [error["pointer"] for error in answer.json()["errors"]] == ["/content"]
    batch = [{"op": "upsert", "id": "b", "content": "fine"}, {"op": "patch", "id": "a", "content": content}]
    answer = await texts.post(f"{vectors}/batch", json={"operations": batch})
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/operations/1/content"]
    assert (await head(log), len(endpoint.requests)) == (before, asked)


async def test_text_that_the_endpoint_refuses_is_named_and_nothing_is_written(
    texts: httpx.AsyncClient, endpoint: Endpoint, log: Log
) -> None:
    vectors = f"{await collection(texts)}/vectors"

    def refuse(_number: int, asked: list[str]) -> Response | None:
        too_long = any(len(text) > 100 for text in asked)
        return JSONResponse({"error": {"message": "maximum context length"}}, 400) if too_long else None

    endpoint.fault = refuse
    before = await head(log)
    operations = [{"op": "create", "id": str(n), "content": f"short {n}"} for n in range(20)]
    operations[13]["content"] = "x" * 200
    answer = await texts.post(f"{vectors}/batch", json={"operations": operations})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/validation")
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/operations/13/content"]
    assert "maximum context length" in answer.json()["detail"]
    assert await head(log) == before


AWAY: dict[str, Callable[[int, list[str]], Response | float]] = {
    "silent": lambda _number, _texts: 3.0,
    "failing": lambda _number, _texts: PlainTextResponse("no", 503),
    "nonsense": lambda _number, _texts: PlainTextResponse("<html>"),
    "half a batch": lambda _number, texts: answered([numbers_of(text) for text in texts[1:]]),
    "wrong dimension": lambda _number, texts: answered([numbers_of(text, DIMENSION + 1) for text in texts]),
    "wrong key": lambda _number, _texts: PlainTextResponse("no", 401),
}


@pytest.mark.parametrize("fault", AWAY.values(), ids=AWAY.keys())
async def test_endpoint_that_fails_is_a_problem_that_says_so_and_nothing_is_written(
    databases: Databases, endpoint: Endpoint, log: Log, fault: Callable[[int, list[str]], Response | float]
) -> None:
    async with running_service(databases, **embedding_by(endpoint)) as service:
        name = (await collection(service)).rpartition("/")[2]
        before = await head(log)
        endpoint.fault = fault
        body = {"content": f"unlucky {next(_names)}"}
        answer = await service.post(f"{API}/collections/{name}/vectors", json=body)
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/dependency-unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        assert "text cannot be embedded now" in answer.json()["detail"]
        default = await service.post(f"{API}/vectors", json=body)
        assert default.status_code in (404, 503)
        assert await head(log) == before
        assert (await service.post(f"{API}/collections", json={"name": next(_names), "dimension": 3})).is_success
        assert (await service.get("/ready")).status_code == 200


async def test_service_without_provider_says_how_to_switch_one_on(databases: Databases, log: Log) -> None:
    async with running_service(databases, embedding_provider="none") as service:
        vectors = f"{await collection(service)}/vectors"
        before = await head(log)
        for answer in (
            await service.post(vectors, json={"content": "x"}),
            await service.post(f"{vectors}/batch", json={"operations": [{"op": "create", "content": "x"}]}),
        ):
            assert (answer.status_code, answer.json()["type"]) == (422, "/problems/validation")
            assert "AINDUSDB_EMBEDDING_PROVIDER" in answer.json()["detail"]
        assert await head(log) == before
        created = (await service.post(f"{API}/collections", json={"name": next(_names)})).json()
        assert (created["dimension"], created["provider"]) == (1536, "client")
        checks = (await service.get("/ready")).json()["checks"]
        assert "AINDUSDB_EMBEDDING_PROVIDER" in checks["embedding"]


async def test_model_that_cannot_be_loaded_lets_the_service_start_and_says_what_to_do(
    databases: Databases, tmp_path: Path
) -> None:
    settings = {"embedding_provider": "fastembed", "embedding_model": "absent", "embedding_path": tmp_path / "absent"}
    async with running_service(databases, **settings) as service:
        refused = await service.post(f"{API}/collections", json={"name": next(_names), "model": "absent"})
        assert (refused.status_code, refused.json()["type"]) == (503, "/problems/dependency-unavailable")
        assert "AINDUSDB_EMBEDDING_PATH" in refused.json()["detail"]
        ready = await service.get("/ready")
        assert ready.status_code == 200
        assert "AINDUSDB_EMBEDDING_PATH" in ready.json()["checks"]["embedding"]


async def test_collection_of_another_model_refuses_the_services_texts(
    databases: Databases, endpoint: Endpoint, log: Log
) -> None:
    async with running_service(databases, **embedding_by(endpoint)) as service:
        vectors = f"{await collection(service)}/vectors"
        await service.post(vectors, json={"id": "a", "content": "x"})
    before = await head(log)
    async with running_service(databases, **embedding_by(endpoint, "another-model")) as service:
        for answer in (
            await service.post(vectors, json={"content": "y"}),
            await service.put(f"{vectors}/a", json={"content": "y"}),
            await service.patch(f"{vectors}/a", json={"content": "y"}),
            await service.post(f"{vectors}/batch", json={"operations": [{"op": "create", "content": "y"}]}),
        ):
            assert (answer.status_code, answer.json()["type"]) == (422, "/problems/model-mismatch")
            assert answer.json()["expected"] == {"provider": "openai", "model": MODEL, "dimension": DIMENSION}
            assert answer.json()["errors"][0]["pointer"].endswith("/content")
        assert await head(log) == before
        brought = await service.post(vectors, json={"embedding": [1.0] * DIMENSION, "content": "y"})
        assert brought.status_code == 201


async def test_model_that_is_named_and_is_not_the_collections_is_refused(texts: httpx.AsyncClient, log: Log) -> None:
    vectors = f"{await collection(texts)}/vectors"
    before = await head(log)
    operations = [
        {"op": "create", "content": "x", "model": MODEL},
        {"op": "create", "embedding": [1.0] * DIMENSION, "model": "other"},
    ]
    answer = await texts.post(f"{vectors}/batch", json={"operations": operations})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/model-mismatch")
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/operations/1/model"]
    assert await head(log) == before


async def test_default_comes_into_being_with_the_model_of_its_first_text(
    endpoint: Endpoint, database_factory: Any
) -> None:
    async with database_factory.pair() as pair, running_service(pair, **embedding_by(endpoint)) as service:
        assert (await service.patch(f"{API}/vectors/a", json={"content": "x"})).status_code == 404
        assert (await service.post(f"{API}/vectors", json={"content": " "})).status_code == 422
        answers = await asyncio.gather(
            *(service.post(f"{API}/vectors", json={"content": f"first {number}"}) for number in range(5))
        )
        assert [answer.status_code for answer in answers] == [201] * 5
        async with connected(pair.events_owner_dsn) as log:
            spec = await log.fetchval("SELECT event_data->'embedding_spec'->>'provider' FROM events WHERE position = 1")
            assert spec == "openai"
            assert await head(log) == 6


async def test_default_of_brought_embeddings_refuses_texts(endpoint: Endpoint, database_factory: Any) -> None:
    async with database_factory.pair() as pair, running_service(pair, **embedding_by(endpoint)) as service:
        assert (await service.post(f"{API}/vectors", json={"embedding": [1.0] * DIMENSION})).status_code == 201
        refused = await service.post(f"{API}/vectors", json={"content": "x"})
        assert (refused.status_code, refused.json()["type"]) == (422, "/problems/model-mismatch")
        assert "brought by clients" in refused.json()["detail"]


async def test_text_that_is_longer_than_the_model_sees_is_answered_as_truncated(
    databases: Databases, tmp_path: Path
) -> None:
    settings = {"embedding_path": write_tiny_model(tmp_path / "tiny-truncating")}
    async with running_service(databases, **settings) as service:
        vectors = f"{await collection(service)}/vectors"
        long, short = "x" * (MAX_TOKENS + 1), "x"
        for _ in range(2):  # computed, then from the cache
            assert (await service.put(f"{vectors}/a", json={"content": long})).json()["truncated"] is True
            assert (await service.put(f"{vectors}/b", json={"content": short})).json()["truncated"] is False
        operations = [{"op": "upsert", "id": at, "content": text} for at, text in (("a", long), ("b", short))]
        results = (await service.post(f"{vectors}/batch", json={"operations": operations})).json()["results"]
        assert [one["truncated"] for one in results] == [True, False]
        again = [
            await service.put(f"{vectors}/c", json={"content": long}, headers={"Idempotency-Key": "truncated"})
            for _ in range(2)
        ]
        assert [answer.json()["truncated"] for answer in again] == [True, True]
        assert (await service.get("/ready")).json()["checks"]["embedding"] == "ok"
        created = (await service.post(f"{API}/collections", json={"name": next(_names)})).json()
        assert (created["dimension"], created["model"]) == (TINY_DIMENSION, "tiny-truncating")


async def test_texts_are_embedded_while_redis_is_away(databases: Databases, endpoint: Endpoint) -> None:
    async with running_service(
        databases, redis_url=f"redis://127.0.0.1:{free_port()}", **embedding_by(endpoint)
    ) as service:
        vectors = f"{await collection(service)}/vectors"
        for number in range(3):
            answer = await service.put(f"{vectors}/a", json={"content": f"no redis {number}"})
            assert answer.json()["version"] == number + 1
