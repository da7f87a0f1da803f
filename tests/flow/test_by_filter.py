"""Deleting and patching what a filter matches."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from command_service import by_filter
from command_service.domain.refusals import CollectionDeletedError
from command_service.service import CommandService
from tests.command.conftest import running_service
from tests.flow.conftest import API, Flow, running_flow
from tests.servers import DatabaseFactory


@pytest_asyncio.fixture(scope="module")
async def flow(database_factory: DatabaseFactory) -> AsyncIterator[Flow]:
    async with (
        database_factory.pair() as databases,
        running_flow(databases, read_dsn=databases.command_read_dsn) as running,
    ):
        yield running


async def _filled(flow: Flow, name: str, count: int) -> str:
    await flow.collection(name)
    operations = [
        {"op": "create", "id": f"v{number:04}", "embedding": [1, 2], "metadata": {"n": number, "odd": number % 2}}
        for number in range(count)
    ]
    await flow.written("POST", f"/collections/{name}/vectors/batch", {"operations": operations})
    return f"/collections/{name}/vectors"


async def _by_filter(flow: Flow, path: str, body: dict[str, Any], **options: Any) -> dict[str, Any]:
    """With the token of all that was written before."""
    answer = await flow.write.post(
        f"{API}{path}", json={"consistency_token": flow.token, "timeout_ms": 30_000, **body}, **options
    )
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


async def _ids(flow: Flow, vectors: str, token: str | None = None) -> list[str]:
    options = {} if token is None else {"params": {"consistency_token": token, "limit": 1000}}
    return [one["id"] for one in (await flow.found("GET", vectors, **options))["items"]]


async def test_what_matches_is_deleted_in_transactions_and_counted_exactly(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_filter, "TRANSACTION_EVENTS", 4)
    vectors = await _filled(flow, "numbers", 20)
    wanted = {"filter": {"odd": 1}}
    counted = await _by_filter(flow, f"{vectors}/delete", {**wanted, "dry_run": True})
    assert (counted["matched"], counted["deleted"], counted["consistency_token"]) == (10, 0, None)
    limited = await _by_filter(flow, f"{vectors}/delete", {**wanted, "limit": 3})
    assert (limited["matched"], limited["deleted"], limited["limit_reached"]) == (3, 3, True)
    body = {**wanted, "consistency_token": limited["consistency_token"]}
    done = await _by_filter(flow, f"{vectors}/delete", body)
    assert (done["matched"], done["deleted"], done["conflicts"], done["limit_reached"]) == (7, 7, 0, False)
    assert done["last_position"] - done["first_position"] == 6
    assert done["collection"] == "numbers"
    assert await _ids(flow, vectors, done["consistency_token"]) == [f"v{number:04}" for number in range(0, 20, 2)]
    nothing = await _by_filter(flow, f"{vectors}/delete", {**wanted, "consistency_token": done["consistency_token"]})
    assert (nothing["matched"], nothing["first_position"], nothing["consistency_token"]) == (0, None, None)


async def test_what_changed_meanwhile_stays_as_it_is_and_is_reported(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = await _filled(flow, "contended", 6)
    read = by_filter.ChangingByFilter._go_on
    await flow.found("POST", f"{vectors}/count")

    async def interfered(self: Any, *arguments: Any) -> None:
        page = self._matching.page

        async def read_then_overtaken(*asked: Any) -> Any:
            found = await page(*asked)
            changes = [{"op": "delete", "id": "v0001"}, {"op": "patch", "id": "v0002", "metadata": {"n": -1}}]
            changed = await flow.write.post(f"{API}{vectors}/batch", json={"operations": changes})
            assert changed.is_success, changed.text
            return found

        monkeypatch.setattr(self._matching, "page", read_then_overtaken)
        await read(self, *arguments)

    monkeypatch.setattr(by_filter.ChangingByFilter, "_go_on", interfered)
    body = {"filter": {"n": {"$lt": 4}}, "metadata": {"seen": True}}
    patched = await _by_filter(flow, f"{vectors}/patch", body)
    monkeypatch.undo()
    assert (patched["matched"], patched["changed"], patched["conflicts"]) == (4, 2, 2)
    left = [(one["id"], one["reason"]) for one in patched["skipped"]]
    assert left == [("v0001", "changed_meanwhile"), ("v0002", "changed_meanwhile")]
    options = {"params": {"consistency_token": patched["consistency_token"]}}
    listed = (await flow.found("GET", vectors, **options))["items"]
    assert {one["id"]: one["metadata"].get("seen") for one in listed} == {
        "v0000": True, "v0002": None, "v0003": True, "v0004": None, "v0005": None
    }  # fmt: skip


async def test_a_request_that_was_cut_off_goes_on_under_its_key_and_answers_for_the_whole(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_filter, "TRANSACTION_EVENTS", 3)
    vectors = await _filled(flow, "resumed", 10)
    body = {"consistency_token": flow.token, "timeout_ms": 30_000, "filter": {}, "metadata": {"done": True}}
    key = {"Idempotency-Key": "cut off"}
    write, calls = CommandService.write_what_is_left, 0

    async def dying(self: Any, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise CollectionDeletedError("resumed")
        return await write(self, *arguments)

    monkeypatch.setattr(CommandService, "write_what_is_left", dying)
    cut = await flow.write.post(f"{API}{vectors}/patch", json=body, headers=key)
    assert cut.status_code == 409
    whole = await _by_filter(flow, f"{vectors}/patch", body, headers=key)
    assert (whole["matched"], whole["changed"], whole["conflicts"]) == (10, 10, 0)
    await _by_filter(flow, f"{vectors}/delete", {"filter": {"n": 1}})
    assert await _by_filter(flow, f"{vectors}/patch", body, headers=key) == whole
    versions = (await flow.found("GET", vectors, params={"consistency_token": whole["consistency_token"]}))["items"]
    assert {one["version"] for one in versions} == {2}
    other = await flow.write.post(f"{API}{vectors}/patch", json={**body, "metadata": {}}, headers=key)
    assert (other.status_code, other.json()["type"]) == (422, "/problems/idempotency-key-reused")


@pytest.mark.parametrize(
    ("route", "body", "problem", "pointer"),
    [
        ("delete", "{}", "validation", "/filter"),
        ("delete", '{"filter": null}', "invalid-filter", "/filter"),
        ("delete", '{"filter": []}', "invalid-filter", "/filter"),
        ("delete", '{"filter": {"a": {"$near": 1}}}', "invalid-filter", "/filter/a/$near"),
        ("delete", '{"filter": {}, "limit": 0}', "validation", "/limit"),
        ("delete", '{"filter": {}, "limit": 100001}', "validation", "/limit"),
        ("delete", '{"filter": {}, "limit": "9"}', "validation", "/limit"),
        ("delete", '{"filter": {}, "dry_run": 1}', "validation", "/dry_run"),
        ("delete", '{"filter": {}, "timeout_ms": 30001}', "validation", "/timeout_ms"),
        ("delete", '{"filter": {}, "metadata": {}}', "validation", "/metadata"),
        ("patch", '{"filter": {}}', "validation", "/metadata"),
        ("patch", '{"filter": {}, "metadata": []}', "validation", "/metadata"),
        ("patch", '{"filter": {}, "metadata": {"a": "\\u0000"}}', "validation", "/metadata"),
    ],
)
async def test_a_bad_request_is_refused_by_field(flow: Flow, route: str, body: str, problem: str, pointer: str) -> None:
    if not await flow.projection.log.fetchval("SELECT EXISTS (SELECT FROM events WHERE event_data ->> 'name' = 'bad')"):
        await flow.collection("bad")
    answer = await flow.write.post(
        f"{API}/collections/bad/vectors/{route}", content=body, headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["type"]) == (422, f"/problems/{problem}"), answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer


async def test_tokens_are_honoured_and_without_a_read_database_it_is_refused(flow: Flow) -> None:
    vectors = await _filled(flow, "strict", 1)
    for token, status in (("nonsense", 400), (flow.token, 200)):
        answer = await flow.write.post(
            f"{API}{vectors}/delete",
            json={"filter": {}, "dry_run": True, "timeout_ms": 30_000},
            headers={"X-Consistency-Token": token},
        )
        assert answer.status_code == status, answer.text
    databases = flow.projection.databases
    not_set_up = databases.command_read_dsn.replace("aindusdb_command", "aindusdb_nobody")
    for settings in ({}, {"read_dsn": not_set_up}):
        async with running_service(databases, **settings) as without:
            refused = await without.post(f"{API}{vectors}/delete", json={"filter": {}})
            assert (refused.status_code, refused.json()["type"]) == (503, "/problems/dependency-unavailable")
    absent = await flow.write.post(f"{API}/collections/absent/vectors/delete", json={"filter": {}})
    assert (absent.status_code, absent.json()["type"]) == (404, "/problems/collection-not-found")
