"""A client that costs little: prepared bytes go out, status and body come back, nothing else is looked at.

The load generator shares two cores with everything that it measures.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

import httptools
import orjson


def request(url: str, method: str, path: str, body: object = None, headers: str = "") -> bytes:
    """The bytes of a request; `headers` are whole lines, each with its CRLF."""
    raw = b"" if body is None else orjson.dumps(body)
    return request_of_bytes(url, method, path, raw, headers)


def request_of_bytes(url: str, method: str, path: str, body: bytes, headers: str = "") -> bytes:
    host = urlsplit(url).netloc
    kind = "Content-Type: application/json\r\n" if body else ""
    head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{kind}Content-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode("ascii") + body


class Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._body: list[bytes] = []

    @classmethod
    async def open(cls, url: str) -> Self:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        _, protocol = await asyncio.get_running_loop().create_connection(cls, parts.hostname, parts.port)
        return protocol

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    @property
    def is_open(self) -> bool:
        """A server closes connections that have been idle for some seconds."""
        return self._transport is not None and not self._transport.is_closing()

    async def send(self, raw: bytes) -> tuple[int, bytes]:
        if self._transport is None or self._transport.is_closing():
            raise ConnectionError("the connection is closed")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(raw)
        return await self._answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        body, self._body = b"".join(self._body), []
        status = self._parser.get_status_code()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((status, body))


@dataclass
class Load:
    """What came back: how long each acknowledged request took, and how many of each other status there were."""

    seconds: list[float] = field(default_factory=list)
    refusals: dict[int, int] = field(default_factory=dict)
    elapsed_seconds: float = 0.0
    last_body: bytes = b""
    last_refusal: bytes = b""

    async def run(self, url: str, requests: Iterable[bytes], connections: int) -> Self:
        """Sends all requests, each connection the next one that is left. One that is refused is not repeated."""
        left = iter(requests)
        opened = [await Connection.open(url) for _ in range(connections)]
        started = time.perf_counter()
        await asyncio.gather(*(self._drain(connection, left) for connection in opened))
        self.elapsed_seconds = time.perf_counter() - started
        for connection in opened:
            connection.close()
        return self

    async def _drain(self, connection: Connection, left: Iterable[bytes]) -> None:
        for raw in left:
            await self.timed(connection, raw)

    async def timed(self, connection: Connection, raw: bytes) -> None:
        sent = time.perf_counter()
        status, body = await connection.send(raw)
        if status in (200, 201):
            self.seconds.append(time.perf_counter() - sent)
            self.last_body = body
        else:
            self.refusals[status] = self.refusals.get(status, 0) + 1
            self.last_refusal = body
