"""Aliases: set, switched and removed by one service, honoured by both."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.command.conftest import running_service
from tests.flow.conftest import API, Flow


async def _set(flow: Flow, alias: str, collection: str, **options: Any) -> dict[str, Any]:
    return await flow.written("PUT", f"/aliases/{alias}", {"collection": collection}, **options)


async def test_every_route_takes_an_alias_and_says_which_collection_it_was(flow: Flow) -> None:
    old = await flow.collection("old", ("a",), description="old")
    created = await flow.write.put(f"{API}/aliases/here", json={"collection": "old"})
    assert (created.status_code, created.json()["version"], created.headers["etag"]) == (201, 1, '"1"')
    vectors = "/collections/here/vectors"
    put = await flow.written("PUT", f"{vectors}/b", {"embedding": [2, 1]})
    many = {"operations": [{"op": "delete", "id": "b"}]}
    batch = await flow.written("POST", f"{vectors}/batch", many)
    back = await flow.written("POST", f"{vectors}/b/restore", {"version": 1})
    line = '{"id": "c", "embedding": [1, 1]}\n'
    imported = await flow.written(
        "POST", f"{vectors}/import", headers={"Content-Type": "application/x-ndjson"}, content=line
    )
    assert {one["collection"] for one in (put, batch, back, imported)} == {"old"}
    changed = await flow.written("PATCH", "/collections/here", {"description": "changed"})
    assert (changed["name"], changed["description"]) == ("old", "changed")
    collection = await flow.found("GET", "/collections/here")
    assert (collection["name"], collection["collection_id"]) == ("old", old["collection_id"])
    answers = [
        await flow.found("POST", f"{vectors}/search", {"embedding": [1, 2]}),
        await flow.found("POST", f"{vectors}/count"),
        await flow.found("GET", f"{vectors}/b"),
        await flow.found("GET", vectors),
    ]
    assert {one["collection"] for one in answers} == {"old"}
    assert [one["id"] for one in answers[3]["items"]] == ["a", "b", "c"]
    past = await flow.found("GET", f"{vectors}/b", params={"version": 1})
    history = await flow.found("GET", f"{vectors}/b/history")
    assert past["version"] == 1
    assert {one["collection_id"] for one in history["items"]} == {old["collection_id"]}


async def test_a_switch_is_one_event_and_a_read_with_its_token_sees_the_new_collection(flow: Flow) -> None:
    await flow.collection("blue", ("a",))
    green = await flow.collection("green", ("a", "b"))
    first = await _set(flow, "active", "blue")
    switched = await _set(flow, "active", "green")
    assert switched["position"] == first["position"] + 1
    counted = await flow.found("POST", "/collections/active/vectors/count")
    assert (counted["collection"], counted["count"]) == ("green", 2)
    again = await _set(flow, "active", "green")
    assert (again["version"], again["position"]) == (switched["version"], switched["position"])
    alias = await flow.asked("GET", "/aliases/active")
    assert (alias.json()["collection_id"], alias.headers["etag"]) == (green["collection_id"], '"2"')
    listed = await flow.found("GET", "/aliases", params={"collection": "green", "limit": 1})
    assert [one["name"] for one in listed["items"]] == ["active"]
    removed = await flow.written("DELETE", "/aliases/active")
    assert (removed["collection"], removed["version"]) == ("green", 3)
    gone = await flow.asked("GET", "/aliases/active")
    assert (gone.status_code, gone.json()["type"]) == (404, "/problems/alias-not-found")
    assert (await flow.asked("POST", "/collections/active/vectors/count")).status_code == 404
    reused = await flow.collection("active")
    assert reused["version"] == 4
    assert (await flow.found("GET", "/collections/active"))["collection_id"] == reused["collection_id"]


async def test_writes_during_switches_land_in_the_collection_that_they_name(flow: Flow) -> None:
    """Another process switches all the time, so this one's knowledge is always old."""
    await flow.collection("left")
    await flow.collection("right")
    await _set(flow, "swing", "left")
    async with running_service(flow.projection.databases) as other:
        for number in range(12):
            aim = "right" if number % 2 == 0 else "left"
            switch = await other.put(f"{API}/aliases/swing", json={"collection": aim})
            assert switch.is_success, switch.text
            body = {"embedding": [1, 2]}
            put, batch = await asyncio.gather(
                flow.write.put(f"{API}/collections/swing/vectors/v{number}", json=body),
                flow.write.post(
                    f"{API}/collections/swing/vectors/batch",
                    json={"operations": [{"op": "create", "id": f"w{number}", **body}]},
                ),
            )
            assert put.is_success, put.text
            assert (put.json()["collection"], batch.json()["collection"]) == (aim, aim)
            changed = await flow.write.patch(f"{API}/collections/swing", json={"description": str(number)})
            assert changed.json()["name"] == aim
    for name, odd in (("left", 1), ("right", 0)):
        await flow.written("PATCH", f"/collections/{name}", {"description": "last"})
        listed = await flow.found("GET", f"/collections/{name}/vectors")
        expected = sorted(f"{kind}{number}" for kind in "vw" for number in range(12) if number % 2 == odd)
        assert [one["id"] for one in listed["items"]] == expected


