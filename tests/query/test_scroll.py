"""Scrolling neither repeats nor skips while vectors come, change, go and come back, in every order and by a filter."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.read_model.tables import records_table
from shared.tokens import Signer
from tests.query.conftest import running_service
from tests.query.read_model import ReadModel, Row
from tests.servers import Databases, connected

_SCROLL = "/api/v1/collections/{}/vectors/scroll"
_LIST = "/api/v1/collections/scrolled/vectors"
_numbers = st.integers(0, 30)
_changes = st.tuples(st.sampled_from(["create", "change", "delete", "delete and create"]), _numbers)


@pytest_asyncio.fixture(scope="module", autouse=True)
async def _scrolled(read_model: ReadModel) -> None:
    rows = [Row(f"v{n:02}", [1.0, n], {"n": n}) for n in range(10)]
    await read_model.put(await read_model.create("scrolled", 2, index="none"), rows)
    await asyncio.sleep(0.03)


async def _scroll(service: httpx.AsyncClient, name: str = "scrolled", **body: Any) -> dict[str, Any]:
    answer = await service.post(_SCROLL.format(name), json={"max_staleness_ms": 0, **body})
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


@given(
    start=st.sets(_numbers, min_size=1),
    limit=st.integers(1, 5),
    order_by=st.sampled_from(["id", "created_at"]),
    direction=st.sampled_from(["asc", "desc"]),
    filtered=st.booleans(),
    changes=st.lists(st.lists(_changes, max_size=4), max_size=12),
)
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
async def test_pages_neither_repeat_nor_skip_whatever_is_written(
    service: httpx.AsyncClient,
    read_model: ReadModel,
    start: set[int],
    limit: int,
    order_by: str,
    direction: str,
    filtered: bool,
    changes: list[list[tuple[str, int]]],
) -> None:
    if "unrest" not in read_model.ids:
        await read_model.create("unrest", 2, index="none")
    collection_id = read_model.ids["unrest"]
    await read_model.delete(collection_id, [f"v{n:02}" for n in range(31)])
    ordered = sorted(start)
    for half in (ordered[::2], ordered[1::2]):  # created at two times, each of them the same for several
        await read_model.put(collection_id, [_row(n) for n in half])
    there, ever = set(start), set(start)
    always = {n for n in start if not filtered or n % 3}
    pending = iter(changes)
    seen: list[dict[str, Any]] = []
    body: dict[str, Any] = {"limit": limit, "order_by": order_by, "direction": direction}
    if filtered:
        body["filter"] = {"wanted": True}
    while True:
        page = await _scroll(service, "unrest", **body)
        seen += page["items"]
        if page["next_cursor"] is None:
            break
        body["cursor"] = page["next_cursor"]
        for kind, n in next(pending, []):
            if kind.startswith("delete"):
                await read_model.delete(collection_id, [f"v{n:02}"])
                there.discard(n)
                always.discard(n)
            if kind.endswith("create") and n not in there:
                await read_model.put(collection_id, [_row(n)])
                there.add(n)
                ever.add(n)
            if kind == "change" and n in there:
                table = records_table(collection_id, 1)
                changed = f"UPDATE {table} SET updated_at = now(), version = version + 1 WHERE id = $1"
                await read_model.connection.execute(changed, f"v{n:02}")
    ids = [item["id"] for item in seen]
    assert len(ids) == len(set(ids))
    assert {f"v{n:02}" for n in always} <= set(ids) <= {f"v{n:02}" for n in ever if not filtered or n % 3}
    keys = [(item["created_at"], item["id"]) if order_by == "created_at" else item["id"] for item in seen]
    assert keys == sorted(keys, reverse=direction == "desc")


@pytest.mark.parametrize("direction", ["asc", "desc"])
async def test_a_vector_that_was_created_anew_does_not_come_again(
    service: httpx.AsyncClient, read_model: ReadModel, direction: str
) -> None:
    name = f"anew-{direction}"
    collection_id = await read_model.create(name, 2, index="none")
    await read_model.put(collection_id, [_row(n) for n in range(4)])
    body: dict[str, Any] = {"order_by": "created_at", "direction": direction, "limit": 2}
    first = await _scroll(service, name, **body)
    again = [int(item["id"][1:]) for item in first["items"]]
    await read_model.put(collection_id, [_row(n) for n in again])
    rest = await _scroll(service, name, **body, cursor=first["next_cursor"])
    assert sorted(item["id"] for page in (first, rest) for item in page["items"]) == [f"v{n:02}" for n in range(4)]
    assert rest["next_cursor"] is None


def _row(n: int) -> Row:
    return Row(f"v{n:02}", [1.0, 0.0], {"wanted": bool(n % 3)})


async def test_a_page_brings_what_is_asked_for_and_a_list_is_a_scroll(service: httpx.AsyncClient) -> None:
    page = await _scroll(service, filter={"n": {"$gte": 8}}, include=["metadata.n"], limit=1)
    assert [item["metadata"] for item in page["items"]] == [{"n": 8}]
    rest = await _scroll(service, filter={"n": {"$gte": 8}}, include=[], cursor=page["next_cursor"])
    assert ([item["id"] for item in rest["items"]], rest["next_cursor"]) == (["v09"], None)
    begun = await _scroll(service, limit=4)
    listed = (await service.get(_LIST, params={"cursor": begun["next_cursor"]})).json()
    assert [item["id"] for item in listed["items"]] == [f"v{n:02}" for n in range(4, 10)]


async def test_the_next_page_is_not_read_from_before_the_last_one(service: httpx.AsyncClient, signer: Signer) -> None:
    cursor = (await _scroll(service, limit=1))["next_cursor"]
    key = signer.read_cursor(cursor, "pages:default")
    for changed, status, name in (
        ({"seen": key["seen"] + 100}, 503, "not-fresh-enough"),
        ({"log_id": uuid4().hex}, 400, "malformed-cursor"),
        ({"collection_id": uuid4().hex}, 400, "malformed-cursor"),
    ):
        other = signer.sign_cursor("pages:default", {**key, **changed})
        for answer in (
            await service.post(_SCROLL.format("scrolled"), json={"cursor": other, "timeout_ms": 0}),
            await service.get(_LIST, params={"cursor": other, "timeout_ms": 0}),
        ):
            assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{name}"), answer.text


async def test_a_cursor_belongs_to_its_filter_and_order(service: httpx.AsyncClient) -> None:
    cursor = (await _scroll(service, limit=1))["next_cursor"]
    for other in ({"filter": {"n": 1}}, {"order_by": "created_at"}, {"direction": "desc"}):
        answer = await service.post(_SCROLL.format("scrolled"), json={"cursor": cursor, **other})
        assert (answer.status_code, answer.json()["type"]) == (400, "/problems/malformed-cursor")


@pytest.mark.parametrize(
    ("body", "status", "name", "pointer"),
    [
        ({"limit": 0}, 422, "validation", "/limit"),
        ({"limit": 1001}, 422, "validation", "/limit"),
        ({"order_by": "updated_at"}, 422, "validation", "/order_by"),
        ({"direction": "up"}, 422, "validation", "/direction"),
        ({"filter": {"$x": 1}}, 422, "invalid-filter", "/filter/$x"),
        ({"include": ["n"]}, 422, "validation", "/include/0"),
        ({"k": 1}, 422, "validation", "/k"),
        ({"cursor": "rubbish", "limit": 0}, 400, "malformed-cursor", None),
        ({"cursor": ""}, 400, "malformed-cursor", None),
        ({"cursor": 1}, 422, "validation", "/cursor"),
    ],
)
async def test_a_scroll_that_breaks_a_rule_is_refused(
    service: httpx.AsyncClient, body: dict[str, Any], status: int, name: str, pointer: str | None
) -> None:
    answer = await service.post(_SCROLL.format("scrolled"), json=body)
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (status, f"/problems/{name}"), answer.text
    assert pointer in (None, problem.get("errors", [{}])[0].get("pointer"))


async def test_a_count_that_takes_too_long_ends_in_a_timeout_and_so_does_its_statement(
    databases: Databases, read_model: ReadModel
) -> None:
    table = records_table(read_model.ids["scrolled"], 1)
    async with (
        running_service(databases.read_reader_dsn, request_timeout_seconds=0.5) as service,
        connected(databases.read_dsn) as holder,
    ):
        path = f"{_LIST}/count"
        async with holder.transaction():
            await holder.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            answer = await service.post(path, json={"filter": {"n": 7}})
            assert (answer.status_code, answer.json()["type"]) == (504, "/problems/timeout")
            async with asyncio.timeout(10):
                while await _waits_for(holder, table):  # noqa: ASYNC110 - the server tells nobody
                    await asyncio.sleep(0.02)
        counted = await service.post(path, json={"filter": {"n": {"$lt": 7}}})
        assert (counted.json()["count"], counted.json()["exact"]) == (7, True)


async def _waits_for(connection: asyncpg.Connection[asyncpg.Record], table: str) -> bool:
    waiting = await connection.fetchval(
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = $1::text::regclass", table
    )
    return bool(waiting)
