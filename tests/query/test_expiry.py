"""What has expired is in no answer from its instant on, and until then in every one, kept answers included."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import cycle
from typing import Any
from uuid import uuid4

import httpx
import numpy as np
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from tests.query.conftest import running_service
from tests.query.read_model import ReadModel, Row
from tests.servers import Databases

API = "/api/v1/collections"
ANCHOR = "anchor"
"""Never expires, by any rule; what the others are compared with."""
K = 4
RETENTION = timedelta(days=30)


@pytest_asyncio.fixture(scope="module")
async def services(
    databases: Databases, read_model: ReadModel, redis_url: str
) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Two processes that share what they keep in Redis."""
    async with AsyncExitStack() as stack, Redis.from_url(redis_url) as client:
        await client.flushdb()
        yield [
            await stack.enter_async_context(running_service(databases.read_reader_dsn, redis_url=redis_url))
            for _ in range(2)
        ]


@dataclass(frozen=True, slots=True)
class Vectors:
    """Those of a collection in order of their distance to the anchor, which is one of them and left out here, each with
    when it expires; None: never."""

    name: str
    expiries: Mapping[str, datetime | None]

    def alive(self, at: datetime) -> list[str]:
        return [one for one, expires_at in self.expiries.items() if expires_at is None or expires_at > at]

    def odd(self, ids: list[str]) -> list[str]:
        return [one for one in ids if int(one[1:]) % 2]


def _ids(of: Any) -> list[str]:
    return [one["id"] for one in of]


@dataclass(frozen=True, slots=True)
class Route:
    """`shown` are the ids in an answer; `wanted` those that it should have, of what lives: not the anchor's."""

    method: str
    path: str
    body: Any
    shown: Callable[[Any], list[str]]
    wanted: Callable[[Vectors, list[str]], list[str]]


def _first(count: int) -> Callable[[Vectors, list[str]], list[str]]:
    return lambda _vectors, alive: alive[:count]


SEARCH = {"k": K, "max_staleness_ms": 60_000}
HERE = {"embedding": [1, 0]}
ROUTES = {
    "search": Route("POST", "/search", {**SEARCH, **HERE}, lambda of: _ids(of["hits"]), _first(K - 1)),
    "exactly": Route("POST", "/search", {**SEARCH, **HERE, "exact": True}, lambda of: _ids(of["hits"]), _first(K - 1)),
    "by id": Route("POST", "/search", {**SEARCH, "id": ANCHOR}, lambda of: _ids(of["hits"]), _first(K)),
    "all": Route("POST", "/search", {**SEARCH, **HERE, "k": 100}, lambda of: _ids(of["hits"]), _first(100)),
    "filtered": Route(
        "POST", "/search", {**SEARCH, **HERE, "filter": {"odd": True}}, lambda of: _ids(of["hits"]),
        lambda vectors, alive: vectors.odd(alive)[:K],
    ),
    "batch": Route(
        "POST", "/search/batch", {"queries": [{**HERE, "k": K}], "max_staleness_ms": 60_000},
        lambda of: _ids(of["results"][0]["hits"]), _first(K - 1),
    ),
    "groups": Route(
        "POST", "/search/groups",
        {**HERE, "group_by": "metadata.odd", "groups": 2, "per_group": 100, "max_staleness_ms": 60_000},
        lambda of: [one for group in of["groups"] for one in _ids(group["hits"])], _first(100),
    ),
    "recommend": Route(
        "POST", "/recommend", {**SEARCH, "positive": [{"id": ANCHOR}]}, lambda of: _ids(of["hits"]), _first(K)
    ),
    "best score": Route(
        "POST", "/recommend", {**SEARCH, "positive": [{"id": ANCHOR}], "strategy": "best_score"},
        lambda of: _ids(of["hits"]), _first(K),
    ),
    "list": Route("GET", "", None, lambda of: _ids(of["items"]), _first(100)),
    "scroll": Route(
        "POST", "/scroll", {"filter": {"odd": True}, "limit": 100}, lambda of: _ids(of["items"]),
        lambda vectors, alive: vectors.odd(alive),
    ),
}  # fmt: skip


async def _ask(client: httpx.AsyncClient, vectors: Vectors, route: Route) -> list[str]:
    answer = await client.request(route.method, f"{API}/{vectors.name}/vectors{route.path}", json=route.body)
    assert answer.status_code == 200, answer.text
    return [one for one in route.shown(answer.json()) if one != ANCHOR]


async def _filled(
    read_model: ReadModel, offsets: list[int | None], *, by_retention: bool, month_partitions: bool
) -> Vectors:
    """`offsets`: in milliseconds from now on, when each expires; with retention, all do."""
    began = await _clock(read_model)
    name = f"expiring-{uuid4().hex[:8]}"
    seconds = int(RETENTION.total_seconds()) if by_retention else None
    collection_id = await read_model.create(name, 2, month_partitions=month_partitions, retention_seconds=seconds)
    rows = [Row(ANCHOR, [1.0, 0.0], created_at=began)]
    expiries: dict[str, datetime | None] = {}
    for number, offset in enumerate(offsets):
        expires_at = None if offset is None else began + timedelta(milliseconds=offset)
        created_at = began - timedelta(days=1)
        if by_retention:
            created_at = began if expires_at is None else expires_at - RETENTION
        angle = (number + 1) / 100
        expiries[f"v{number:03}"] = expires_at
        rows.append(
            Row(
                f"v{number:03}", [np.cos(angle), np.sin(angle)], {"odd": bool(number % 2)}, created_at=created_at,
                expires_at=None if by_retention else expires_at,
            )
        )  # fmt: skip
    await read_model.put(collection_id, rows)
    return Vectors(name, expiries)


