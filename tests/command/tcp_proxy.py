"""A TCP proxy that cuts connections at the moment a test chooses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

Cut = Literal["no", "before", "after"]


@dataclass
class CuttingProxy:
    """Cuts a connection around a message that holds `marker`: `before` it reaches the server, or `after` the
    server has it and answered, so that the client never sees the answer."""

    host: str
    port: int
    marker: bytes
    decide: Callable[[], Cut]
    cuts: int = 0
    own_port: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection(self.host, self.port)
        swallow = asyncio.Event()

        async def to_client() -> None:
            while data := await upstream_reader.read(65536):
                if swallow.is_set():
                    break
                writer.write(data)
                await writer.drain()
            writer.transport.abort()
            upstream_writer.transport.abort()

        answers = asyncio.create_task(to_client())
        self._tasks.add(answers)
        try:
            while data := await reader.read(65536):
                cut = self.decide() if self.marker in data else "no"
                if cut == "before":
                    self.cuts += 1
                    break
                if cut == "after":
                    self.cuts += 1
                    swallow.set()
                upstream_writer.write(data)
                await upstream_writer.drain()
                if cut == "after":
                    with suppress(TimeoutError):
                        await asyncio.wait_for(asyncio.shield(answers), 5)
                    break
        finally:
            writer.transport.abort()
            upstream_writer.transport.abort()
            with suppress(ConnectionError):
                await answers


@asynccontextmanager
async def cutting_proxy(dsn: str, marker: bytes, decide: Callable[[], Cut]) -> AsyncIterator[tuple[str, CuttingProxy]]:
    """The dsn that leads through the proxy, and the proxy."""
    parts = urlsplit(dsn)
    proxy = CuttingProxy(parts.hostname or "127.0.0.1", parts.port or 5432, marker, decide)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    userinfo = parts.netloc.rpartition("@")[0]
    try:
        yield urlunsplit(parts._replace(netloc=f"{userinfo}@127.0.0.1:{port}")), proxy
    finally:
        server.close()
