"""A collection that moves to another model, on a real event database: what its writes bring meanwhile, and what the log
has in the end."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from starlette.responses import JSONResponse, Response

from command_service import reembedding
from command_service.log_identity import renew_identity
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
from tests.projector.projecting import until
from tests.servers import DatabaseFactory, Databases, connected


async def test_every_content_is_embedded_by_the_new_model_once(moving: Moving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reembedding, "PAGE_VECTORS", 4)
    for number in range(10):
        await moving.put(f"v{number}", content=f"text {number}")
    await moving.put("v0", content="text 0 again")
    await moving.sent("DELETE", "/vectors/v1")
    assert (await moving.status())["state"] == "none"
    answer = await moving.sent("PATCH", body={"model": NEW, "dimension": DIMENSIONS[NEW]})
    assert (answer["model"], answer["dimension"]) == (NEW, DIMENSIONS[NEW])
    status = await moving.comes_to("building")
    assert {name: status[name] for name in ("model", "from_model", "embedded", "remaining", "since_position")} == {
        "model": NEW, "from_model": OLD, "embedded": 9, "remaining": 0, "since_position": answer["position"],
    }  # fmt: skip
    for number in range(2, 10):
        assert await moving.last(f"v{number}") == ("VectorReembedded", by(NEW, text=f"text {number}"))
    assert await moving.last("v0") == ("VectorReembedded", by(NEW, text="text 0 again"))
    assert len(await moving.events("VectorReembedded")) == 9
    [(_, completed)] = await moving.events("CollectionReembedded")
    assert completed["embedding_spec"] == {"provider": "openai", "model": NEW, "dimension": DIMENSIONS[NEW]}
    refused = await moving.sent("PATCH", body={"model": THIRD}, status=409)
    assert refused["type"] == "/problems/reembedding-in-progress"
    # Back, and what was left is not counted when the collection comes to it once more.
    assert (await moving.sent("PATCH", body={"model": OLD}))["model"] == OLD
    assert (await moving.status())["from_model"] == NEW


async def test_writes_bring_embeddings_of_both_models_meanwhile(moving: Moving) -> None:
    await moving.put("before", content="before")
    await moving.sent("PATCH", body={"model": NEW})
    await moving.comes_to("building")
    await moving.put("put", content="put")
    assert await moving.last("put") == ("VectorCreated", by(NEW, OLD, text="put"))
    await moving.sent("PATCH", "/vectors/put", {"content": "patched"})
    assert await moving.last("put") == ("VectorUpdated", by(NEW, OLD, text="patched"))
    await moving.sent("PATCH", "/vectors/put", {"metadata": {"a": 1}})
    assert await moving.last("put") == ("VectorUpdated", {})
    # One embedding is brought, the other computed; without a model the dimension says of which it is.
    brought = [2.0] * DIMENSIONS[OLD]
    await moving.put("put", content="with one", embedding=brought)
    assert await moving.last("put") == ("VectorUpdated", {**by(NEW, text="with one"), OLD: brought})
    await moving.sent("PATCH", "/vectors/put", {"embedding": [3.0] * DIMENSIONS[NEW], "model": NEW})
    assert await moving.last("put") == ("VectorUpdated", {NEW: [3.0] * DIMENSIONS[NEW]})
    batch = {"operations": [{"op": "create", "id": "in-batch", "content": "b"}, {"op": "delete", "id": "before"}]}
    await moving.sent("POST", "/vectors/batch", batch)
    assert await moving.last("in-batch") == ("VectorCreated", by(NEW, OLD, text="b"))
    lines = b'{"id": "line", "content": "line"}\n{"id": "bad", "embedding": [1, 1, 1, 1, 1, 1, 1, 1]}\n'
    imported = await moving.service.post(
        f"{moving.path}/vectors/import", content=lines, headers={"Content-Type": "application/x-ndjson"}
    )
    report = imported.json()
    assert (report["created"], report["failed"], report["errors"][0]["type"]) == (1, 1, "model-mismatch")
    assert await moving.last("line") == ("VectorCreated", by(NEW, OLD, text="line"))
    # Embeddings alone cannot make a vector now, nor can the model be another.
    lacking = await moving.sent("PUT", "/vectors/none", {"embedding": brought}, status=422)
    assert (lacking["type"], lacking["errors"][0]["pointer"]) == ("/problems/model-mismatch", "/content")
    foreign = await moving.sent("PUT", "/vectors/none", {"content": "a", "model": "other"}, status=422)
    assert "'new' or 'old', not 'other'" in foreign["detail"]
    wrong = await moving.sent("PUT", "/vectors/none", {"content": "a", "embedding": [1.0] * 5}, status=422)
    assert wrong["type"] == "/problems/dimension-mismatch"


async def test_embedding_says_of_which_of_two_models_of_one_dimension_it_is(moving: Moving) -> None:
    await moving.sent("PATCH", body={"model": THIRD})
    numbers = [2.0] * DIMENSION
    unclear = await moving.sent("PUT", "/vectors/v", {"content": "c", "embedding": numbers}, status=422)
    assert (unclear["type"], unclear["errors"][0]["pointer"]) == ("/problems/model-mismatch", "/model")
    assert "'third' or 'old'" in unclear["detail"]
    await moving.put("v", content="c", embedding=numbers, model=OLD)
    assert await moving.last("v") == ("VectorCreated", {**by(THIRD, text="c"), OLD: numbers})


async def test_vectors_without_content_block_and_are_named_until_they_have_what_they_lack(
    moving: Moving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reembedding, "PAGE_VECTORS", 2)
    monkeypatch.setattr(reembedding, "_TIMES_AS_LONG", 0)
    for number in range(12):
        await moving.put(f"n{number:02}", embedding=[1.0] * DIMENSION)
    await moving.put("text", content="text")
    await moving.put("blank", embedding=[1.0] * DIMENSION, content=" ")
    await moving.sent("PATCH", body={"model": NEW})
    status = await moving.comes_to("blocked")
    assert status["without_content"] == {"count": 13, "ids": [f"n{number:02}" for number in range(10)]}
    assert (status["embedded"], status["remaining"]) == (1, 13)
    assert "13 vectors have no content" in status["reason"]
    for number in range(10):
        await moving.sent("PATCH", f"/vectors/n{number:02}", {"embedding": [2.0] * DIMENSIONS[NEW], "model": NEW})
    await moving.sent("PATCH", "/vectors/n10", {"content": "now a text"})
    await moving.sent("DELETE", "/vectors/n11")
    await moving.sent("DELETE", "/vectors/blank")
    status = await moving.comes_to("building")
    assert (status["embedded"], status["remaining"], status["without_content"]["count"]) == (12, 0, 0)
    assert [data["id"] for _, data in await moving.events("VectorReembedded")] == ["text"]


async def test_what_blocks_is_looked_at_again_to_its_end_though_its_turn_is_over_before(
    moving: Moving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reembedding, "PAGE_VECTORS", 2)
    monkeypatch.setattr(reembedding, "_TIMES_AS_LONG", 0)
    monkeypatch.setattr(reembedding, "_TURN_SECONDS", 1e-3)
    for number in range(9):
        await moving.put(f"n{number}", embedding=[1.0] * DIMENSION)
    await moving.sent("PATCH", body={"model": NEW})
    await moving.comes_to("blocked")
    await moving.sent("PATCH", "/vectors/n8", {"content": "now a text"})

    async def is_seen() -> bool:
        return bool((await moving.status())["remaining"] == 8)

    await until(is_seen, "the last that blocked was not looked at again")


async def test_model_that_is_away_holds_the_move_up_and_the_move_can_be_taken_back(
    moving: Moving, endpoint: Endpoint
) -> None:
    await moving.put("v", content="another text")

    def fault(_number: int, texts: list[str]) -> Response | None:
        is_away = endpoint.models[-1] == AWAY and texts != ["dimension"]
        return JSONResponse({"error": "away"}, status_code=503) if is_away else None

    endpoint.fault = fault
    await moving.sent("PATCH", body={"model": AWAY})

    async def says_why() -> bool:
        status = await moving.status()
        return status["state"] == "embedding" and "503" in (status["reason"] or "")

    await until(says_why, "it was not said what holds the move up")
    await moving.sent("PUT", "/vectors/w", {"content": "not yet seen"}, status=503)
    # What no vector can be searched by is left at once, and texts are embedded by one model again.
    await moving.sent("PATCH", body={"model": OLD})
    assert (await moving.status())["state"] == "none"
    await moving.put("w", content="not yet seen")
    assert await moving.last("w") == ("VectorCreated", by(OLD, text="not yet seen"))
    assert await moving.events("VectorReembedded") == []


async def test_text_that_the_endpoint_refuses_blocks_with_its_reason(moving: Moving, endpoint: Endpoint) -> None:
    for text in ("one", "two", "three"):
        await moving.put(text, content=f"refusable {text}")

    def fault(_number: int, texts: list[str]) -> Response | None:
        refused = endpoint.models[-1] == NEW and "refusable two" in texts
        return JSONResponse({"error": {"message": "too long"}}, status_code=400) if refused else None

    endpoint.fault = fault
    await moving.sent("PATCH", body={"model": NEW})
    status = await moving.comes_to("blocked")
    assert (status["embedded"], status["remaining"], status["without_content"]["count"]) == (2, 1, 0)
    assert "1 contents cannot be embedded, such as that of 'two'" in status["reason"]
    assert "too long" in status["reason"]


async def test_collection_of_brought_embeddings_comes_to_take_texts_and_back(
    service: httpx.AsyncClient, log: Log
) -> None:
    moving = await collection(service, log, dimension=3)
    await moving.put("v", content="v", embedding=[1, 2, 3])
    await moving.sent("PATCH", body={"model": NEW})
    await moving.comes_to("building")
    assert await moving.last("v") == ("VectorReembedded", by(NEW, text="v"))
    lacking = await moving.sent("PUT", "/vectors/w", {"content": "w"}, status=422)
    assert (lacking["type"], lacking["errors"][0]["pointer"]) == ("/problems/model-mismatch", "/embedding")
    await moving.put("w", content="w", embedding=[3, 2, 1])
    assert await moving.last("w") == ("VectorCreated", {**by(NEW, text="w"), None: [3, 2, 1]})
    assert (await moving.sent("PATCH", body={"model": None}))["provider"] == "client"


@pytest.mark.parametrize(
    ("body", "problem", "pointer"),
    [
        ({"model": "unknown"}, "model-mismatch", "/model"),
        ({"model": None}, "model-mismatch", "/model"),
        ({"model": NEW, "dimension": 5}, "dimension-mismatch", "/dimension"),
        ({"dimension": 5}, "validation", "/dimension"),
        ({"model": ""}, "validation", "/model"),
        ({"model": 5}, "validation", "/model"),
    ],
)
async def test_move_to_what_cannot_be_is_refused(
    moving: Moving, body: dict[str, Any], problem: str, pointer: str
) -> None:
    refused = await moving.sent("PATCH", body=body, status=422)
    assert (refused["type"], refused["errors"][0]["pointer"]) == (f"/problems/{problem}", pointer)
    assert (await moving.status())["state"] == "none"


async def test_how_far_the_tables_are_is_not_said_while_the_read_database_is_away(
    moving: Moving, databases: Databases, endpoint: Endpoint
) -> None:
    await moving.put("v", content="v")
    await moving.sent("PATCH", body={"model": NEW})
    await moving.comes_to("building")
    away = "postgresql://x:x@127.0.0.1:1/x"
    async with running_service(databases, read_dsn=away, **models(endpoint, OLD, NEW)) as service:
        status = await service.get(f"{moving.path}/reembedding")
        assert (status.status_code, status.json()["type"]) == (503, "/problems/dependency-unavailable")
        assert "read database" in status.json()["detail"]


async def test_move_that_is_announced_anew_after_the_log_was_restored_is_made(
    database_factory: DatabaseFactory, endpoint: Endpoint
) -> None:
    """Where the former announcement was, which the service has seen already."""
    settings = {**models(endpoint, OLD, NEW), "reembedding_interval_seconds": 0.05}
    async with (
        database_factory.pair() as pair,
        connected(pair.events_admin_dsn) as admin,
        running_service(pair, **settings) as service,
    ):
        moving = await collection(service, admin)
        await moving.put("v", content="v")
        kept = await admin.fetchval("SELECT max(position) FROM events")
        for _ in range(2):
            await moving.sent("PATCH", body={"model": NEW, "dimension": DIMENSIONS[NEW]})
            await moving.comes_to("building")
            assert await moving.last("v") == ("VectorReembedded", by(NEW, text="v"))
            async with admin.transaction():
                await admin.execute("ALTER TABLE events DISABLE TRIGGER USER; TRUNCATE reembeddings CASCADE")
                await admin.execute("DELETE FROM events WHERE position > $1", kept)
                await renew_identity(admin, in_use=True)


async def test_of_no_collection_nothing_is_said(service: httpx.AsyncClient) -> None:
    assert (await service.get(f"{API}/nothing/reembedding")).status_code == 404
    assert (await service.patch(f"{API}/nothing", json={"model": NEW})).status_code == 404