async def _clock(read_model: ReadModel) -> datetime:
    clock: datetime = await read_model.connection.fetchval("SELECT clock_timestamp()")
    return clock


async def _seen(clients: list[httpx.AsyncClient], name: str) -> None:
    for client in clients:
        while (await client.get(f"{API}/{name}/vectors")).status_code == 404:
            pass


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    offsets=st.lists(st.none() | st.integers(-500, 600), min_size=8, max_size=20),
    by_retention=st.booleans(),
    month_partitions=st.booleans(),
)
async def test_at_every_instant_every_route_shows_what_lives_and_nothing_else(
    services: list[httpx.AsyncClient],
    read_model: ReadModel,
    offsets: list[int | None],
    by_retention: bool,
    month_partitions: bool,
) -> None:
    vectors = await _filled(read_model, offsets, by_retention=by_retention, month_partitions=month_partitions)
    await _seen(services, vectors.name)
    last = max((one for one in vectors.expiries.values() if one is not None), default=datetime.now(UTC))
    clients = cycle(services)
    over = False
    while not over:
        over = await _clock(read_model) > last
        for what, route in ROUTES.items():
            before = await _clock(read_model)
            shown = await _ask(next(clients), vectors, route)
            after = await _clock(read_model)
            ever = route.wanted(vectors, vectors.alive(before))
            alive = vectors.alive(after)
            assert len(set(shown)) == len(shown), what
            assert set(shown) <= set(vectors.alive(before)), (what, before)
            assert {one for one in ever if one in alive} <= set(shown), (what, after)
            assert len(shown) >= len(route.wanted(vectors, alive)), (what, after)


async def test_one_vector_and_the_count_follow_the_clock(
    services: list[httpx.AsyncClient], read_model: ReadModel
) -> None:
    vectors = await _filled(read_model, [None, -100, *range(100, 800, 50)], by_retention=False, month_partitions=False)
    path = f"{API}/{vectors.name}/vectors"
    await _seen(services, vectors.name)
    assert (await services[0].get(f"{path}/v001")).status_code == 404
    shown = (await services[0].get(f"{path}/v015")).json()["expires_at"]
    assert shown is not None
    assert datetime.fromisoformat(shown) == vectors.expiries["v015"]
    assert (await services[0].get(f"{path}/v000")).json()["expires_at"] is None
    for client in cycle(services):
        before = await _clock(read_model)
        one = await client.get(f"{path}/v002")
        document = (await client.post(f"{path}/count", json={"max_staleness_ms": 60_000})).json()
        filtered = (await client.post(f"{path}/count", json={"filter": {"odd": True}})).json()
        after = await _clock(read_model)
        many, few = vectors.alive(before), vectors.alive(after)
        assert len(few) + 1 <= document["count"] <= len(many) + 1
        assert len(vectors.odd(few)) <= filtered["count"] <= len(vectors.odd(many))
        assert one.status_code in ({200} if "v002" in few else {404} if "v002" not in many else {200, 404})
        if few == ["v000"]:
            break


async def test_what_a_search_begins_at_is_not_there_once_it_has_expired(
    services: list[httpx.AsyncClient], read_model: ReadModel
) -> None:
    vectors = await _filled(read_model, [None, 400], by_retention=False, month_partitions=False)
    path = f"{API}/{vectors.name}/vectors"
    await _seen(services, vectors.name)
    asked: list[tuple[str, Any]] = [
        ("/search", {"id": "v001"}),
        ("/search", {"id": "v001", "filter": {"odd": False}}),
        ("/search/groups", {"id": "v001", "group_by": "metadata.odd"}),
        ("/recommend", {"positive": [{"id": "v001"}]}),
    ]
    statuses: dict[int, set[int]] = {number: set() for number in range(len(asked))}
    while any(404 not in one and 422 not in one for one in statuses.values()):
        for number, (route, body) in enumerate(asked):
            before = await _clock(read_model)
            answer = await services[number % 2].post(f"{path}{route}", json={**body, "max_staleness_ms": 60_000})
            statuses[number].add(answer.status_code)
            if "v001" in vectors.alive(await _clock(read_model)):
                assert answer.status_code == 200, answer.text
            if "v001" not in vectors.alive(before):
                assert answer.status_code in {404, 422}, (route, answer.text)


@pytest.mark.parametrize("index", ["hnsw", "none"])
async def test_a_search_among_many_that_have_expired_finds_all_that_live(
    services: list[httpx.AsyncClient], read_model: ReadModel, index: Any
) -> None:
    """Nothing has deleted them yet, and they are the nearest."""
    name = f"backlog-{index}"
    collection_id = await read_model.create(name, 2, index=index)
    past = datetime.now(UTC) - timedelta(seconds=1)
    angles = np.linspace(0.001, 1.5, 600)
    await read_model.put(
        collection_id,
        [
            Row(f"v{number:03}", [np.cos(angle), np.sin(angle)], expires_at=past if number < 550 else None)
            for number, angle in enumerate(angles)
        ],
    )
    await _seen(services, name)
    bodies: list[dict[str, Any]] = [{}, {"filter": {}}, {"exact": True}]
    for body in bodies:
        answer = (await services[0].post(f"{API}/{name}/vectors/search", json={**HERE, "k": 20, **body})).json()
        assert _ids(answer["hits"]) == [f"v{number:03}" for number in range(550, 570)], body
        assert answer["complete"]
