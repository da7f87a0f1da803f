"""A collection moves to another embedding model under load, with its processes killed on the way."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from uuid import uuid4

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from aindusdb.cli import build_app
from aindusdb.local_stack.ports import free_port
from tests.embedding.endpoint import Endpoint, answered, running_endpoint
from tests.processes import running_process
from tests.projector.projecting import until
from tests.query.conftest import SIGNING_KEY
from tests.query.conftest import running_service as running_query_service
from tests.replay.commanding import answer as command_answer
from tests.servers import DatabaseFactory, Databases

API = "/api/v1/collections/moving"
DIMENSIONS = {"old": 8, "new": 5}
_PACE_SECONDS = 0.05

EDGE = "aindusdb.local_stack.edge"


def numbers_by(model: str, text: str) -> list[float]:
    """Different for each text, in directions of each model's own."""
    seed = int.from_bytes(hashlib.sha256(f"{model} {text}".encode()).digest()[:8])
    numbers: list[float] = np.random.default_rng(seed).standard_normal(DIMENSIONS[model]).astype(np.float32).tolist()
    return numbers


@dataclass
class Processes:
    """Each on a port of its own, where it comes back after it was killed."""

    environments: Mapping[str, Mapping[str, str]]
    ports: dict[str, int] = field(default_factory=dict)
    _running: dict[str, AsyncExitStack] = field(default_factory=dict)
    _processes: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)

    async def start(self, module: str) -> None:
        stack = self._running[module] = AsyncExitStack()
        environment = {**self.environments[module], "AINDUSDB_PORT": str(self.port(module))}
        self._processes[module], _ = await stack.enter_async_context(running_process(module, **environment))

    async def kill(self, module: str) -> None:
        self._processes[module].kill()
        await self._running.pop(module).aclose()

    def port(self, module: str) -> int:
        return self.ports.setdefault(module, free_port())

    def url(self, module: str) -> str:
        return f"http://127.0.0.1:{self.port(module)}"

    async def command(self, *arguments: str) -> Result:
        runner = CliRunner(env={"AINDUSDB_URL": self.url(EDGE)})
        return await asyncio.to_thread(runner.invoke, build_app(), arguments)

    async def stop(self) -> None:
        await asyncio.gather(*(stack.aclose() for stack in self._running.values()))


@asynccontextmanager
async def running_product(
    databases: Databases, endpoint: Endpoint, *, whole: bool
) -> AsyncIterator[tuple[Processes, httpx.AsyncClient]]:
    """Its processes, and a client of the query service: that is one of them if it is the `whole` product, with the edge
    before it, and else runs in this one."""
    embedding = {
        "embedding_provider": "openai",
        "embedding_url": endpoint.url,
        "embedding_model": "old",
        "embedding_others": json.dumps([{"provider": "openai", "model": "new", "url": endpoint.url}]),
        "embedding_timeout_seconds": "60",
    }
    environments: dict[str, dict[str, str]] = {
        "command_service": {
            "AINDUSDB_EVENTS_DSN": databases.events_dsn,
            "AINDUSDB_READ_DSN": databases.command_read_dsn,
            "AINDUSDB_REEMBEDDING_INTERVAL_SECONDS": "0.1",
        },
        "projector": {
            "AINDUSDB_EVENTS_DSN": databases.projector_events_dsn,
            "AINDUSDB_READ_DSN": databases.read_dsn,
            "AINDUSDB_UPKEEP_INTERVAL_SECONDS": "0.1",
            "AINDUSDB_REBUILD_MAX_EVENTS_PER_SECOND": "2000",
        },
    }
    processes = Processes(environments)
    if whole:
        environments["query_service"] = {
            "AINDUSDB_EVENTS_DSN": databases.events_reader_dsn,
            "AINDUSDB_READ_DSN": databases.read_reader_dsn,
        }
        environments[EDGE] = {
            "AINDUSDB_EDGE_COMMAND_URL": processes.url("command_service"),
            "AINDUSDB_EDGE_QUERY_URL": processes.url("query_service"),
        }
    for environment in environments.values():
        environment |= {f"AINDUSDB_{name.upper()}": value for name, value in embedding.items()}
        environment["AINDUSDB_SIGNING_KEYS"] = SIGNING_KEY
    async with AsyncExitStack() as stack:
        stack.push_async_callback(processes.stop)
        await asyncio.gather(*map(processes.start, environments))
        yield (
            processes,
            await stack.enter_async_context(
                httpx.AsyncClient(base_url=processes.url("query_service"), trust_env=False, timeout=60)
                if whole
                else running_query_service(
                    databases.read_reader_dsn, events_dsn=databases.events_reader_dsn, **embedding
                )
            ),
        )


