"""Kept answers: served only while nothing has changed the collection, whatever Redis holds or has lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from aindusdb.local_stack.ports import free_port
from events_schema.notifications import CHANGES_CHANNEL, ChangeNotification
from shared.tokens import ConsistencyToken, Signer
from tests.query.conftest import running_service
from tests.query.read_model import TENANT, ReadModel, Row
from tests.servers import Databases

_POLLED = 0.05


@pytest_asyncio.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        await client.flushdb()
        yield client


@pytest_asyncio.fixture
async def name(read_model: ReadModel) -> str:
    """A collection of the test's own with one vector, `a`."""
    name = f"kept-{uuid4().hex[:8]}"
    await read_model.put(await read_model.create(name, 2), [Row("a", [1.0, 0.0])])
    await asyncio.sleep(_POLLED)
    return name


def _collection(read_model: ReadModel, name: str) -> UUID:
    return read_model.ids[name]


async def _search(client: httpx.AsyncClient, name: str, *, token: str | None = None, **body: Any) -> dict[str, Any]:
    headers = {} if token is None else {"X-Consistency-Token": token}
    answer = await client.post(
        f"/api/v1/collections/{name}/vectors/search", json={"embedding": [1.0, 0.0], **body}, headers=headers
    )
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def _ids(answer: dict[str, Any]) -> list[str]:
    return [hit["id"] for hit in answer["hits"]]


async def test_a_repeated_search_is_answered_from_the_cache_with_the_same_hits(
    service: httpx.AsyncClient, read_model: ReadModel, name: str
) -> None:
    body: dict[str, Any] = {"include": ["content", "metadata", "embedding"]}
    first, second = await _search(service, name, **body), await _search(service, name, **body)
    assert (first["cached"], second["cached"]) == (False, True)
    assert (first["hits"], first["complete"]) == (second["hits"], second["complete"])
    assert second["freshness"]["position"] == read_model.position
    assert second["freshness"]["age_ms"] < 1000


async def test_searches_that_differ_in_anything_do_not_share_an_answer(service: httpx.AsyncClient, name: str) -> None:
    variants: list[dict[str, Any]] = [
        {}, {"k": 3}, {"ef_search": 41}, {"exact": True}, {"min_score": 0.5}, {"filter": {"a": 1}},
        {"filter": {"a": 1.0}}, {"filter": {"a": True}}, {"filter": {"a": "1"}}, {"include": ["content"]},
        {"embedding": [0.0, 1.0]}, {"embedding": [-0.0, 1.0]},
    ]  # fmt: skip
    assert [(await _search(service, name, **variant))["cached"] for variant in variants] == [False] * len(variants)
    assert [(await _search(service, name, **variant))["cached"] for variant in variants] == [True] * len(variants)


async def test_a_change_of_the_collection_is_seen_at_the_next_poll(
    service: httpx.AsyncClient, read_model: ReadModel, name: str
) -> None:
    await _search(service, name)
    assert (await _search(service, name))["cached"]
    await read_model.put(_collection(read_model, name), [Row("b", [1.0, 0.1])])
    await asyncio.sleep(_POLLED)
    answer = await _search(service, name)
    assert (_ids(answer), answer["cached"]) == (["a", "b"], False)
    await read_model.delete(_collection(read_model, name), ["a"])
    await asyncio.sleep(_POLLED)
    assert _ids(await _search(service, name)) == ["b"]


async def test_a_change_elsewhere_leaves_the_answer_valid_and_moves_its_position(
    service: httpx.AsyncClient, read_model: ReadModel, name: str, signer: Signer
) -> None:
    await _search(service, name)
    await read_model.put(await read_model.create(f"{name}-2", 2), [Row("x", [1.0, 0.0])])
    token = signer.sign_token(
        ConsistencyToken(read_model.log_id, TENANT, first=read_model.position, last=read_model.position)
    )
    answer = await _search(service, name, token=token)
    assert answer["cached"]
    assert answer["freshness"]["position"] == read_model.position
    assert signer.read_token(answer["freshness"]["token"]).last >= read_model.position


async def test_a_read_with_the_writes_token_never_meets_an_older_answer(
    service: httpx.AsyncClient, read_model: ReadModel, name: str, signer: Signer
) -> None:
    for number in range(20):
        await _search(service, name, k=100)
        last = await read_model.put(_collection(read_model, name), [Row(f"n{number}", [1.0, 0.5])])
        token = signer.sign_token(ConsistencyToken(read_model.log_id, TENANT, first=last, last=last))
        assert f"n{number}" in _ids(await _search(service, name, token=token, k=100))


async def test_max_staleness_takes_an_older_answer_and_zero_takes_none_that_a_new_poll_does_not_confirm(
    service: httpx.AsyncClient, read_model: ReadModel, name: str
) -> None:
    await _search(service, name)
    await read_model.put(_collection(read_model, name), [Row("b", [1.0, 0.1])])
    older = await _search(service, name, max_staleness_ms=60_000)
    assert (_ids(older), older["cached"]) == (["a"], True)
    assert older["freshness"]["age_ms"] < 60_000
    assert older["freshness"]["position"] < read_model.position
    assert _ids(await _search(service, name, max_staleness_ms=0)) == ["a", "b"]


