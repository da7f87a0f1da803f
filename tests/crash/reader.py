"""Reads a vector that nobody else writes, and holds each answer against what it says to cover."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import httpx

from tests.crash.acknowledged import Acknowledged

_ID = "reader"


class Reader:
    """Asks by turns for what it wrote last, by its token, and without any token, where the answer itself says up to
    which position it is; and, once the log has become another one, by a token of the former."""

    def __init__(
        self, command_url: str, query_url: str, collection: str, dimension: int, acknowledged: Acknowledged
    ) -> None:
        self.built_anew = False
        """The read model may lack the collection just now, and say so to who asks without a token."""
        self._command_url = command_url
        self._query_url = query_url
        self._collection = collection
        self._embedding = [1.0] * dimension
        self._acknowledged = acknowledged
        self._written: list[tuple[int, int]] = []
        """Positions of its writes, and the versions that the vector had with them."""
        self._token: str | None = None
        self._former_token: str | None = None

    def restored(self, position: int) -> None:
        """The log is another one now, and ends here. Nothing of the services runs at this moment."""
        self._written = [(at, version) for at, version in self._written if at <= position]
        self._former_token, self._token = self._token, None

    async def read_until(self, stopping: asyncio.Event) -> None:
        async with (
            httpx.AsyncClient(base_url=self._query_url, timeout=10) as query,
            httpx.AsyncClient(base_url=self._command_url, timeout=10) as command,
        ):
            while not stopping.is_set():
                await asyncio.sleep(0.05)
                for step in (self._by_the_former_token, self._write_and_read, self._search):
                    try:
                        await step(query, command)
                    except httpx.TransportError:
                        continue

    async def _by_the_former_token(self, query: httpx.AsyncClient, _command: httpx.AsyncClient) -> None:
        if self._former_token is None:
            return
        answer = await self._get(query, self._former_token)
        if not _is_away(answer):
            refused = answer.status_code == httpx.codes.BAD_REQUEST
            self._judge(refused and answer.json()["type"] == "/problems/wrong-database")
            self._former_token = None

    async def _write_and_read(self, query: httpx.AsyncClient, command: httpx.AsyncClient) -> None:
        body = {"embedding": self._embedding, "metadata": {"mark": str(uuid4())}}
        answer = await command.put(f"{self._collection}/vectors/{_ID}", json=body)
        self._acknowledged.note_status(answer)
        if not answer.is_success:
            return
        written = answer.json()
        self._token = written["consistency_token"]
        self._written.append((written["position"], written["version"]))
        found = await self._get(query, written["consistency_token"])
        if not _is_away(found):
            self._judge(found.status_code == httpx.codes.OK and found.json()["version"] >= written["version"])

    async def _search(self, query: httpx.AsyncClient, _command: httpx.AsyncClient) -> None:
        body = {"embedding": self._embedding, "filter": {"$id": _ID}, "k": 1}
        answer = await query.post(f"{self._collection}/vectors/search", json=body)
        self._acknowledged.note_status(answer)
        if _is_away(answer):
            return
        if answer.status_code == httpx.codes.NOT_FOUND and self.built_anew:
            return
        self._judge(answer.status_code == httpx.codes.OK and self._is_honest(answer.json()))

    def _is_honest(self, found: dict[str, Any]) -> bool:
        covered = [version for position, version in self._written if position <= found["freshness"]["position"]]
        return not covered or (bool(found["hits"]) and found["hits"][0]["version"] >= covered[-1])

    async def _get(self, query: httpx.AsyncClient, token: str) -> httpx.Response:
        answer = await query.get(f"{self._collection}/vectors/{_ID}", headers={"X-Consistency-Token": token})
        self._acknowledged.note_status(answer)
        return answer

    def _judge(self, holds: bool) -> None:
        self._acknowledged.fresh_reads += holds
        self._acknowledged.stale_reads += not holds


def _is_away(answer: httpx.Response) -> bool:
    """It could not be answered in time, which is allowed while servers are down."""
    return answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR
