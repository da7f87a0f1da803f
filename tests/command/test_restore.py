"""What was changed or deleted comes back by events that say so."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import orjson
import pytest

from command_service import restoring
from events_schema.embedding import decode
from events_schema.streams import vector_stream
from tests.command.conftest import running_service
from tests.embedding.endpoint import numbers_of, running_endpoint
from tests.projector.projecting import until
from tests.servers import Databases

_API = "/api/v1"

Log = asyncpg.Connection


async def _collection(service: httpx.AsyncClient) -> tuple[str, str]:
    """Its path and its id."""
    name = f"restored-{uuid4().hex[:12]}"
    created = await service.post(f"{_API}/collections", json={"name": name, "dimension": 3})
    return f"{_API}/collections/{name}", created.json()["collection_id"]


async def _batch(service: httpx.AsyncClient, collection: str, *operations: dict[str, Any]) -> str:
    """The request's id."""
    answer = await service.post(f"{collection}/vectors/batch", json={"operations": list(operations)})
    assert answer.status_code == 200, answer.text
    return answer.headers["x-request-id"]


def _put(vector_id: str, content: str, x: float = 1) -> dict[str, Any]:
    return {"op": "upsert", "id": vector_id, "embedding": [x, 2, 3], "content": content, "metadata": {"of": content}}


async def _state(log: Log, collection_id: str, vector_id: str) -> dict[str, Any] | None:
    """The fold of a vector's events, by hand."""
    stream = vector_stream(UUID(collection_id), vector_id)
    state: dict[str, Any] | None = None
    events = "SELECT event_type, event_data FROM events WHERE aggregate_id = $1 ORDER BY version"
    for row in await log.fetch(events, stream):
        data = orjson.loads(row["event_data"])
        if row["event_type"] == "VectorDeleted":
            state = None
        else:
            state = {"content": None, "metadata": {}, **(state or {}), **data}
    return state


async def _restore(service: httpx.AsyncClient, request_id: str, **body: Any) -> dict[str, Any]:
    """All pages together."""
    whole: dict[str, Any] = {"restored": 0, "unchanged": 0, "skipped": []}
    cursor = None
    while True:
        document = {"request_id": request_id, **body, **({"cursor": cursor} if cursor else {})}
        answer = await service.post(f"{_API}/restore", json=document)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        whole = {name: whole[name] + page[name] for name in whole}
        cursor = page["next_cursor"]
        if cursor is None:
            return whole


async def test_a_vector_comes_back_as_it_was_at_a_version(service: httpx.AsyncClient, log: Log) -> None:
    collection, collection_id = await _collection(service)
    await _batch(service, collection, _put("a", "first", 1))
    first = await _state(log, collection_id, "a")
    await _batch(service, collection, _put("a", "second", 9))
    path = f"{collection}/vectors/a"
    restored = await service.post(f"{path}/restore", json={"version": 1})
    assert (restored.status_code, restored.json()["version"]) == (200, 3)
    assert restored.headers["etag"] == '"3"'
    assert await _state(log, collection_id, "a") == first
    await service.delete(path)
    again = await service.post(f"{path}/restore", json={"version": 2}, headers={"If-Match": '"0"'})
    assert (again.status_code, again.json()["version"]) == (201, 5)
    assert (await _state(log, collection_id, "a") or {})["content"] == "second"
    same = await service.post(f"{path}/restore", json={"version": 5})
    assert (same.status_code, same.json()["version"]) == (200, 5)


@pytest.mark.parametrize(("version", "status"), [(4, 404), (9, 404), (0, 422), ("1", 422)])
async def test_a_version_that_cannot_come_back_is_refused(
    service: httpx.AsyncClient, version: object, status: int
) -> None:
    collection, _ = await _collection(service)
    for content in ("one", "two", "three"):
        await _batch(service, collection, _put("a", content))
    await service.delete(f"{collection}/vectors/a")
    answer = await service.post(f"{collection}/vectors/a/restore", json={"version": version})
    assert answer.status_code == status, answer.text
    stale = await service.post(f"{collection}/vectors/a/restore", json={"version": 1}, headers={"If-Match": '"3"'})
    assert (stale.status_code, stale.json()["type"]) == (412, "/problems/version-mismatch")


