"""A steady load of writes, each of which is tried until its outcome is known; one reader goes with them."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any
from uuid import uuid4

import httpx

from tests.crash.acknowledged import Acknowledged, Promise
from tests.crash.reader import Reader

COLLECTION = "/api/v1/collections/crash"
DIMENSION = 8
IDS = 400
BY_FILTER_SHARE = 0.1

_PATIENCE_SECONDS = 60.0


class Load:
    def __init__(self, command_url: str, query_url: str, *, writers: int, seed: int) -> None:
        self.acknowledged = Acknowledged()
        self.reader = Reader(command_url, query_url, COLLECTION, DIMENSION, self.acknowledged)
        self._command_url = command_url
        self._random = random.Random(seed)
        self._stopping = asyncio.Event()
        self._writers = writers
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        async with httpx.AsyncClient(base_url=self._command_url) as client:
            answer = await client.post("/api/v1/collections", json={"name": "crash", "dimension": DIMENSION})
            assert answer.status_code == 201, answer.text
        self._tasks = [asyncio.create_task(self._write(number)) for number in range(self._writers)]
        self._tasks.append(asyncio.create_task(self.reader.read_until(self._stopping)))

    async def stop(self) -> None:
        self._stopping.set()
        await asyncio.gather(*self._tasks)

    async def goes_on(self) -> None:
        """Waits until writes are acknowledged (again)."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        before = len(self.acknowledged.promises)
        while len(self.acknowledged.promises) < before + 20:
            assert time.monotonic() < deadline, f"no write was acknowledged for {_PATIENCE_SECONDS:g} seconds"
            await asyncio.sleep(0.02)

    def restored(self, position: int) -> int:
        """The log is another one now, and ends here. Says how many promises it cannot keep."""
        self.reader.restored(position)
        return self.acknowledged.give_up_beyond(position)

    async def _write(self, number: int) -> None:
        limits = httpx.Limits(max_connections=1)
        async with httpx.AsyncClient(base_url=self._command_url, timeout=10, limits=limits) as client:
            while not self._stopping.is_set():
                await self._one(client, number)
                await asyncio.sleep(self._random.random() * 0.01)

    async def _one(self, client: httpx.AsyncClient, number: int) -> None:
        if self._random.random() < BY_FILTER_SHARE:
            await self._by_filter(client, number)
            return
        operations = [self._operation(number) for _ in range(1 if self._random.random() < 0.7 else 15)]
        operations = list({operation["id"]: operation for operation in operations}.values())
        marks = {o["id"]: o["metadata"]["mark"] for o in operations if o["op"] != "delete"}
        headers = {"Idempotency-Key": str(uuid4())}
        self.acknowledged.unknown.update(marks.values())
        self.acknowledged.under_way += 1
        try:
            answer = await self._until_answered(client, "vectors/batch", {"operations": operations}, headers)
        finally:
            self.acknowledged.under_way -= 1
        if answer is None:
            return
        self.acknowledged.unknown.difference_update(marks.values())
        self.acknowledged.last_at = time.monotonic()
        if answer.status_code != 200:
            assert answer.status_code == 404, f"unexpected refusal: {answer.text}"
            return
        body = answer.json()
        for result in body["results"]:
            if result["op"] == "delete":
                self.acknowledged.deletions += result["result"] == "deleted"
            else:
                mark = marks[result["id"]]
                self.acknowledged.promises[mark] = Promise(result["id"], result["position"], result["version"])

    async def _by_filter(self, client: httpx.AsyncClient, number: int) -> None:
        vector_id, mark = f"v{self._random.randrange(IDS)}", str(uuid4())
        body = {"filter": {"$id": vector_id}, "metadata": {"mark": mark, "writer": number}}
        self.acknowledged.unknown.add(mark)
        self.acknowledged.under_way += 1
        try:
            answer = await self._until_answered(client, "vectors/patch", body, {"Idempotency-Key": str(uuid4())})
        finally:
            self.acknowledged.under_way -= 1
        if answer is None:
            return
        assert answer.status_code == 200, f"unexpected refusal: {answer.text}"
        self.acknowledged.unknown.discard(mark)
        self.acknowledged.last_at = time.monotonic()
        report = answer.json()
        if report["changed"]:
            self.acknowledged.promises[mark] = Promise(vector_id, report["last_position"])

    async def _until_answered(
        self, client: httpx.AsyncClient, path: str, body: dict[str, Any], headers: dict[str, str]
    ) -> httpx.Response | None:
        """Repeats the request under its key. None when the load stops before an answer comes."""
        given_up_at = float("inf")
        while time.monotonic() < given_up_at:
            if self._stopping.is_set():
                given_up_at = min(given_up_at, time.monotonic() + 60)
            try:
                answer = await client.post(f"{COLLECTION}/{path}", json=body, headers=headers)
            except httpx.TransportError:
                await asyncio.sleep(0.05)
                continue
            self.acknowledged.note_status(answer)
            if answer.status_code < 500:
                return answer
            await asyncio.sleep(0.05)
        return None

    def _operation(self, number: int) -> dict[str, Any]:
        # Writers share the ids, so that they meet in transactions and in the projector's batches.
        vector_id = f"v{self._random.randrange(IDS)}"
        kind = self._random.choices(("upsert", "patch", "delete"), (6, 3, 1))[0]
        operation: dict[str, Any] = {"op": kind, "id": vector_id}
        if kind != "delete":
            operation["metadata"] = {"mark": str(uuid4()), "writer": number}
        if kind == "upsert":
            operation["embedding"] = [self._random.uniform(0.1, 1) for _ in range(DIMENSION)]
            operation["content"] = f"text {self._random.random()}"
        return operation
