"""The change feed of a running service: never a gap, never a repetition, whatever happens to its readers."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
import orjson
import pytest
import pytest_asyncio

from aindusdb.local_stack.ports import free_port
from tests.projector.log_writer import LogWriter, NewCollection
from tests.projector.projecting import Projection
from tests.query.conftest import SIGNING_KEY
from tests.servers import DatabaseFactory, connected

_FEED = "/api/v1/events"


@dataclass
class Message:
    id: str = ""
    event: str = ""
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def position(self) -> int:
        return int(self.id.split("@")[0])


async def _messages(response: httpx.Response) -> AsyncIterator[Message]:
    """Every block of the stream, those without data included."""
    message = Message()
    async for line in response.aiter_lines():
        name, _, value = line.partition(": ")
        match name:
            case "id":
                message.id = value
            case "event":
                message.event = value
            case "data":
                message.data = orjson.loads(value)
            case "" if not line:
                yield message
                message = Message()


@dataclass(frozen=True, slots=True)
class Running:
    process: asyncio.subprocess.Process
    url: str
    log: LogWriter
    projection: Projection

    @asynccontextmanager
    async def feed(self, *, last: str | None = None, **parameters: Any) -> AsyncIterator[AsyncIterator[Message]]:
        headers = {} if last is None else {"Last-Event-ID": last}
        async with (
            httpx.AsyncClient(base_url=self.url, timeout=30, trust_env=False) as client,
            client.stream("GET", _FEED, params=parameters, headers=headers) as response,
        ):
            assert response.status_code == 200, await response.aread()
            assert response.headers["content-type"].startswith("text/event-stream")
            yield _messages(response)

    async def refused(self, *, headers: dict[str, str] | None = None, **parameters: Any) -> httpx.Response:
        async with httpx.AsyncClient(base_url=self.url, timeout=30, trust_env=False) as client:
            return await client.get(_FEED, params=parameters, headers=headers)


async def _take(messages: AsyncIterator[Message], count: int) -> list[Message]:
    taken: list[Message] = []
    async with asyncio.timeout(20):
        async for message in messages:
            if message.data:
                taken.append(message)
            if len(taken) == count:
                return taken
    raise AssertionError(f"the feed ended after {len(taken)} of {count} events")


@asynccontextmanager
async def _service(projection: Projection, log: LogWriter, **environment: str) -> AsyncIterator[Running]:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "query_service",
        env={
            **os.environ,
            "AINDUSDB_READ_DSN": projection.databases.read_reader_dsn,
            "AINDUSDB_EVENTS_DSN": projection.databases.events_reader_dsn,
            "AINDUSDB_SIGNING_KEYS": SIGNING_KEY,
            "AINDUSDB_PORT": str(port),
            "AINDUSDB_FEED_HEARTBEAT_SECONDS": "0.3",
            "AINDUSDB_REQUEST_TIMEOUT_SECONDS": "1",
            **environment,
        },
    )
    url = f"http://127.0.0.1:{port}"
    try:

        async def alive() -> bool:
            with suppress(httpx.TransportError):
                async with httpx.AsyncClient(trust_env=False) as client:
                    return (await client.get(f"{url}/health")).status_code == httpx.codes.OK
            return False

        deadline = time.monotonic() + 60
        while not await alive():
            assert time.monotonic() < deadline, "the service did not start"
            await asyncio.sleep(0.05)
        yield Running(process, url, log, projection)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest_asyncio.fixture(scope="module")
async def running(database_factory: DatabaseFactory) -> AsyncIterator[Running]:
    async with (
        database_factory.pair() as databases,
        connected(databases.events_dsn) as log,
        connected(databases.read_dsn) as read,
        _service(Projection(databases, log, read), LogWriter(log)) as service,
    ):
        yield service


@pytest_asyncio.fixture
async def articles(running: Running) -> NewCollection:
    return await running.log.create_collection(f"articles-{uuid4().hex[:8]}")


async def test_a_feed_from_a_position_brings_what_was_and_what_comes(running: Running, articles: NewCollection) -> None:
    first = await running.log.create(articles, "a", content="before")
    async with running.feed(after=str(first - 1)) as messages:
        [one] = await _take(messages, 1)
        assert (one.event, one.position, one.data["position"]) == ("VectorCreated", first, first)
        assert one.data["data"] == {"content": "before", "metadata": {}}
        later = await running.log.update(articles, "a", content="later")
        [two] = await _take(messages, 1)
        assert (two.event, two.position, two.data["changed"]) == ("VectorUpdated", later, ["content"])


async def test_a_feed_without_a_position_begins_now_and_outlives_the_request_timeout(
    running: Running, articles: NewCollection
) -> None:
    await running.log.create(articles, "old")
    async with running.feed() as messages:
        await anext(messages)
        await asyncio.sleep(1.5)
        position = await running.log.create(articles, "new")
        [one] = await _take(messages, 1)
        assert (one.data["id"], one.position) == ("new", position)


async def test_collections_and_types_are_filtered_and_heartbeats_move_the_id_past_what_did_not_match(
    running: Running, articles: NewCollection
) -> None:
    other = await running.log.create_collection(f"other-{uuid4().hex[:8]}")
    start = await running.log.create(articles, "a")
    await running.log.create(other, "b")
    await running.log.update(articles, "a", content="x")
    wanted = await running.log.delete(articles, "a")
    last = await running.log.create(other, "c")
    async with running.feed(
        after=str(start - 1), collection_id=str(articles.collection_id), type=["VectorDeleted", "VectorCreated"]
    ) as messages:
        assert [one.position for one in await _take(messages, 2)] == [start, wanted]
        async with asyncio.timeout(5):
            async for message in messages:
                if message.position >= last:
                    break
        assert not message.data
    await running.projection.catch_up()
    async with running.feed(after=str(start - 1), collection=articles.name) as messages:
        assert [one.data["collection_id"] for one in await _take(messages, 3)] == [str(articles.collection_id)] * 3


async def test_a_reader_that_comes_back_again_and_again_sees_each_event_once(
    running: Running, articles: NewCollection
) -> None:
    start = await running.log.create(articles, "begin")
    ended = asyncio.Event()

    async def write() -> None:
        for number in range(300):
            await running.log.create(articles, f"v{number}", metadata={"n": number})
        ended.set()

    writing = asyncio.create_task(write())
    seen: list[Message] = []
    last = str(start)
    chance = random.Random(5)
    while len(seen) < 300:
        async with running.feed(last=last, collection_id=str(articles.collection_id)) as messages:
            part = await _take(messages, min(chance.randint(1, 40), 300 - len(seen)))
            seen += part
            last = part[-1].id
    await writing
    assert [message.data["data"]["metadata"]["n"] for message in seen] == list(range(300))
    positions = [message.position for message in seen]
    assert positions == sorted(set(positions))


async def test_positions_that_cannot_be_begun_at_are_refused(running: Running, articles: NewCollection) -> None:
    head = await running.log.create(articles, "a")
    beyond = await running.refused(after=str(head + 1))
    assert (beyond.status_code, beyond.json()["type"]) == (422, "/problems/validation")
    assert beyond.json()["errors"][0]["pointer"] == "after"
    assert str(head) in beyond.json()["detail"]
    header = await running.refused(headers={"Last-Event-ID": str(head + 1)})
    assert header.json()["errors"][0]["pointer"] == "Last-Event-ID"
    foreign = await running.refused(headers={"Last-Event-ID": f"1@{uuid4()}"})
    assert (foreign.status_code, foreign.json()["type"]) == (400, "/problems/wrong-database")
    for text in ("", "x", "-1", "1.5", "1@", "1@nonsense", "1" * 30):
        assert (await running.refused(after=text)).status_code == 422


@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        ({"type": "VectorEaten"}, 422),
        ({"collection": "Not A Name"}, 422),
        ({"collection": "never-was"}, 404),
        ({"collection_id": str(uuid4())}, 404),
        ({"collection": "articles", "collection_id": str(uuid4())}, 422),
        ({"unknown": "1"}, 422),
    ],
)
async def test_selections_that_break_a_rule_are_refused(
    running: Running, parameters: dict[str, Any], status: int
) -> None:
    assert (await running.refused(**parameters)).status_code == status


async def test_another_media_type_is_not_acceptable(running: Running) -> None:
    answer = await running.refused(headers={"Accept": "application/json"})
    assert (answer.status_code, answer.json()["type"]) == (406, "/problems/not-acceptable")


async def test_feeds_are_bounded_and_end_when_the_service_is_asked_to_end(running: Running) -> None:
    async with _service(running.projection, running.log, AINDUSDB_MAX_FEEDS="2") as service:
        async with service.feed() as one, service.feed() as two:
            await anext(one)
            await anext(two)
            refused = await service.refused()
            assert (refused.status_code, refused.json()["type"]) == (503, "/problems/overloaded")
            service.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(5):
                for messages in (one, two):
                    async for _ in messages:
                        pass
        async with asyncio.timeout(5):
            assert await service.process.wait() == 0