async def test_what_a_request_changed_and_deleted_comes_back_and_nothing_else_is_touched(
    service: httpx.AsyncClient, log: Log
) -> None:
    collection, collection_id = await _collection(service)
    names = ["changed", "deleted", "changed-since", "deleted-since", "untouched"]
    await _batch(service, collection, *(_put(name, "before") for name in names))
    before = {name: await _state(log, collection_id, name) for name in names}
    request_id = await _batch(
        service, collection, _put("changed", "after"), {"op": "delete", "id": "deleted"},
        _put("changed-since", "after"),
        {"op": "delete", "id": "deleted-since"}, _put("created", "after"),
    )  # fmt: skip
    await _batch(service, collection, _put("changed-since", "later"), _put("deleted-since", "later"))
    answer = await _restore(service, request_id)
    assert (answer["restored"], answer["unchanged"]) == (2, 0)
    assert {(one["id"], one["reason"]) for one in answer["skipped"]} == {
        ("created", "created"), ("changed-since", "changed_since"), ("deleted-since", "changed_since"),
    }  # fmt: skip
    for name in ("changed", "deleted", "untouched"):
        assert await _state(log, collection_id, name) == before[name]
    assert (await _state(log, collection_id, "changed-since") or {})["content"] == "later"
    assert await _state(log, collection_id, "created") is not None
    causes = await log.fetchval(
        "SELECT count(*) FROM events WHERE metadata ->> 'causation_id' = $1 AND tenant = 'default'", request_id
    )
    assert causes == 2
    forced = await _restore(service, request_id, force=True)
    assert (forced["restored"], forced["unchanged"]) == (2, 2)
    for name in names:
        assert await _state(log, collection_id, name) == before[name]


async def test_a_request_that_changed_a_vector_twice_is_taken_back_to_before_the_first(
    service: httpx.AsyncClient, log: Log
) -> None:
    collection, collection_id = await _collection(service)
    await _batch(service, collection, _put("a", "before"))
    request_id = f"twice-{uuid4()}"
    for content in ("one", "two"):
        answer = await service.put(
            f"{collection}/vectors/a", json={"embedding": [1, 2, 3], "content": content},
            headers={"X-Request-ID": request_id},
        )  # fmt: skip
        assert answer.headers["x-request-id"] == request_id
    assert (await _restore(service, request_id))["restored"] == 1
    assert (await _state(log, collection_id, "a") or {})["content"] == "before"


async def test_pages_go_on_where_the_last_one_ended_and_a_repetition_appends_nothing(
    service: httpx.AsyncClient, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restoring, "PAGE_EVENTS", 7)
    collection, collection_id = await _collection(service)
    names = [f"v{number:02}" for number in range(40)]
    await _batch(service, collection, *(_put(name, "before") for name in names))
    request_id = await _batch(service, collection, *({"op": "delete", "id": name} for name in names))
    first = (await service.post(f"{_API}/restore", json={"request_id": request_id})).json()
    assert (first["restored"], bool(first["next_cursor"])) == (7, True)
    other = await service.post(f"{_API}/restore", json={"request_id": "another", "cursor": first["next_cursor"]})
    assert (other.status_code, other.json()["type"]) == (400, "/problems/malformed-cursor")
    whole = await _restore(service, request_id)
    assert whole["restored"] == 33
    assert {one["reason"] for one in whole["skipped"]} == {"changed_since"}
    assert len(whole["skipped"]) == 7
    head = await log.fetchval("SELECT max(position) FROM events")
    again = await _restore(service, request_id, force=True)
    assert (again["restored"], again["unchanged"]) == (0, 40)
    assert await log.fetchval("SELECT max(position) FROM events") == head
    for name in names:
        assert (await _state(log, collection_id, name) or {})["content"] == "before"