class Moving:
    """The collection `moving`: what it holds, and those who write and search all the time."""

    def __init__(self, write: httpx.AsyncClient, read: httpx.AsyncClient) -> None:
        self._write = write
        self._read = read
        self.contents: dict[str, str] = {}
        self.head = 0
        self.searched: set[str] = set()
        self.switches = 0
        self.is_written = False

    async def written(self, method: str, path: str, body: Any) -> dict[str, Any]:
        """Tried until it is answered: once it takes effect, under the same key."""
        headers = {"Idempotency-Key": uuid4().hex}
        while True:
            try:
                answer = await self._write.request(method, path, json=body, headers=headers)
            except httpx.TransportError:
                await asyncio.sleep(0.05)
                continue
            if answer.is_success:
                document: dict[str, Any] = answer.json()
                return document
            assert answer.status_code in (429, 503), answer.text
            await asyncio.sleep(0.05)

    async def put(self, contents: Mapping[str, str]) -> str:
        operations = [{"op": "upsert", "id": one, "content": text} for one, text in contents.items()]
        written = await self.written("POST", f"{API}/vectors/batch", {"operations": operations})
        self.contents |= contents
        self.head = written["last_position"]
        token: str = written["consistency_token"]
        return token

    async def asked(self, path: str, body: dict[str, Any]) -> httpx.Response:
        return await self._read.post(f"{API}/{path}", json=body)

    async def found(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        answer = await self.asked("vectors/search", body)
        assert answer.status_code == 200, answer.text
        hits: list[dict[str, Any]] = answer.json()["hits"]
        return hits

    async def shown(self) -> dict[str, Any]:
        answer = await self._read.get(API)
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    async def reembedding(self) -> dict[str, Any]:
        document: dict[str, Any] = (await self._write.get(f"{API}/reembedding")).json()
        return document

    async def write_on(self) -> None:
        """New ones, and new contents of others; those that are searched for stay."""
        for number in count(1):
            if self.is_written:
                return
            await self.put({f"later-{number}": f"later {number}", f"changed-{number % 3}": f"changed {number}"})
            await asyncio.sleep(_PACE_SECONDS)

    async def search_by_text(self, text: str) -> None:
        """It finds itself first by whichever model; by which, the distance to another text says."""
        other = self.contents["fixed-1"]
        distances = {model: _distance(model, text, other) for model in DIMENSIONS}
        while True:
            hits = await self.found({"query": text, "filter": {"$id": {"$in": ["fixed-1", "fixed-2"]}}})
            assert hits[0]["content"] == text
            assert abs(hits[0]["distance"]) < 1e-6
            at = next(hit["distance"] for hit in hits if hit["id"] == "fixed-1")
            [by] = [model for model, distance in distances.items() if abs(at - distance) < 1e-5]
            self.searched.add(by)
            await asyncio.sleep(_PACE_SECONDS)

    async def search_by_embedding(self, text: str) -> None:
        """Of the collection's model; where that is another one by now, the refusal says of which."""
        model = "old"
        while True:
            answer = await self.asked("vectors/search", {"embedding": numbers_by(model, text), "model": model})
            if answer.status_code == 422:
                assert (model, answer.json()["expected"]["model"]) == ("old", "new"), answer.text
                model = "new"
                self.switches += 1
                continue
            assert answer.status_code == 200, answer.text
            assert answer.json()["hits"][0]["content"] == text
            await asyncio.sleep(_PACE_SECONDS)

    async def search_by_id(self, vector_id: str) -> None:
        while True:
            hits = await self.found({"id": vector_id, "k": 3})
            assert len(hits) == 3
            await asyncio.sleep(_PACE_SECONDS)


def _distance(model: str, one: str, other: str) -> float:
    a, b = (np.array(numbers_by(model, text)) for text in (one, other))
    return float(1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def _nearest(model: str, contents: Mapping[str, str], text: str, k: int) -> list[str]:
    ids = sorted(contents)
    rows = np.array([numbers_by(model, contents[one]) for one in ids])
    origin = np.array(numbers_by(model, text))
    similarity = rows @ origin / np.linalg.norm(rows, axis=1) / np.linalg.norm(origin)
    return [ids[at] for at in np.argsort(-similarity, kind="stable")[:k]]


async def _move(databases: Databases, *, texts: int, whole: bool) -> None:
    async with running_endpoint() as endpoint, AsyncExitStack() as stack:
        killed, held = asyncio.Event(), asyncio.Event()

        def by_both(_number: int, asked: list[str]) -> Any:
            model = endpoint.models[-1]
            if model == "new" and len(asked) > 2 and not killed.is_set():
                held.set()
                return killed  # the texts that are there, in the hands of the process that is to die
            return answered([numbers_by(model, text) for text in asked])

        endpoint.fault = by_both
        processes, read = await stack.enter_async_context(running_product(databases, endpoint, whole=whole))
        write = await stack.enter_async_context(
            httpx.AsyncClient(base_url=processes.url("command_service"), trust_env=False, timeout=60)
        )
        moving = Moving(write, read)
        await moving.written("POST", "/api/v1/collections", {"name": "moving", "model": "old"})
        fixed = {f"fixed-{number}": f"text {number}" for number in range(texts)}
        token = ""
        for first in range(0, texts, 500):
            token = await moving.put(dict(list(fixed.items())[first : first + 500]))
        await moving.found({"query": "text 0", "consistency_token": token, "timeout_ms": 30_000})
        past, before = moving.head, dict(moving.contents)
        writing = asyncio.create_task(moving.write_on())
        searching = [
            asyncio.create_task(moving.search_by_text("text 2")),
            asyncio.create_task(moving.search_by_embedding("text 3")),
            asyncio.create_task(moving.search_by_id("fixed-4")),
        ]

        async def goes_on(condition: Callable[[], Any], what: str) -> None:
            async def holds() -> bool:
                await asyncio.gather(*(task for task in (writing, *searching) if task.done()))
                found = condition()
                return bool(await found if asyncio.iscoroutine(found) else found)

            await until(holds, what)

        if whole:
            begun = await processes.command("collections", "reembed", "moving", "--model", "new", "--dimension", "5")
            assert begun.stdout == "moving moves to the model 'new' (openai, 5 dimensions)\n", begun.output
        else:
            await moving.written("PATCH", API, {"model": "new", "dimension": 5})
        await goes_on(held.is_set, "nothing is embedded anew")
        shown = await moving.shown()
        assert (shown["model"], shown["dimension"], shown["change"]["to_spec"]["model"]) == ("old", 8, "new")
        await processes.kill("command_service")
        killed.set()
        await processes.start("command_service")

        async def is_building() -> bool:
            change = (await moving.shown())["change"]
            return change is None or change["state"] == "running"

        await goes_on(is_building, "no tables are made")
        await processes.kill("projector")
        await processes.start("projector")
        if whole:
            watching = asyncio.create_task(
                processes.command("collections", "reembed", "moving", "--model", "new", "--watch", "--json")
            )
            await goes_on(watching.done, "the move does not end")
            watched = await watching
            assert watched.exit_code == 0, watched.output
            assert json.loads(watched.stdout)["state"] == "none"

        async def is_over() -> bool:
            everybody_knows = bool(moving.switches) and "new" in moving.searched
            return everybody_knows and (await moving.reembedding())["state"] == "none"

        await goes_on(is_over, "the move does not end")
        moving.is_written = True
        await writing
        for task in searching:
            task.cancel()
        outcomes = await asyncio.gather(*searching, return_exceptions=True)
        assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes), outcomes
        assert (moving.searched, moving.switches) == ({"old", "new"}, 1)

        token = await moving.put({"last": "the last text"})
        shown = await moving.shown()
        assert (shown["model"], shown["dimension"], shown["change"]) == ("new", 5, None)
        for text in ("text 0", "later 1", "the last text", "something else"):
            options = {"k": 10, "consistency_token": token, "timeout_ms": 30_000, "include": []}
            expected = _nearest("new", moving.contents, text, 10)
            for body in ({"query": text, "exact": True}, {"query": text, "ef_search": 1_000}):
                assert [hit["id"] for hit in await moving.found(body | options)] == expected
        assert (await command_answer(databases, "verify", "--collection", "moving"))["ok"]

        build = ("replay", "build", "--collection", "moving", "--until-position", str(past), "--name", "before")
        await command_answer(databases, *build)
        for number in (0, 5):
            then = {"query": f"text {number}", "k": 10, "as_of": {"snapshot": "before"}}
            expected = _nearest("old", before, f"text {number}", 10)
            assert [hit["id"] for hit in await moving.found(then)] == expected


async def test_a_collection_moves_to_another_model_while_it_is_used_and_its_processes_die(
    database_factory: DatabaseFactory,
) -> None:
    async with database_factory.pair() as databases:
        await _move(databases, texts=60, whole=False)


@pytest.mark.long
async def test_a_large_collection_moves_by_the_command_line_while_it_is_used_and_its_processes_die(
    database_factory: DatabaseFactory,
) -> None:
    async with database_factory.pair() as databases:
        await _move(databases, texts=5_000, whole=True)
