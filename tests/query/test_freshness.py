"""Consistency tokens: a read waits for what its token covers, and says so when it waited in vain."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import orjson
import pytest_asyncio

from shared.http.application import LARGE_BODY_BYTES
from shared.tokens import ConsistencyToken, Signer
from tests.query.conftest import running_service
from tests.query.read_model import TENANT, ReadModel, Row
from tests.servers import Databases


@pytest_asyncio.fixture(scope="module", autouse=True)
async def _notes(read_model: ReadModel) -> None:
    await read_model.put(await read_model.create("notes", 2), [Row("a", [1.0, 0.0])])


def _token(signer: Signer, model: ReadModel, last: int, *, first: int | None = None, **changes: Any) -> str:
    fields = {"log_id": model.log_id, "tenant": TENANT, "first": last if first is None else first, "last": last}
    return signer.sign_token(ConsistencyToken(**{**fields, **changes}))


async def _search(service: httpx.AsyncClient, *tokens: str, name: str = "notes", **body: Any) -> httpx.Response:
    headers = {"X-Consistency-Token": ",".join(tokens)} if tokens else {}
    document = {"embedding": [1.0, 0.0], **body}
    return await service.post(f"/api/v1/collections/{name}/vectors/search", json=document, headers=headers)


def _problem(answer: httpx.Response, status: int, name: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    document: dict[str, Any] = answer.json()
    assert document["type"] == f"/problems/{name}"
    return document


async def test_a_search_waits_for_its_token_and_then_sees_the_write(
    service: httpx.AsyncClient, read_model: ReadModel, signer: Signer
) -> None:
    collection_id = await read_model.create("waiting", 2)
    token = _token(signer, read_model, read_model.position + 1)
    pending = asyncio.create_task(_search(service, token, name="waiting"))
    await asyncio.sleep(0.1)
    assert not pending.done()
    await read_model.put(collection_id, [Row("new", [1.0, 0.0])])
    answer = await pending
    assert [hit["id"] for hit in answer.json()["hits"]] == ["new"]
    assert answer.json()["freshness"]["position"] == read_model.position


async def test_all_tokens_are_waited_for(service: httpx.AsyncClient, read_model: ReadModel, signer: Signer) -> None:
    covered = _token(signer, read_model, 1)
    ahead = _token(signer, read_model, read_model.position + 1)
    _problem(await _search(service, covered, ahead, timeout_ms=0), 503, "not-fresh-enough")
    _problem(await _search(service, covered, consistency_token=ahead, timeout_ms=0), 503, "not-fresh-enough")
    assert (await _search(service, covered, covered, consistency_token=covered)).status_code == 200


async def test_a_large_bodys_token_counts_as_well(
    service: httpx.AsyncClient, read_model: ReadModel, signer: Signer
) -> None:
    token = _token(signer, read_model, read_model.position + 1)
    for text, status, name in ((token, 503, "not-fresh-enough"), ("rubbish", 400, "malformed-token")):
        body = orjson.dumps({"embedding": [1.0, 0.0], "consistency_token": text, "timeout_ms": 0})
        padded = body + b" " * LARGE_BODY_BYTES
        headers = {"Content-Type": "application/json"}
        answer = await service.post("/api/v1/collections/notes/vectors/search", content=padded, headers=headers)
        _problem(answer, status, name)


async def test_a_token_that_is_not_reached_in_time_is_503_with_both_positions(
    service: httpx.AsyncClient, read_model: ReadModel, signer: Signer
) -> None:
    started = time.monotonic()
    last = read_model.position + 100
    answer = await _search(service, _token(signer, read_model, last), timeout_ms=150)
    problem = _problem(answer, 503, "not-fresh-enough")
    assert 0.15 <= time.monotonic() - started < 1
    assert (problem["expected"], problem["current"]) == (last, read_model.position)
    assert answer.headers["retry-after"] == "1"


async def test_waiting_for_a_token_ends_before_the_request_does(
    databases: Databases, read_model: ReadModel, signer: Signer
) -> None:
    ahead = _token(signer, read_model, read_model.position + 100)
    async with running_service(databases.read_reader_dsn, request_timeout_seconds=1) as service:
        _problem(await _search(service, ahead, timeout_ms=30_000), 503, "not-fresh-enough")
        got = await service.get("/api/v1/collections/notes", params={"consistency_token": ahead, "timeout_ms": 30_000})
        _problem(got, 503, "not-fresh-enough")


async def test_gets_take_tokens_in_the_query(service: httpx.AsyncClient, read_model: ReadModel, signer: Signer) -> None:
    parameters = {"consistency_token": _token(signer, read_model, read_model.position + 5), "timeout_ms": "10"}
    for path in ("/collections", "/collections/notes", "/collections/notes/vectors", "/collections/notes/vectors/a"):
        _problem(await service.get(f"/api/v1{path}", params=parameters), 503, "not-fresh-enough")


async def test_the_answers_token_covers_the_answer_and_serves_as_one(
    service: httpx.AsyncClient, read_model: ReadModel, signer: Signer
) -> None:
    token = (await _search(service)).json()["freshness"]["token"]
    read = signer.read_token(token)
    assert (read.log_id, read.tenant, read.last) == (read_model.log_id, TENANT, read_model.position)
    assert (await _search(service, token)).status_code == 200


async def test_a_token_of_another_log_is_of_the_wrong_database(
    service: httpx.AsyncClient, read_model: ReadModel, signer: Signer
) -> None:
    token = _token(signer, read_model, 1, log_id=uuid4())
    _problem(await _search(service, token), 400, "wrong-database")


async def test_a_token_of_another_tenant_is_of_the_wrong_database(
    service: httpx.AsyncClient, read_model: ReadModel, signer: Signer
) -> None:
    _problem(await _search(service, _token(signer, read_model, 1, tenant="other")), 400, "wrong-database")


async def test_malformed_tokens_are_refused_before_anything_else(
    service: httpx.AsyncClient, read_model: ReadModel, signer: Signer
) -> None:
    good = _token(signer, read_model, 1)
    for tokens in (["rubbish"], [good[:-2]], [good, ""], [good] * 9):
        _problem(await _search(service, *tokens, k=0), 400, "malformed-token")
    _problem(await _search(service, consistency_token="rubbish", k=0), 400, "malformed-token")
    foreign = Signer([b"another-key"])
    _problem(await _search(service, _token(foreign, read_model, 1)), 400, "malformed-token")


async def test_parked_events_are_counted_and_refused_only_to_who_wrote_them(
    service: httpx.AsyncClient, read_model: ReadModel, signer: Signer
) -> None:
    collection_id = await read_model.create("parked", 2)
    position = await read_model.park(collection_id)
    await read_model.advance()
    problem = _problem(
        await _search(service, _token(signer, read_model, position), name="parked"), 409, "projection-parked"
    )
    assert problem["positions"] == [position]
    later = await _search(service, _token(signer, read_model, position + 1), name="parked")
    assert later.json()["freshness"]["parked"] == 1
    own = await _search(service, later.json()["freshness"]["token"], name="parked")
    assert own.status_code == 200
    other = await _search(service, _token(signer, read_model, position), name="notes")
    assert other.json()["freshness"]["parked"] == 0


async def test_a_collection_whose_creation_is_parked_is_not_called_unknown_to_its_creator(
    service: httpx.AsyncClient, read_model: ReadModel, signer: Signer
) -> None:
    position = await read_model.park(uuid4(), "collection")
    _problem(await _search(service, _token(signer, read_model, position), name="never"), 409, "projection-parked")
    _problem(await _search(service, name="never"), 404, "collection-not-found")


async def test_a_deleted_collection_is_gone_and_its_name_can_be_used_again(
    service: httpx.AsyncClient, read_model: ReadModel, signer: Signer
) -> None:
    first = await read_model.create("again", 2)
    await read_model.put(first, [Row("old", [1.0, 0.0])])
    assert (await _search(service, _token(signer, read_model, read_model.position), name="again")).status_code == 200
    deleted = await read_model.delete_collection(first)
    _problem(await _search(service, _token(signer, read_model, deleted), name="again"), 404, "collection-not-found")
    await read_model.create("again", 2)
    answer = await _search(service, _token(signer, read_model, read_model.position), name="again")
    assert answer.json()["hits"] == []


@pytest_asyncio.fixture
async def slow_to_poll(databases: Databases) -> AsyncIterator[httpx.AsyncClient]:
    """A service that goes on with a poll for a second."""
    async with running_service(databases.read_reader_dsn, poll_max_age_seconds=1) as client:
        yield client


async def test_an_answer_from_a_collection_that_was_deleted_after_the_poll_claims_no_position_after_its_deletion(
    slow_to_poll: httpx.AsyncClient, read_model: ReadModel
) -> None:
    collection_id = await read_model.create("leaving", 2)
    written = await read_model.put(collection_id, [Row("a", [1.0, 0.0])])
    assert (await _search(slow_to_poll, name="leaving")).json()["freshness"]["position"] == written
    await read_model.delete_collection(collection_id)
    answer = (await _search(slow_to_poll, name="leaving", k=1)).json()
    assert [hit["id"] for hit in answer["hits"]] == ["a"]
    assert answer["freshness"]["position"] == written
    seen = answer["freshness"]["token"]
    _problem(await _search(slow_to_poll, seen, name="leaving", k=1), 404, "collection-not-found")


async def test_an_answer_claims_no_position_after_an_event_that_was_parked_after_the_poll(
    slow_to_poll: httpx.AsyncClient, read_model: ReadModel
) -> None:
    collection_id = await read_model.create("parking", 2)
    assert (await _search(slow_to_poll, name="parking")).json()["freshness"]["position"] == read_model.position
    parked = await read_model.park(collection_id)
    freshness = (await _search(slow_to_poll, name="parking", k=1)).json()["freshness"]
    assert (freshness["position"], freshness["parked"]) == (parked - 1, 0)
    freshness = (await _search(slow_to_poll, freshness["token"], name="parking", k=1)).json()["freshness"]
    assert (freshness["position"], freshness["parked"]) == (parked, 1)


async def test_a_generation_that_was_replaced_after_the_poll_is_found_by_a_new_one(
    read_model: ReadModel, signer: Signer, service: httpx.AsyncClient
) -> None:
    collection_id = await read_model.create("moving", 2)
    await read_model.put(collection_id, [Row("a", [1.0, 0.0])])
    token = _token(signer, read_model, read_model.position)
    assert (await _search(service, token, name="moving")).status_code == 200
    await read_model.promote(collection_id)
    answer = await _search(service, name="moving")
    assert [hit["id"] for hit in answer.json()["hits"]] == ["a"]