async def test_what_has_expired_since_is_left_as_what_was_changed_since_is(
    service: httpx.AsyncClient, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before any event says so. A transaction holds but one vector here, so each of them is refused in its turn."""
    monkeypatch.setattr(restoring, "TRANSACTION_BYTES", 1)
    collection, collection_id = await _collection(service)
    ids = [f"v{number}" for number in range(8)]
    await _batch(service, collection, *(_put(vector_id, "old") for vector_id in [*ids, "stays"]))
    soon = datetime.now(UTC) + timedelta(seconds=1)
    request_id = await _batch(
        service,
        collection,
        *({**_put(vector_id, "new"), "expires_at": soon.isoformat()} for vector_id in ids),
        _put("stays", "new"),
    )
    await asyncio.sleep((soon - datetime.now(UTC)).total_seconds() + 0.1)
    left = [{"collection_id": collection_id, "id": vector_id, "reason": "changed_since"} for vector_id in ids]
    restored = await _restore(service, request_id)
    assert (restored["restored"], restored["unchanged"]) == (1, 0)
    assert sorted(restored["skipped"], key=lambda one: one["id"]) == left
    deleted = "SELECT count(*) FROM events WHERE event_type = 'VectorDeleted' AND collection_id = $1"
    assert await log.fetchval(deleted, UUID(collection_id)) == 0
    assert await _restore(service, request_id, force=True) == {"restored": 8, "unchanged": 1, "skipped": []}
    states = [await _state(log, collection_id, vector_id) for vector_id in [*ids, "stays"]]
    assert [state and state["content"] for state in states] == ["old"] * 9


async def test_a_request_that_nobody_knows_has_nothing_to_take_back(service: httpx.AsyncClient) -> None:
    answer = (await service.post(f"{_API}/restore", json={"request_id": "never-was"})).json()
    assert (answer["restored"], answer["skipped"], answer["consistency_token"]) == (0, [], None)
    malformed = await service.post(f"{_API}/restore", json={"request_id": "with space"})
    assert (malformed.status_code, malformed.json()["errors"][0]["pointer"]) == (422, "/request_id")


async def test_a_deleted_collection_comes_back_under_a_new_id_with_what_it_held(
    service: httpx.AsyncClient, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restoring, "PAGE_EVENTS", 10)
    collection, old_id = await _collection(service)
    await service.patch(collection, json={"description": "described later"})
    names = [f"v{number:02}" for number in range(25)]
    await _batch(service, collection, *(_put(name, "kept") for name in names))
    await _batch(service, collection, *({"op": "delete", "id": name} for name in names[:5]))
    await _batch(service, collection, _put(names[0], "again"), _put(names[7], "changed"))
    alive = [names[0], *names[5:]]
    expected = {name: await _state(log, old_id, name) for name in alive}
    living = await service.post(f"{collection}/restore", json={"collection_id": old_id})
    assert (living.status_code, living.json()["type"]) == (404, "/problems/collection-not-found")
    await service.delete(collection)

    first = (await service.post(f"{collection}/restore", json={"collection_id": old_id})).json()
    new_id = first["collection_id"]
    assert new_id != old_id
    # Interrupted here, and begun anew: what is back already is met again and appends nothing.
    restored, cursor = first["restored"], None
    while True:
        body = {"collection_id": old_id, **({"cursor": cursor} if cursor else {})}
        page = (await service.post(f"{collection}/restore", json=body)).json()
        assert page["collection_id"] == new_id
        restored += page["restored"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert restored == len(alive)
    assert {name: await _state(log, new_id, name) for name in names} == {name: expected.get(name) for name in names}
    created = await log.fetchval(
        "SELECT event_data FROM events WHERE collection_id = $1 AND event_type = 'CollectionCreated'", new_id
    )
    assert orjson.loads(created)["description"] == "described later"
    assert orjson.loads(created)["restores"] == old_id


async def test_a_name_that_is_taken_is_not_restored_over(service: httpx.AsyncClient) -> None:
    collection, old_id = await _collection(service)
    await service.delete(collection)
    await service.post(f"{_API}/collections", json={"name": collection.rsplit("/", 1)[-1], "dimension": 3})
    answer = await service.post(f"{collection}/restore", json={"collection_id": old_id})
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/collection-exists")
    unknown = await service.post(f"{collection}/restore", json={"collection_id": str(uuid4())})
    assert (unknown.status_code, unknown.json()["type"]) == (404, "/problems/collection-not-found")


async def test_what_comes_back_into_a_collection_of_another_model_is_embedded_anew_where_it_was_not(
    databases: Databases, log: Log
) -> None:
    async with running_endpoint() as endpoint:
        endpoint.dimensions = {"old": 4, "new": 3}
        other = {"provider": "openai", "model": "new", "url": endpoint.url}
        models = {
            "embedding_provider": "openai", "embedding_url": endpoint.url, "embedding_model": "old",
            "embedding_others": orjson.dumps([other]).decode(), "reembedding_interval_seconds": 0.05,
        }  # fmt: skip
        async with running_service(databases, **models) as service:
            name = f"moved-{uuid4().hex[:12]}"
            collection = f"{_API}/collections/{name}"
            collection_id = (await service.post(f"{_API}/collections", json={"name": name})).json()["collection_id"]
            await _batch(service, collection, {"op": "upsert", "id": "a", "content": "one"})
            changed = await _batch(service, collection, {"op": "upsert", "id": "a", "content": "two"})
            await _batch(service, collection, {"op": "upsert", "id": "bare", "embedding": [1, 2, 3, 4]})
            await _batch(service, collection, {"op": "delete", "id": "bare"})
            assert (await service.patch(collection, json={"model": "new"})).status_code == 200

            async def is_complete() -> bool:
                return bool((await service.get(f"{collection}/reembedding")).json()["state"] == "building")

            await until(is_complete, "the vectors are not embedded")

            async def restored(vector_id: str, version: int) -> httpx.Response:
                return await service.post(f"{collection}/vectors/{vector_id}/restore", json={"version": version})

            def embeddings(content: str) -> dict[str, list[float]]:
                return {model: numbers_of(content, size) for model, size in endpoint.dimensions.items()}

            async def brought(of: str) -> dict[str, list[float]]:
                state = await _state(log, of, "a")
                assert state is not None
                return {one["spec"]["model"]: decode(one["data"]).tolist() for one in state["embeddings"]}

            assert (await _restore(service, changed))["restored"] == 1
            again = [await restored("a", 1) for _ in range(2)]
            assert [answer.json()["version"] for answer in again] == [4, 4]
            assert await brought(collection_id) == embeddings("one")
            refused = await restored("bare", 1)
            assert (refused.status_code, refused.json()["type"]) == (422, "/problems/model-mismatch")
            asked = len(endpoint.requests)
            assert (await restored("a", 3)).json()["version"] == 5  # as it was embedded anew
            assert await brought(collection_id) == embeddings("two")
            await service.delete(collection)
            successor = (await service.post(f"{collection}/restore", json={"collection_id": collection_id})).json()
            assert await brought(successor["collection_id"]) == {"new": embeddings("two")["new"]}
            assert len(endpoint.requests) == asked
