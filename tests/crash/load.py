"""A steady load of writes, each of which is tried until its outcome is known."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx

COLLECTION = "/api/v1/collections/crash"
DIMENSION = 8
IDS = 400
BY_FILTER_SHARE = 0.1


@dataclass
class Acknowledged:
    """What the service promised: by mark (unique to one operation) the vector's id and version, or, of a change by a
    filter, the vector's id and the event's position."""

    marks: dict[str, tuple[str, int]] = field(default_factory=dict)
    positions: dict[str, tuple[str, int]] = field(default_factory=dict)
    deletions: int = 0
    unknown: set[str] = field(default_factory=set)
    """Marks of operations whose answer never came."""
    under_way: int = 0
    last_at: float = 0.0
    stale_reads: int = 0


class Load:
    def __init__(self, command_url: str, query_url: str, *, writers: int, seed: int) -> None:
        self.acknowledged = Acknowledged()
        self._command_url = command_url
        self._query_url = query_url
        self._random = random.Random(seed)
        self._stopping = asyncio.Event()
        self._writers = writers
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        async with httpx.AsyncClient(base_url=self._command_url) as client:
            answer = await client.post("/api/v1/collections", json={"name": "crash", "dimension": DIMENSION})
            assert answer.status_code == 201, answer.text
        self._tasks = [asyncio.create_task(self._write(number)) for number in range(self._writers)]
        self._tasks.append(asyncio.create_task(self._read()))

    async def stop(self) -> None:
        self._stopping.set()
        await asyncio.gather(*self._tasks)

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
                self.acknowledged.marks[marks[result["id"]]] = (result["id"], result["version"])

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
            self.acknowledged.positions[mark] = (vector_id, report["last_position"])

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

    async def _read(self) -> None:
        """Reads its own writes by their tokens: an answer must hold at least what the token covers."""
        async with (
            httpx.AsyncClient(base_url=self._query_url, timeout=10) as query,
            httpx.AsyncClient(base_url=self._command_url, timeout=10) as command,
        ):
            while not self._stopping.is_set():
                await asyncio.sleep(0.05)
                mark = str(uuid4())
                try:
                    written = await command.put(
                        f"{COLLECTION}/vectors/reader",
                        json={"embedding": [1.0] * DIMENSION, "metadata": {"mark": mark}},
                    )
                    if written.status_code >= 300:
                        continue
                    answer = await query.get(
                        f"{COLLECTION}/vectors/reader",
                        headers={"X-Consistency-Token": written.json()["consistency_token"]},
                    )
                except httpx.TransportError:
                    continue
                fresh = answer.status_code == 200 and answer.json()["version"] >= written.json()["version"]
                # 5xx: it could not be answered in time, which is allowed while servers are down.
                self.acknowledged.stale_reads += not fresh and answer.status_code < 500
