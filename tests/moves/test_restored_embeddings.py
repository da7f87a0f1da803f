"""What is restored while its collection moves, or after it has moved: with embeddings of which model it comes back."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx
import pytest
from starlette.responses import JSONResponse, Response

from tests.command.conftest import running_service
from tests.embedding.endpoint import DIMENSION, Endpoint
from tests.moves.conftest import (
    API,
    AWAY,
    DIMENSIONS,
    NEW,
    OLD,
    Log,
    Moving,
    by,
    collection,
    models,
)
from tests.servers import Databases

BARE, BEFORE, OF_NEW = [1.0] * DIMENSION, [2.0] * DIMENSION, [3.0] * DIMENSIONS[NEW]


async def changed(moving: Moving, *operations: dict[str, Any]) -> str:
    """By a request of this id."""
    answer = await moving.service.post(
        f"{moving.path}/vectors/batch", json={"operations": operations}, headers={"X-Request-ID": f"r-{uuid4()}"}
    )
    assert answer.status_code == 200, answer.text
    return answer.headers["x-request-id"]


async def taken_back(moving: Moving, request_id: str, **body: Any) -> tuple[int, int, set[tuple[str, str]]]:
    answer = await moving.service.post("/api/v1/restore", json={"request_id": request_id, **body})
    assert answer.status_code == 200, answer.text
    page = answer.json()
    return page["restored"], page["unchanged"], {(one["id"], one["reason"]) for one in page["skipped"]}


async def test_one_vector_that_cannot_come_back_holds_no_other_up(moving: Moving) -> None:
    await moving.put("gone", embedding=BARE)
    await moving.put("bare", embedding=BARE, metadata={"a": 1})
    await moving.put("turned", embedding=BEFORE)
    await moving.put("text", content="text")
    await moving.put("replaced", embedding=BEFORE)
    request_id = await changed(
        moving, {"op": "delete", "id": "gone"}, {"op": "patch", "id": "bare", "metadata": {"a": 2}},
        {"op": "upsert", "id": "turned", "embedding": BARE}, {"op": "delete", "id": "text"},
        {"op": "upsert", "id": "replaced", "content": "a content by now"},
    )  # fmt: skip
    await moving.sent("PATCH", body={"model": NEW})
    await moving.comes_to("blocked")
    assert await taken_back(moving, request_id) == (3, 0, {("gone", "no_embedding"), ("replaced", "no_embedding")})
    assert await moving.last("bare") == ("VectorUpdated", {})
    assert await moving.last("turned") == ("VectorUpdated", {OLD: BEFORE})
    assert await moving.last("text") == ("VectorCreated", by(NEW, OLD, text="text"))
    assert (await moving.last("replaced"))[1] == by(NEW, text="a content by now")
    # What blocks the move still does, and no other: nothing was lost, nor taken for something else.
    assert set((await moving.status())["without_content"]["ids"]) == {"bare", "turned"}


async def test_metadata_come_back_beside_an_embedding_that_was_brought_for_the_new_model(moving: Moving) -> None:
    await moving.put("bare", embedding=BARE, metadata={"a": 1})
    request_id = await changed(moving, {"op": "patch", "id": "bare", "metadata": {"a": 2}})
    await moving.sent("PATCH", body={"model": NEW})
    await moving.sent("PATCH", "/vectors/bare", {"embedding": OF_NEW, "model": NEW})
    await moving.comes_to("building")
    assert await taken_back(moving, request_id) == (0, 0, {("bare", "changed_since")})
    assert await taken_back(moving, request_id, force=True) == (1, 0, set())
    assert await moving.last("bare") == ("VectorUpdated", {})
    # Another one has come since: what came before is of something else.
    await moving.sent("PATCH", "/vectors/bare", {"embedding": [4.0] * DIMENSIONS[NEW], "model": NEW})
    assert await taken_back(moving, request_id, force=True) == (0, 0, {("bare", "no_embedding")})
    refused = await moving.sent("POST", "/vectors/bare/restore", {"version": 1}, status=422)
    assert refused["type"] == "/problems/model-mismatch"
    assert await moving.last("bare") == ("VectorUpdated", {NEW: [4.0] * DIMENSIONS[NEW]})


async def test_text_that_the_model_refuses_holds_no_other_up(moving: Moving, endpoint: Endpoint) -> None:
    for text in ("good", "refusable"):
        await moving.put(text, content=text)
    request_id = await changed(moving, {"op": "delete", "id": "good"}, {"op": "delete", "id": "refusable"})

    def fault(_number: int, texts: list[str]) -> Response | None:
        refused = endpoint.models[-1] == NEW and "refusable" in texts
        return JSONResponse({"error": {"message": "too long"}}, status_code=400) if refused else None

    endpoint.fault = fault
    await moving.sent("PATCH", body={"model": NEW})
    assert await taken_back(moving, request_id) == (1, 0, {("refusable", "no_embedding")})
    assert await moving.last("good") == ("VectorCreated", by(NEW, OLD, text="good"))


async def test_embedding_that_the_metric_cannot_compare_any_more_holds_no_other_up(
    service: httpx.AsyncClient, log: Log
) -> None:
    moving = await collection(service, log, dimension=2, metric="l2")
    await moving.put("zero", embedding=[0, 0])
    await moving.put("one", embedding=[1, 1])
    request_id = await changed(moving, {"op": "delete", "id": "zero"}, {"op": "delete", "id": "one"})
    await moving.sent("PATCH", body={"metric": "cosine"})
    assert await taken_back(moving, request_id) == (1, 0, {("zero", "no_embedding")})
    refused = await moving.sent("POST", "/vectors/zero/restore", {"version": 1}, status=422)
    assert refused["type"] == "/problems/zero-vector"


async def test_model_that_nobody_has_here_is_said_and_nothing_is_skipped_for_it(
    moving: Moving, databases: Databases, endpoint: Endpoint
) -> None:
    await moving.put("text", content="text")
    request_id = await changed(moving, {"op": "delete", "id": "text"})
    await moving.sent("PATCH", body={"model": AWAY})
    async with running_service(databases, **models(endpoint, OLD)) as without:
        answer = await without.post("/api/v1/restore", json={"request_id": request_id})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/model-mismatch")


@pytest.mark.parametrize("named", [{}, {"model": None}])
async def test_embeddings_without_a_model_go_on_while_their_collection_moves_to_one_of_their_dimension(
    service: httpx.AsyncClient, log: Log, named: dict[str, Any]
) -> None:
    moving = await collection(service, log, dimension=DIMENSION)
    await moving.put("before", content="before", embedding=BARE)
    await moving.sent("PATCH", body={"model": OLD})
    await moving.put("v", content="v", embedding=BEFORE, **named)
    assert await moving.last("v") == ("VectorCreated", {**by(OLD, text="v"), None: BEFORE})
    await moving.sent("PATCH", "/vectors/v", {"embedding": BARE, **named})
    assert await moving.last("v") == ("VectorUpdated", {None: BARE})
    await moving.sent("PATCH", "/vectors/v", {"embedding": BARE, "model": OLD})
    assert await moving.last("v") == ("VectorUpdated", {OLD: BARE})
    assert API in moving.path