async def test_names_are_shared_and_what_is_aliased_stays(flow: Flow) -> None:
    await flow.collection("kept", ("a",))
    await _set(flow, "name", "kept")
    refusals = {
        ("PUT", "/aliases/kept", '{"collection": "kept"}'): (409, "collection-exists"),
        ("PUT", "/aliases/new", '{"collection": "name"}'): (404, "collection-not-found"),
        ("PUT", "/aliases/new", '{"collection": "absent"}'): (404, "collection-not-found"),
        ("POST", "/collections", '{"name": "name"}'): (409, "collection-exists"),
        ("DELETE", "/collections/kept", None): (409, "collection-aliased"),
        ("DELETE", "/collections/name", None): (409, "collection-aliased"),
        ("DELETE", "/aliases/kept", None): (404, "alias-not-found"),
        ("DELETE", "/aliases/absent", None): (404, "alias-not-found"),
    }
    for (method, path, body), (status, problem) in refusals.items():
        answer = await flow.write.request(
            method, f"{API}{path}", content=body, headers={"Content-Type": "application/json"}
        )
        assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{problem}"), path
    stale = await flow.write.put(f"{API}/aliases/name", json={"collection": "kept"}, headers={"If-Match": '"7"'})
    assert (stale.status_code, stale.json()["expected"], stale.json()["current"]) == (412, 7, 1)
    await flow.written("DELETE", "/aliases/name", headers={"If-Match": '"1"'})
    await flow.written("DELETE", "/collections/kept")


@pytest.mark.parametrize(
    ("name", "body", "pointer"),
    [
        ("Capital", '{"collection": "old"}', "name"),
        ("x" * 64, '{"collection": "old"}', "name"),
        ("fine", '{"collection": "Not a name"}', "/collection"),
        ("fine", '{"collection": null}', "/collection"),
        ("fine", '{"collection": 1}', "/collection"),
        ("fine", '{"collection": "a\\u0000"}', "/collection"),
        ("fine", "{}", "/collection"),
        ("fine", '{"collection": "old", "force": true}', "/force"),
    ],
)
async def test_a_bad_alias_is_refused_by_field(flow: Flow, name: str, body: str, pointer: str) -> None:
    answer = await flow.write.put(f"{API}/aliases/{name}", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/validation")
    assert answer.json()["errors"][0]["pointer"] == pointer


async def test_a_repeated_switch_under_its_key_answers_as_the_first(flow: Flow) -> None:
    await flow.collection("one")
    await flow.collection("two")
    key = {"Idempotency-Key": "switch"}
    first = await _set(flow, "keyed", "one", headers=key)
    await _set(flow, "keyed", "two")
    assert await _set(flow, "keyed", "one", headers=key) == first
    assert (await flow.found("GET", "/aliases/keyed"))["collection"] == "two"