async def test_an_older_answer_still_covers_the_token_that_asks_for_it(
    service: httpx.AsyncClient, read_model: ReadModel, name: str, signer: Signer
) -> None:
    await _search(service, name)
    last = await read_model.put(_collection(read_model, name), [Row("b", [1.0, 0.1])])
    token = signer.sign_token(ConsistencyToken(read_model.log_id, TENANT, first=last, last=last))
    assert _ids(await _search(service, name, token=token, max_staleness_ms=60_000)) == ["a", "b"]


async def test_services_share_answers_through_redis(
    databases: Databases, redis_url: str, redis: Redis, name: str
) -> None:
    async with (
        running_service(databases.read_reader_dsn, redis_url=redis_url) as one,
        running_service(databases.read_reader_dsn, redis_url=redis_url) as other,
    ):
        first = await _search(one, name)
        await _until_stored(redis)
        second = await _search(other, name)
        assert (first["cached"], second["cached"]) == (False, True)
        assert first["hits"] == second["hits"]


async def test_entries_of_an_old_dump_and_rubbish_are_never_served(
    databases: Databases, redis_url: str, redis: Redis, read_model: ReadModel, name: str
) -> None:
    async with running_service(databases.read_reader_dsn, redis_url=redis_url) as client:
        await _search(client, name)
        [key] = await _until_stored(redis)
        old = await redis.get(key)
    assert isinstance(old, bytes)
    await read_model.put(_collection(read_model, name), [Row("b", [1.0, 0.1])])
    for value in (old, b"", b"rubbish", old[:-1], old[:30], bytes(len(old))):
        await redis.set(key, value)
        async with running_service(databases.read_reader_dsn, redis_url=redis_url) as client:
            answer = await _search(client, name)
            assert (_ids(answer), answer["cached"]) == (["a", "b"], False)


async def test_searches_go_on_without_redis(databases: Databases, name: str) -> None:
    async with running_service(databases.read_reader_dsn, redis_url=f"redis://:x@127.0.0.1:{free_port()}/0") as client:
        assert not (await _search(client, name))["cached"]
        assert (await _search(client, name))["cached"], "this process remembers it"


async def test_a_silent_redis_holds_searches_up_once_and_not_each_time(databases: Databases, name: str) -> None:
    silent = await asyncio.start_server(lambda _reader, _writer: asyncio.sleep(3600), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    async with running_service(databases.read_reader_dsn, redis_url=f"redis://127.0.0.1:{port}/0") as client:
        started = time.monotonic()
        for number in range(20):
            await _search(client, name, k=number + 1)
        assert time.monotonic() - started < 1.5, "a tenth of a second is waited once a second at most"
    silent.close()


async def test_an_announced_change_is_seen_before_the_poll_is_old(
    databases: Databases, redis_url: str, redis: Redis, read_model: ReadModel, name: str
) -> None:
    async with running_service(databases.read_reader_dsn, redis_url=redis_url, poll_max_age_seconds=1) as client:
        async with asyncio.timeout(5):
            while not (await redis.pubsub_numsub(CHANGES_CHANNEL))[0][1]:  # noqa: ASYNC110 - Redis tells nobody
                await asyncio.sleep(0.01)
        await _search(client, name)
        position = await read_model.put(_collection(read_model, name), [Row("b", [1.0, 0.1])])
        assert _ids(await _search(client, name)) == ["a"], "the poll is less than a second old"
        for rubbish in (b"", b"[]", b"{}", b'{"position": "x"}'):
            await redis.publish(CHANGES_CHANNEL, rubbish)
        told = ChangeNotification(log_id=read_model.log_id, position=position, collections=())
        await redis.publish(CHANGES_CHANNEL, told.model_dump_json())
        await asyncio.sleep(0.1)
        assert _ids(await _search(client, name)) == ["a", "b"]


async def test_a_promotion_makes_kept_answers_unfindable(
    service: httpx.AsyncClient, read_model: ReadModel, name: str
) -> None:
    await _search(service, name)
    await read_model.promote(_collection(read_model, name))
    await asyncio.sleep(_POLLED)
    answer = await _search(service, name)
    assert (_ids(answer), answer["cached"]) == (["a"], False)


@pytest.mark.parametrize("value", [-1, 3_600_001, "5", 1.5, True])
async def test_a_staleness_out_of_range_is_refused(service: httpx.AsyncClient, name: str, value: object) -> None:
    answer = await service.post(
        f"/api/v1/collections/{name}/vectors/search", json={"embedding": [1.0, 0.0], "max_staleness_ms": value}
    )
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/max_staleness_ms"


async def _until_stored(redis: Redis) -> list[bytes]:
    """What is stored beside an answer comes a moment after it."""
    async with asyncio.timeout(5):
        while not (keys := await redis.keys("aindusdb:answer:*")):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return [key for key in keys if isinstance(key, bytes)]
