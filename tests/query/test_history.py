"""What became of a vector: its events, and the vector as it was at any version."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events_schema.collections import CollectionReembedded
from events_schema.embedding import EmbeddingSpec, decode
from events_schema.vectors import VectorReembedded, VectorUpdated
from shared.event_log import read_log_id
from shared.tokens import ConsistencyToken, Signer
from tests.projector.log_writer import LogWriter, NewCollection, embedding
from tests.projector.projecting import Projection
from tests.query.conftest import running_service
from tests.query.read_model import TENANT
from tests.servers import DatabaseFactory, connected

_VECTORS = "/api/v1/collections/articles/vectors"


@dataclass(frozen=True, slots=True)
class Past:
    client: httpx.AsyncClient
    log: LogWriter
    projection: Projection
    articles: NewCollection
    read_dsn: str
    events_dsn: str

    async def get(self, path: str, **parameters: Any) -> httpx.Response:
        return await self.client.get(f"{_VECTORS}{path}", params=parameters)

    async def items(self, vector_id: str, **parameters: Any) -> list[dict[str, Any]]:
        answer = await self.get(f"/{vector_id}/history", **parameters)
        assert answer.status_code == 200, answer.text
        items: list[dict[str, Any]] = answer.json()["items"]
        return items


@pytest_asyncio.fixture(scope="module")
async def past(database_factory: DatabaseFactory) -> AsyncIterator[Past]:
    async with (
        database_factory.pair() as databases,
        connected(databases.events_dsn) as log,
        connected(databases.read_dsn) as read,
        running_service(databases.read_reader_dsn, events_dsn=databases.events_reader_dsn) as client,
    ):
        projection, writer = Projection(databases, log, read), LogWriter(log)
        articles = await writer.create_collection()
        await projection.catch_up()
        yield Past(client, writer, projection, articles, databases.read_reader_dsn, databases.events_reader_dsn)


async def _life(past: Past, vector_id: str) -> None:
    """Created, changed twice, deleted, created again."""
    await past.log.create(past.articles, vector_id, (1, 0, 0, 0), "first", {"a": 1})
    await past.log.update(past.articles, vector_id, metadata={"a": 2})
    await past.log.update(past.articles, vector_id, embedding=(0, 1, 0, 0), content=None)
    await past.log.delete(past.articles, vector_id)
    await past.log.create(past.articles, vector_id, (0, 0, 1, 0), "second")


async def test_history_has_every_event_with_what_it_changed(past: Past) -> None:
    await _life(past, "whole")
    items = await past.items("whole")
    assert [(item["version"], item["event_type"], item["changed"]) for item in items] == [
        (1, "VectorCreated", ["content", "embedding", "metadata"]),
        (2, "VectorUpdated", ["metadata"]),
        (3, "VectorUpdated", ["content", "embedding"]),
        (4, "VectorDeleted", []),
        (5, "VectorCreated", ["content", "embedding", "metadata"]),
    ]
    assert [item["data"] for item in items] == [
        {"content": "first", "metadata": {"a": 1}}, {"metadata": {"a": 2}}, {"content": None}, {},
        {"content": "second", "metadata": {}},
    ]  # fmt: skip
    assert [len(item["embeddings"]) for item in items] == [1, 0, 1, 0, 1]
    assert items[0]["embeddings"][0] == {"provider": "client", "model": None, "dimension": 4}
    with_numbers = await past.items("whole", include="embedding")
    assert with_numbers[2]["data"] == {"embedding": [0.0, 1.0, 0.0, 0.0]}
    as_base64 = await past.items("whole", include="embedding", embedding_format="base64")
    assert decode(as_base64[2]["data"]["embedding"]).tolist() == [0.0, 1.0, 0.0, 0.0]


async def test_a_vector_that_was_embedded_by_another_model_shows_what_it_was_searched_by(past: Past) -> None:
    moving = await past.log.create_collection("moving")
    created = await past.log.create(moving, "a", (1, 0, 0, 0), "text")
    await past.projection.catch_up()
    new = EmbeddingSpec(provider="openai", model="new", dimension=2)
    await past.log.change_collection(moving, embedding_spec=new, other_specs=(moving.spec,))
    both = (*embedding((0, 2), new), *embedding((0, 0, 1, 0), moving.spec))
    reembedded = await past.log.vector_event(moving, VectorReembedded(id="a", embeddings=embedding((1, 0), new)))
    await past.log.collection_event(moving, CollectionReembedded(embedding_spec=new))
    written = await past.log.vector_event(moving, VectorUpdated(id="a", embeddings=both))
    path = "/api/v1/collections/moving/vectors/a"

    async def got(**parameters: Any) -> dict[str, Any]:
        answer = await past.client.get(path, params={"include": "embedding", **parameters})
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    first, second, third = [await got(version=version) for version in (1, 2, 3)]
    assert [one["embedding"] for one in (first, second, third)] == [[1, 0, 0, 0], [1, 0, 0, 0], [0, 2]]
    assert second["updated_at"] == first["updated_at"] < third["updated_at"]
    at = [
        (await got(as_of=f'{{"position": {position}}}'))["embedding"]
        for position in (created, reembedded, reembedded + 1)
    ]
    assert at == [[1, 0, 0, 0], [1, 0, 0, 0], [1, 0]]
    assert (await got(as_of=f'{{"position": {written}}}'))["embedding"] == [0, 2]
    items = (await past.client.get(f"{path}/history", params={"include": "embedding"})).json()["items"]
    assert [(one["event_type"], one["changed"]) for one in items[1:]] == [
        ("VectorReembedded", ["embedding"]),
        ("VectorUpdated", ["embedding"]),
    ]
    assert [[spec["model"] for spec in one["embeddings"]] for one in items] == [[None], ["new"], ["new", None]]
    assert items[1]["data"] == {"embedding": [1, 0]}
    assert items[2]["data"] == {"embedding": [0, 2], "embeddings": [[0, 2], [0, 0, 1, 0]]}


async def test_a_page_of_history_ends_before_it_is_too_large(past: Past) -> None:
    await past.log.create(past.articles, "large", (1, 0, 0, 0), "x" * 250_000)
    for number in range(11):
        await past.log.update(past.articles, "large", content=f"{number}" * 250_000)
    async with running_service(past.read_dsn, events_dsn=past.events_dsn, max_answer_bytes=2 * 1024 * 1024) as client:
        first = (await client.get(f"{_VECTORS}/large/history")).json()
        rest = (await client.get(f"{_VECTORS}/large/history", params={"cursor": first["next_cursor"]})).json()
    sizes = [[item["version"] for item in page["items"]] for page in (first, rest)]
    assert [*sizes[0], *sizes[1]] == list(range(1, 13))
    assert len(sizes[0]) < 12
    assert rest["next_cursor"] is None


async def test_history_comes_in_pages_that_end(past: Past) -> None:
    await _life(past, "paged")
    versions: list[int] = []
    parameters: dict[str, Any] = {"limit": 2}
    while True:
        answer = (await past.get("/paged/history", **parameters)).json()
        versions += [item["version"] for item in answer["items"]]
        if answer["next_cursor"] is None:
            break
        parameters["cursor"] = answer["next_cursor"]
    assert versions == [1, 2, 3, 4, 5]
    foreign = await past.get("/another/history", cursor=parameters["cursor"])
    assert (foreign.status_code, foreign.json()["type"]) == (400, "/problems/malformed-cursor")


async def test_a_vector_is_read_as_it_was_at_each_version(past: Past) -> None:
    await _life(past, "versioned")
    everything = ["content", "metadata", "embedding"]
    seen = {
        version: (await past.get("/versioned", version=version, include=everything)).json() for version in (1, 2, 3, 5)
    }
    assert {version: (one["content"], one["metadata"], one["embedding"]) for version, one in seen.items()} == {
        1: ("first", {"a": 1}, [1.0, 0.0, 0.0, 0.0]),
        2: ("first", {"a": 2}, [1.0, 0.0, 0.0, 0.0]),
        3: (None, {"a": 2}, [0.0, 1.0, 0.0, 0.0]),
        5: ("second", {}, [0.0, 0.0, 1.0, 0.0]),
    }
    parts: Any = {"include": ["metadata.b", "embedding"], "embedding_format": "base64"}
    shown = (await past.get("/versioned", version=5, **parts)).json()
    assert (decode(shown["embedding"]).tolist(), shown["metadata"]) == ([0.0, 0.0, 1.0, 0.0], {})
    assert "content" not in shown
    assert seen[1]["created_at"] == seen[3]["created_at"] < seen[5]["created_at"]
    assert seen[3]["created_at"] < seen[3]["updated_at"]
    for version, words in ((4, "was deleted with version 4"), (6, "has no version 6")):
        answer = await past.get("/versioned", version=version)
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/vector-not-found")
        assert words in answer.json()["detail"]


async def test_what_never_was_has_no_history(past: Past) -> None:
    for path in ("/never/history", "/never?version=1"):
        answer = await past.client.get(f"{_VECTORS}{path}")
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/vector-not-found")


async def test_a_deleted_collections_history_is_read_by_its_id(past: Past) -> None:
    gone = await past.log.create_collection("gone")
    await past.log.create(gone, "a", (1, 2, 3, 4), "kept in the log")
    await past.log.delete_collection(gone)
    await past.projection.catch_up()
    path = "/api/v1/collections/gone/vectors/a"
    assert (await past.client.get(f"{path}/history")).status_code == 404
    parameters = {"collection_id": str(gone.collection_id)}
    history = await past.client.get(f"{path}/history", params=parameters)
    assert [item["event_type"] for item in history.json()["items"]] == ["VectorCreated"]
    one = await past.client.get(path, params={**parameters, "version": 1})
    assert one.json()["content"] == "kept in the log"
    unknown = await past.client.get(f"{path}/history", params={"collection_id": str(uuid4())})
    assert (unknown.status_code, unknown.json()["type"]) == (404, "/problems/collection-not-found")
    alone = await past.client.get(path, params=parameters)
    assert (alone.status_code, alone.json()["errors"][0]["pointer"]) == (422, "collection_id")


async def test_history_waits_for_its_token(past: Past, signer: Signer) -> None:
    position = await past.log.create(past.articles, "awaited")
    await past.projection.catch_up()
    log_id = await read_log_id(past.log.connection)
    token = signer.sign_token(ConsistencyToken(log_id, TENANT, position, position))
    answer = await past.get("/awaited/history", consistency_token=token)
    assert answer.json()["freshness"]["position"] == position
    ahead = signer.sign_token(ConsistencyToken(log_id, TENANT, position + 1, position + 1))
    refused = await past.get("/awaited/history", consistency_token=ahead, timeout_ms=50)
    assert (refused.status_code, refused.json()["type"]) == (503, "/problems/not-fresh-enough")


async def test_without_an_event_database_history_is_unavailable_and_searches_go_on(past: Past) -> None:
    async with running_service(past.projection.databases.read_reader_dsn) as client:
        answer = await client.get(f"{_VECTORS}/a/history")
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/dependency-unavailable")
        assert "AINDUSDB_EVENTS_DSN" in answer.json()["detail"]
        search = await client.post(f"{_VECTORS}/search", json={"embedding": [1, 0, 0, 0]})
        assert search.status_code == 200


_change = st.fixed_dictionaries(
    {},
    optional={
        "content": st.one_of(st.none(), st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=5)),
        "metadata": st.dictionaries(st.sampled_from("ab"), st.integers(0, 9), max_size=2),
        "embedding": st.tuples(*[st.integers(0, 9).map(float)] * 4),
    },
)


@given(changes=st.lists(st.one_of(_change.filter(bool), st.just("delete")), max_size=8))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_every_version_is_the_fold_of_the_events_up_to_it(past: Past, changes: list[Any]) -> None:
    vector_id = f"v-{uuid4().hex[:12]}"
    state: dict[str, Any] | None = None
    expected: list[dict[str, Any] | None] = []
    for change in [{}, *changes]:
        if state is None:
            state = {"content": None, "metadata": {}, "embedding": [1.0, 2.0, 3.0, 4.0]}
            await past.log.create(past.articles, vector_id)
        elif change == "delete":
            state = None
            await past.log.delete(past.articles, vector_id)
        else:
            state = {**state, **change}
            await past.log.update(past.articles, vector_id, **change)
        expected.append(None if state is None else {**state, "embedding": list(state["embedding"])})
    for version, wanted in enumerate(expected, start=1):
        answer = await past.get(f"/{vector_id}", version=version, include=["content", "metadata", "embedding"])
        found = answer.json()
        assert (None if answer.status_code == 404 else {name: found[name] for name in wanted or {}}) == wanted


@pytest.mark.parametrize(
    ("path", "pointer"),
    [
        ("/a?version=0", "version"),
        ("/a?version=x", "version"),
        ("/a/history?limit=0", "limit"),
        ("/a/history?collection_id=x", "collection_id"),
        ("/a/history?include=vectors", "include"),
        ("/a/history?unknown=1", "unknown"),
    ],
)
async def test_parameters_that_break_a_rule_are_named(past: Past, path: str, pointer: str) -> None:
    answer = await past.client.get(f"{_VECTORS}{path}")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == pointer
