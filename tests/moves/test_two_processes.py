"""Two command services over one event database: what one changes, the other has not heard of yet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from starlette.responses import JSONResponse, Response

from tests.command.conftest import running_service
from tests.embedding.endpoint import DIMENSION, Endpoint
from tests.moves.conftest import (
    API,
    AWAY,
    DIMENSIONS,
    NEW,
    OLD,
    THIRD,
    Log,
    Moving,
    by,
    collection,
    models,
)
from tests.servers import Databases


@pytest_asyncio.fixture
async def second(databases: Databases, endpoint: Endpoint) -> AsyncIterator[httpx.AsyncClient]:
    async with running_service(databases, **models(endpoint, OLD, NEW, THIRD, AWAY)) as client:
        yield client


def without(endpoint: Endpoint, model: str) -> None:
    """The model is switched off."""

    def fault(_number: int, _texts: list[str]) -> Response | None:
        return JSONResponse({"error": "away"}, status_code=503) if endpoint.models[-1] == model else None

    endpoint.fault = fault


async def on_the_way(moving: Moving, second: httpx.AsyncClient, model: str) -> None:
    """The move to the model cannot come to its end, and the second process has heard of it."""
    await moving.put("bare", embedding=[1.0] * DIMENSION)
    await moving.put("a", content="one")
    await moving.sent("PATCH", body={"model": model})
    answer = await second.put(f"{moving.path}/vectors/known", json={"content": "known to both"})
    assert answer.status_code == 201, answer.text
    assert (await moving.last("known"))[1] == by(model, OLD, text="known to both")


async def taken_back(moving: Moving, second: httpx.AsyncClient, endpoint: Endpoint) -> None:
    """The second process has not heard that the model is not needed any more, which is switched off."""
    await on_the_way(moving, second, AWAY)
    await moving.sent("PATCH", body={"model": OLD})
    without(endpoint, AWAY)


async def imported(service: httpx.AsyncClient, path: str, lines: bytes) -> httpx.Response:
    return await service.post(f"{path}/vectors/import", content=lines, headers={"Content-Type": "application/x-ndjson"})


async def test_model_that_is_not_needed_any_more_holds_no_write_up(
    moving: Moving, second: httpx.AsyncClient, endpoint: Endpoint
) -> None:
    await taken_back(moving, second, endpoint)
    answer = await second.put(f"{moving.path}/vectors/b", json={"content": "written after"})
    assert answer.status_code == 201, answer.text
    assert await moving.last("b") == ("VectorCreated", by(OLD, text="written after"))


async def test_model_that_is_not_needed_any_more_holds_no_import_up(
    moving: Moving, second: httpx.AsyncClient, endpoint: Endpoint
) -> None:
    await taken_back(moving, second, endpoint)
    answer = await imported(second, moving.path, b'{"id": "b", "content": "imported after"}\n')
    assert (answer.status_code, answer.json()["created"]) == (200, 1), answer.text
    assert await moving.last("b") == ("VectorCreated", by(OLD, text="imported after"))


async def test_model_that_is_needed_holds_writes_and_imports_up(
    moving: Moving, second: httpx.AsyncClient, endpoint: Endpoint
) -> None:
    await on_the_way(moving, second, AWAY)
    without(endpoint, AWAY)
    answers = [
        await second.put(f"{moving.path}/vectors/b", json={"content": "not now"}),
        await imported(second, moving.path, b'{"id": "b", "content": "not now either"}\n'),
    ]
    for answer in answers:
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/dependency-unavailable")


async def test_vector_is_restored_by_what_its_collection_is_by_now(
    moving: Moving, second: httpx.AsyncClient, endpoint: Endpoint
) -> None:
    await moving.put("bare", embedding=[1.0] * DIMENSION)
    await moving.put("a", content="restored one")
    await moving.put("a", content="restored two")
    learnt = await second.patch(f"{moving.path}/vectors/a", json={"metadata": {"known": True}})
    assert learnt.status_code == 200
    await moving.sent("PATCH", body={"model": NEW})
    answer = await second.post(f"{moving.path}/vectors/a/restore", json={"version": 1})
    assert answer.status_code == 200, answer.text
    assert (await moving.last("a"))[1] == by(NEW, OLD, text="restored one")
    # And where the other model is away, which nobody needs any more.
    await moving.sent("PATCH", body={"model": OLD})
    without(endpoint, NEW)
    answer = await second.post(f"{moving.path}/vectors/a/restore", json={"version": 2})
    assert answer.status_code == 200, answer.text
    assert (await moving.last("a"))[1] == by(OLD, text="restored two")


async def test_request_is_taken_back_whole_though_one_of_its_collections_moves(
    service: httpx.AsyncClient, second: httpx.AsyncClient, log: Log
) -> None:
    one, other = await collection(service, log), await collection(service, log)
    request_id = f"both-{uuid4()}"
    for of in (one, other):
        await of.put("a", content="before")
        answer = await second.put(
            f"{of.path}/vectors/a", json={"content": "after"}, headers={"X-Request-ID": request_id}
        )
        assert answer.status_code == 200
    await other.sent("PATCH", body={"model": NEW})
    answer = await second.post("/api/v1/restore", json={"request_id": request_id})
    assert answer.status_code == 200, answer.text
    assert (answer.json()["restored"], answer.json()["skipped"]) == (2, [])
    assert (await one.last("a"))[1] == by(OLD, text="before")
    assert (await other.last("a"))[1] == by(NEW, OLD, text="before")


async def test_deleted_collection_that_is_restored_may_move_meanwhile(
    moving: Moving, second: httpx.AsyncClient
) -> None:
    await moving.put("a", content="back again")
    await moving.sent("DELETE")
    back = {"collection_id": moving.collection_id}
    assert (await second.post(f"{moving.path}/restore", json=back)).json()["restored"] == 1
    await moving.sent("PATCH", body={"model": NEW})
    await moving.sent("DELETE", "/vectors/a")
    answer = await second.post(f"{moving.path}/restore", json=back)
    assert (answer.status_code, answer.json()["restored"]) == (200, 1), answer.text
    moving.collection_id = answer.json()["collection_id"]
    assert (await moving.last("a"))[1] == by(NEW, OLD, text="back again")


async def test_name_that_another_collection_has_by_now_is_written_to_as_that_is(
    service: httpx.AsyncClient, second: httpx.AsyncClient, log: Log
) -> None:
    moving = await collection(service, log, dimension=3)
    assert (await second.put(f"{moving.path}/vectors/a", json={"embedding": [1, 2, 3]})).status_code == 201
    await moving.sent("DELETE")
    gone = await second.put(f"{moving.path}/vectors/b", json={"embedding": [1, 2, 3, 4]})
    assert (gone.status_code, gone.json()["type"]) == (404, "/problems/collection-not-found")
    await service.post(API, json={"name": moving.path.rsplit("/", 1)[-1], "dimension": 3})
    assert (await second.put(f"{moving.path}/vectors/b", json={"embedding": [1, 2, 3]})).status_code == 201
    await moving.sent("DELETE")
    await service.post(API, json={"name": moving.path.rsplit("/", 1)[-1], "dimension": 4})
    answer = await second.put(f"{moving.path}/vectors/b", json={"embedding": [1, 2, 3, 4]})
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize("body", [{"content": "again"}, {"embedding": [2.0] * DIMENSION}])
async def test_repeated_write_is_answered_as_before_whatever_became_of_its_collection(
    service: httpx.AsyncClient, second: httpx.AsyncClient, endpoint: Endpoint, log: Log, body: dict[str, Any]
) -> None:
    moving = await collection(service, log)
    key = {"Idempotency-Key": f"once-{moving.path}-{len(body)}"}
    path = f"{moving.path}/vectors/a"
    first = await service.put(path, json=body, headers=key)
    assert first.status_code == 201
    batch = {"operations": [{"op": "create", **body}]}
    many = await service.post(f"{moving.path}/vectors/batch", json=batch, headers={"Idempotency-Key": f"b-{key}"})
    await moving.sent("PATCH", body={"model": AWAY})
    without(endpoint, AWAY)
    for process in (service, second):
        again = await process.put(path, json=body, headers=key)
        assert (again.status_code, again.json()) == (201, first.json()), again.text
        repeated = await process.post(
            f"{moving.path}/vectors/batch", json=batch, headers={"Idempotency-Key": f"b-{key}"}
        )
        assert (repeated.status_code, repeated.json()) == (200, many.json()), repeated.text
        reused = await process.put(path, json={**body, "metadata": {"x": 1}}, headers=key)
        assert (reused.status_code, reused.json()["type"]) == (422, "/problems/idempotency-key-reused")
    await moving.sent("DELETE")
    gone = await service.put(path, json=body, headers=key)
    assert (gone.status_code, gone.json()) == (201, first.json())
    other = await service.put(path, json=body, headers={"Idempotency-Key": "another"})
    assert other.status_code == 404


async def test_repeated_move_is_answered_as_before_though_its_model_is_not_there_any_more(
    moving: Moving, databases: Databases, endpoint: Endpoint
) -> None:
    key = {"Idempotency-Key": f"move-{moving.path}"}
    first = await moving.service.patch(moving.path, json={"model": NEW}, headers=key)
    assert first.status_code == 200
    await moving.sent("PATCH", body={"model": OLD})
    async with running_service(databases, **models(endpoint, OLD)) as service:
        again = await service.patch(moving.path, json={"model": NEW}, headers=key)
        assert (again.status_code, again.json()) == (200, first.json())
        refused = await service.patch(moving.path, json={"model": NEW})
        assert (refused.status_code, refused.json()["type"]) == (422, "/problems/model-mismatch")
    assert DIMENSIONS[NEW] == first.json()["dimension"]
