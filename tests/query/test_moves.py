"""Searches while a collection comes to another embedding model: each is by the model of the tables that it reads."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import httpx
import pytest
import pytest_asyncio

from events_schema.embedding import EmbeddingSpec
from events_schema.specs import EmbeddingSpecs, LiveSpec
from tests.embedding.endpoint import Endpoint, answered, numbers_of, running_endpoint
from tests.query.conftest import running_service
from tests.query.read_model import ReadModel, Row
from tests.servers import Databases

API = "/api/v1/collections"
OLD = EmbeddingSpec(provider="openai", model="old", dimension=8)
NEW = EmbeddingSpec(provider="openai", model="new", dimension=5)
WORDS = ("wing", "flutter", "slipstream")

_names = (f"moving{number}" for number in count())


def numbers_by(spec: EmbeddingSpec, text: str) -> list[float]:
    """The models disagree: to the new one a text is what its reverse is to the old one."""
    return numbers_of(text if spec == OLD else text[::-1], spec.dimension)


def rows_by(spec: EmbeddingSpec) -> list[Row]:
    return [Row(word, numbers_by(spec, word), {"length": len(word)}, word) for word in WORDS]


@pytest_asyncio.fixture(scope="module")
async def endpoint() -> AsyncIterator[Endpoint]:
    async with running_endpoint() as running:
        yield running


@pytest.fixture(autouse=True)
def healthy(endpoint: Endpoint) -> None:
    def by_both(_number: int, texts: list[str]) -> Any:
        spec = OLD if endpoint.models[-1] == "old" else NEW
        return answered([numbers_by(spec, text) for text in texts])

    endpoint.fault = by_both


@dataclass
class Moving:
    """A service with both models, and a collection of the old one."""

    client: httpx.AsyncClient
    model: ReadModel
    name: str

    async def asked(self, path: str, **body: Any) -> httpx.Response:
        return await self.client.post(f"{API}/{self.name}/vectors/{path}", json={**body, "max_staleness_ms": 0})

    async def shown(self) -> dict[str, Any]:
        document: dict[str, Any] = (await self.client.get(f"{API}/{self.name}", params={"max_staleness_ms": 0})).json()
        return document

    async def announce(self, *, complete: bool) -> None:
        live = LiveSpec(NEW, since=7, complete=complete), LiveSpec(OLD, since=0, complete=True)
        await self.model.announce(self.model.ids[self.name], EmbeddingSpecs(live))

    async def move(self, snapshot: str = "") -> None:
        await self.model.move(self.model.ids[self.name], NEW, rows_by(NEW), snapshot)


def with_both_models(databases: Databases, endpoint: Endpoint, **settings: Any) -> Any:
    other = {"provider": "openai", "model": "new", "url": endpoint.url}
    return running_service(
        databases.read_reader_dsn,
        embedding_provider="openai",
        embedding_url=endpoint.url,
        embedding_model="old",
        embedding_others=json.dumps([other]),
        **settings,
    )


@asynccontextmanager
async def moving_collection(
    databases: Databases, model: ReadModel, endpoint: Endpoint, **settings: Any
) -> AsyncIterator[Moving]:
    name = next(_names)
    await model.put(await model.create(name, OLD.dimension, provider=OLD.provider, model=OLD.model), rows_by(OLD))
    async with with_both_models(databases, endpoint, **settings) as client:
        yield Moving(client, model, name)


_ASKING: dict[str, Callable[[str], tuple[str, dict[str, Any]]]] = {
    "search": lambda text: ("search", {"query": text}),
    "batch": lambda text: ("search/batch", {"queries": [{"query": text}, {"id": "wing"}]}),
    "groups": lambda text: ("search/groups", {"query": text, "group_by": "metadata.length", "groups": 3}),
    "average": lambda text: ("recommend", {"positive": [{"query": text}]}),
    "best score": lambda text: ("recommend", {"positive": [{"query": text}], "strategy": "best_score"}),
}


def _first(document: dict[str, Any]) -> dict[str, Any]:
    found = document["groups"] if "groups" in document else document.get("results", [document])
    hit: dict[str, Any] = found[0]["hits"][0]
    return hit


@pytest.mark.parametrize("way", _ASKING)
async def test_text_embedded_before_the_switch_and_read_after_it_is_found_by_the_new_model(
    databases: Databases, read_model: ReadModel, endpoint: Endpoint, way: str
) -> None:
    async with moving_collection(databases, read_model, endpoint) as moving:
        by_both = endpoint.fault
        arrived, moved = asyncio.Event(), asyncio.Event()

        def held(number: int, texts: list[str]) -> Any:
            if endpoint.models[-1] == "new":
                return by_both(number, texts)
            arrived.set()
            return moved

        path, body = _ASKING[way]("flutter")
        endpoint.fault = held
        asked = asyncio.create_task(moving.asked(path, **body))
        await arrived.wait()
        await moving.move()
        moved.set()
        answer = await asked
        assert answer.status_code == 200, answer.text
        assert _first(answer.json())["id"] == "flutter"
        assert _first(answer.json())["distance"] == pytest.approx(0, abs=1e-6)
        assert (endpoint.models[-2:], endpoint.requests[-2:]) == (["old", "new"], [["flutter"], ["flutter"]])


async def test_kept_answers_of_one_model_are_never_those_to_a_query_by_another(
    databases: Databases, read_model: ReadModel, endpoint: Endpoint, redis_url: str
) -> None:
    async with moving_collection(databases, read_model, endpoint, redis_url=redis_url) as moving:
        questions = [{"query": "slip"}, {"id": "wing"}, {"query": "slip", "model": "old"}]

        async def distances(body: dict[str, Any]) -> tuple[list[float], bool]:
            answer = await moving.asked("search", **body)
            assert answer.status_code == 200, answer.text
            return [hit["distance"] for hit in answer.json()["hits"]], answer.json()["cached"]

        before = [await distances(body) for body in questions]
        assert [cached for _, cached in before] == [False, False, True]
        await moving.announce(complete=True)
        assert [await distances(body) for body in questions] == [(found, True) for found, _ in before]
        await moving.move()
        questions[2]["model"] = "new"
        after = [await distances(body) for body in questions]
        assert [cached for _, cached in after] == [False, False, True]
        assert all(found != then for (found, _), (then, _) in zip(after, before, strict=True))
        async with with_both_models(databases, endpoint, redis_url=redis_url) as moving.client:
            assert [await distances(body) for body in questions] == [(found, True) for found, _ in after]


async def test_model_that_is_named_is_held_against_what_is_searched_before_and_after_the_switch(
    databases: Databases, read_model: ReadModel, endpoint: Endpoint
) -> None:
    async with moving_collection(databases, read_model, endpoint) as moving:

        async def refused(spec: EmbeddingSpec) -> tuple[str, str]:
            answer = await moving.asked("search", embedding=numbers_by(spec, "wing"), model=spec.model)
            assert (answer.status_code, answer.json()["type"]) == (422, "/problems/model-mismatch"), answer.text
            return answer.json()["expected"]["model"], answer.json()["errors"][0]["detail"]

        async def answers(spec: EmbeddingSpec) -> None:
            answer = await moving.asked("search", embedding=numbers_by(spec, "wing"), model=spec.model)
            assert _first(answer.json())["id"] == "wing", answer.text

        await moving.announce(complete=False)
        await answers(OLD)
        expected, detail = await refused(NEW)
        assert expected == "old"
        assert "it moves to that one" in detail
        await moving.move()
        await answers(NEW)
        assert (await refused(OLD))[0] == "new"


async def test_a_collection_says_what_it_is_searched_by_and_what_it_moves_to(
    databases: Databases, read_model: ReadModel, endpoint: Endpoint
) -> None:
    async with moving_collection(databases, read_model, endpoint) as moving:

        def searched_by(document: dict[str, Any]) -> EmbeddingSpec:
            return EmbeddingSpec(**{name: document[name] for name in ("provider", "model", "dimension")})

        assert (await moving.shown())["change"] is None
        for complete in (False, True):
            await moving.announce(complete=complete)
            document = await moving.shown()
            assert searched_by(document) == OLD
            change = document["change"]
            assert (change["state"], change["generation"]) == ("waiting", None)
            assert (change["from_spec"], change["to_spec"]) == (OLD.model_dump(), NEW.model_dump())
        await moving.move()
        document = await moving.shown()
        assert (searched_by(document), document["change"]) == (NEW, None)


async def test_texts_to_the_past_are_embedded_by_the_model_that_it_was_searched_by(
    databases: Databases, read_model: ReadModel, endpoint: Endpoint
) -> None:
    async with moving_collection(databases, read_model, endpoint) as moving:
        await moving.move(snapshot="before")
        as_of = {"snapshot": "before"}
        for way in _ASKING.values():
            path, body = way("flutter")
            moments: tuple[dict[str, Any], ...] = ({"as_of": as_of}, {})
            for moment in moments:
                answer = await moving.asked(path, **body, **moment)
                assert answer.status_code == 200, answer.text
                assert _first(answer.json())["distance"] == pytest.approx(0, abs=1e-6), path
        embedding = {"embedding": numbers_by(OLD, "wing"), "model": "old", "as_of": as_of}
        assert _first((await moving.asked("search", **embedding)).json())["id"] == "wing"
        refused = await moving.asked("search", query="wing", model="new", as_of=as_of)
        assert (refused.status_code, refused.json()["expected"]["model"]) == (422, "old")

        # The old model's provider is away for good.
        async with running_service(
            databases.read_reader_dsn,
            embedding_provider="openai",
            embedding_url=endpoint.url,
            embedding_model="new",
        ) as moving.client:
            answer = await moving.asked("search", query="wing", as_of=as_of)
            assert (answer.status_code, answer.json()["type"]) == (422, "/problems/model-mismatch")
            assert "by an embedding of the model 'old', of 8 dimensions" in answer.json()["errors"][0]["detail"]
            assert answer.json()["expected"] == OLD.model_dump()
            assert _first((await moving.asked("search", **embedding)).json())["id"] == "wing"
            assert _first((await moving.asked("search", query="wing")).json())["id"] == "wing"
