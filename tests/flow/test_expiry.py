"""From the write with an instant to the deletion that its history shows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from command_service import expiring
from command_service.command_bus import CommandBus
from command_service.domain.commands import Command, DeleteExpired, WriteVectors
from command_service.outcomes import Outcome
from tests.flow.conftest import API, Flow, running_flow
from tests.projector.projecting import until
from tests.servers import DatabaseFactory

VECTOR = {"embedding": [1, 2]}


@pytest_asyncio.fixture(scope="module")
async def flow(database_factory: DatabaseFactory) -> AsyncIterator[Flow]:
    async with (
        database_factory.pair() as databases,
        running_flow(databases, read_dsn=databases.command_read_dsn, expiry_interval_seconds=0.05) as running,
    ):
        yield running


def _soon(milliseconds: int = 1500) -> str:
    return (datetime.now(UTC) + timedelta(milliseconds=milliseconds)).isoformat()


async def _write(flow: Flow, name: str, operations: list[dict[str, Any]]) -> None:
    await flow.written("POST", f"/collections/{name}/vectors/batch", {"operations": operations})


async def _deleted(flow: Flow, name: str) -> list[str]:
    rows = await flow.projection.log.fetch(
        "SELECT event_data ->> 'id' AS id FROM events WHERE event_type = 'VectorDeleted' AND collection_id ="
        " (SELECT collection_id FROM events WHERE event_data ->> 'name' = $1 LIMIT 1) ORDER BY id",
        name,
    )
    return [row["id"] for row in rows]


async def test_what_has_expired_is_deleted_in_pages_by_events_that_say_why(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiring, "PAGE_VECTORS", 4)
    await flow.collection("pages")
    at = _soon()
    await _write(
        flow, "pages",
        [{"op": "create", "id": f"v{n:02}", **VECTOR, **({"expires_at": at} if n < 10 else {})} for n in range(12)],
    )  # fmt: skip
    expected = [f"v{n:02}" for n in range(10)]

    async def all_deleted() -> bool:
        return await _deleted(flow, "pages") == expected

    await until(all_deleted, "what has expired was not deleted")
    await until(flow.projection.caught_up, "the projector did not catch up")
    history = (await flow.found("GET", "/collections/pages/vectors/v03/history"))["items"]
    deletion = next(event for event in history if event["event_type"] == "VectorDeleted")
    assert (deletion["data"], deletion["actor"], deletion["version"]) == ({"reason": "expired"}, "expiry", 2)
    creation = next(event for event in history if event["event_type"] == "VectorCreated")
    assert datetime.fromisoformat(creation["data"]["expires_at"]) == datetime.fromisoformat(at)
    items = (await flow.found("GET", "/collections/pages/vectors"))["items"]
    assert [(one["id"], one["expires_at"]) for one in items] == [("v10", None), ("v11", None)]
    metrics = (await flow.write.get("/metrics")).text
    assert "aindusdb_expired_vectors_deleted_total 1" in metrics  # ten, and what other tests have deleted

    # One request takes a page back: those vectors live on, without the instant that has passed.
    restored = await flow.written("POST", "/restore", {"request_id": deletion["request_id"]})
    assert restored["restored"] == 4
    back = (await flow.found("GET", "/collections/pages/vectors"))["items"]
    assert len(back) == 6
    assert {one["expires_at"] for one in back} == {None}


async def test_a_retention_deletes_what_was_not_changed_for_so_long(flow: Flow) -> None:
    await flow.collection("retained", retention_seconds=2)
    await _write(flow, "retained", [{"op": "create", "id": one, **VECTOR} for one in ("left", "renewed")])
    number = 0

    async def left_is_deleted() -> bool:
        nonlocal number
        number += 1
        await flow.written("PATCH", "/collections/retained/vectors/renewed", {"metadata": {"n": number}})
        return bool(await _deleted(flow, "retained"))

    await until(left_is_deleted, "what was not changed was not deleted")
    assert await _deleted(flow, "retained") == ["left"]
    await flow.written("PATCH", "/collections/retained", {"retention_seconds": None})
    assert [one["id"] for one in (await flow.found("GET", "/collections/retained/vectors"))["items"]] == ["renewed"]


async def _renewed_by_upsert(flow: Flow) -> None:
    await flow.written("PUT", "/collections/raced-upsert/vectors/v", {**VECTOR, "expires_at": "2100-01-01T00:00:00Z"})


async def _retention_removed(flow: Flow) -> None:
    await flow.written("PATCH", "/collections/raced-retention", {"retention_seconds": None})


@pytest.mark.parametrize(
    ("name", "settings", "vector", "renew"),
    [
        ("raced-upsert", {}, {"expires_at": 1500}, _renewed_by_upsert),
        ("raced-retention", {"retention_seconds": 1}, {}, _retention_removed),
    ],
)
async def test_a_vector_that_lives_again_between_the_look_and_the_deletion_survives(
    flow: Flow,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    settings: dict[str, Any],
    vector: dict[str, Any],
    renew: Callable[[Flow], Awaitable[None]],
) -> None:
    execute = CommandBus.execute
    raced: list[Outcome] = []

    async def renewing_first(bus: CommandBus, command: Command) -> Outcome:
        if not (isinstance(command, WriteVectors) and command.collection == name):
            return await execute(bus, command)
        if not isinstance(command.operations[0], DeleteExpired):
            return await execute(bus, command)
        if not raced:
            await renew(flow)
        raced.append(await execute(bus, command))
        return raced[-1]

    monkeypatch.setattr(CommandBus, "execute", renewing_first)
    await flow.collection(name, **settings)
    fields = {"expires_at": _soon(vector["expires_at"])} if vector else {}
    await _write(flow, name, [{"op": "create", "id": "v", **VECTOR, **fields}])
    await until(lambda: bool(raced), "nothing was found to be deleted")
    answer = await flow.asked("GET", f"/collections/{name}/vectors/v")
    assert answer.status_code == 200, answer.text
    events = await flow.projection.log.fetch(
        "SELECT event_type FROM events WHERE event_data ->> 'id' = 'v' AND collection_id = $1::uuid ORDER BY position",
        (await flow.read.get(f"{API}/collections/{name}")).json()["collection_id"],
    )
    kinds = [row["event_type"] for row in events]
    assert kinds == (["VectorCreated", "VectorDeleted", "VectorCreated"] if vector else ["VectorCreated"])
