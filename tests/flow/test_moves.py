"""A move to another model from the request to its end: the read model's tables say when the model before may go."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest_asyncio

from tests.embedding.endpoint import DIMENSION, numbers_of, running_endpoint
from tests.flow.conftest import Flow, running_flow
from tests.projector.projecting import projector_settings, running_upkeep, until
from tests.replay.commanding import answer, refusal
from tests.servers import DatabaseFactory

NEW_DIMENSION = 12


@pytest_asyncio.fixture(scope="module")
async def flow(database_factory: DatabaseFactory) -> AsyncIterator[Flow]:
    async with database_factory.pair() as databases, running_endpoint() as endpoint:
        endpoint.dimensions["new"] = NEW_DIMENSION
        new = [{"provider": "openai", "model": "new", "url": endpoint.url}]
        settings = {
            "embedding_provider": "openai", "embedding_url": endpoint.url, "embedding_model": "old",
            "embedding_others": orjson.dumps(new).decode(), "reembedding_interval_seconds": 0.05,
        }  # fmt: skip
        async with (
            running_flow(databases, read_dsn=databases.command_read_dsn, **settings) as running,
            running_upkeep(projector_settings(databases, upkeep_interval_seconds=0.05)),
        ):
            yield running


async def _texts(flow: Flow, name: str, **texts: str) -> None:
    operations = [{"op": "upsert", "id": vector_id, "content": text} for vector_id, text in texts.items()]
    await flow.written("POST", f"/collections/{name}/vectors/batch", {"operations": operations})


async def _status(flow: Flow, name: str) -> dict[str, Any]:
    document: dict[str, Any] = (await flow.write.get(f"/api/v1/collections/{name}/reembedding")).json()
    return document


async def _nearest(flow: Flow, name: str, text: str, dimension: int) -> tuple[str, float]:
    found = await flow.found(
        "POST", f"/collections/{name}/vectors/search", {"embedding": numbers_of(text, dimension), "k": 1}
    )
    return found["hits"][0]["id"], round(found["hits"][0]["distance"], 4)


async def test_a_move_ends_when_no_table_has_embeddings_of_the_model_before(flow: Flow) -> None:
    await flow.written("POST", "/collections", {"name": "moved"})
    await _texts(flow, "moved", a="one", b="two", c="three")
    await flow.written("PATCH", "/collections/moved", {"model": "new"})
    await _texts(flow, "moved", d="four", b="two again")

    async def over() -> bool:
        return bool((await _status(flow, "moved"))["state"] == "none")

    await until(over, "the move did not end")
    status = await _status(flow, "moved")
    assert (status["model"], status["from_model"], status["since_position"]) == ("new", None, None)
    for vector_id, text in {"a": "one", "b": "two again", "c": "three", "d": "four"}.items():
        assert await _nearest(flow, "moved", text, NEW_DIMENSION) == (vector_id, 0)
    # Texts are embedded by one model again, and what was moved can move once more.
    await _texts(flow, "moved", a="another")
    assert await _nearest(flow, "moved", "another", NEW_DIMENSION) == ("a", 0)
    await flow.written("PATCH", "/collections/moved", {"model": "old"})
    await until(over, "the move back did not end")
    for vector_id, text in {"a": "another", "b": "two again", "c": "three", "d": "four"}.items():
        assert await _nearest(flow, "moved", text, DIMENSION) == (vector_id, 0)


async def test_a_move_that_is_taken_back_late_ends_too(flow: Flow) -> None:
    await flow.written("POST", "/collections", {"name": "back"})
    await _texts(flow, "back", a="one", b="two")
    await flow.written("PATCH", "/collections/back", {"model": "new"})

    async def complete() -> bool:
        return (await _status(flow, "back"))["state"] in ("building", "finishing", "none")

    await until(complete, "not everything was embedded")
    await flow.written("PATCH", "/collections/back", {"model": "old"})
    await _texts(flow, "back", b="two again")

    async def over() -> bool:
        status = await _status(flow, "back")
        return (status["state"], status["model"]) == ("none", "old")

    await until(over, "what was taken back did not end")
    for vector_id, text in {"a": "one", "b": "two again"}.items():
        assert await _nearest(flow, "back", text, DIMENSION) == (vector_id, 0)


async def test_changes_by_a_filter_leave_nothing_out_for_being_embedded_anew(flow: Flow) -> None:
    """The read model, which says what matches, is behind the log meanwhile."""
    await flow.written("POST", "/collections", {"name": "filtered"})
    operations = [
        {"op": "upsert", "id": f"v{number:04}", "content": f"text {number}", "metadata": {"of": 1}}
        for number in range(1_000)
    ]
    await flow.written("POST", "/collections/filtered/vectors/batch", {"operations": operations})
    await flow.written("PATCH", "/collections/filtered", {"model": "new"})
    for number in range(20):
        body = {"filter": {"of": 1}, "metadata": {"at": number}, "consistency_token": flow.token}
        answered = await flow.written("POST", "/collections/filtered/vectors/patch", body)
        assert (answered["changed"], answered["conflicts"]) == (1_000, 0), number


async def test_tables_that_somebody_built_and_never_promoted_hold_no_move_up(flow: Flow) -> None:
    await flow.written("POST", "/collections", {"name": "built"})
    await _texts(flow, "built", a="one", b="two")
    await answer(flow.projection.databases, "replay", "build", "--collection", "built")
    await flow.written("PATCH", "/collections/built", {"model": "new"})

    async def over() -> bool:
        return bool((await _status(flow, "built"))["state"] == "none")

    await until(over, "the move did not end")
    assert await _nearest(flow, "built", "one", NEW_DIMENSION) == ("a", 0)
    said = await refusal(flow.projection.databases, "replay", "promote", "--collection", "built", "--force")
    assert "which the collection has left" in said
