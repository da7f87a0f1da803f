"""One server of the read database: its connections and the last poll of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import asyncpg
import structlog

from query_service.errors import ServerUnavailableError
from query_service.metrics import QueryMetrics
from query_service.polls import Poll, take_poll
from query_service.settings import QuerySettings
from shared.postgres import CONNECTION_LOST, Connection, Pool, create_pool

_READ_ONLY = {"default_transaction_read_only": "on"}

_log = structlog.get_logger("replicas")


class ReadServer:
    """One address. It names one server, never a balancer over several: its snapshots only grow."""

    def __init__(self, name: str, pool: Pool, settings: QuerySettings, metrics: QueryMetrics) -> None:
        self.name = name
        self._pool = pool
        self._poll_max_age_seconds = settings.poll_max_age_seconds
        self._poll_timeout_seconds = settings.poll_timeout_seconds
        self._poll_seconds = metrics.poll.labels(name)
        self._last: Poll | None = None
        self._under_way: asyncio.Task[None] | None = None
        self._epoch = 0

    @classmethod
    async def create(cls, dsn: str, settings: QuerySettings, metrics: QueryMetrics) -> ReadServer:
        """Opens no connection, so that the service starts without its database."""
        parts = urlsplit(dsn)
        pool = await create_pool(dsn, settings, min_size=0, server_settings=_READ_ONLY, vectors=True)
        return cls(f"{parts.hostname}:{parts.port or 5432}", pool, settings, metrics)

    def close(self) -> None:
        if self._under_way is not None:
            self._under_way.cancel()
        self._pool.terminate()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """
        Raises:
            ServerUnavailableError: it cannot be reached, or the connection broke; the last poll is void then.
        """
        try:
            connection = await self._pool.acquire()
        except (*CONNECTION_LOST, asyncpg.InvalidCatalogNameError, asyncpg.InvalidAuthorizationSpecificationError,
                ValueError) as error:  # fmt: skip
            # ValueError: the extension `vector` is not there, so its types have no codec.
            raise self._unavailable(error) from error
        connection.add_termination_listener(self._connection_ended)
        try:
            yield connection
        except TimeoutError:
            raise  # a slow statement says nothing about the server
        except CONNECTION_LOST as error:
            raise self._unavailable(error) from error
        finally:
            await self._pool.release(connection)

    def _connection_ended(self, _connection: object) -> None:
        self.void()

    def _unavailable(self, error: Exception) -> ServerUnavailableError:
        self.void()
        _log.warning("read server unavailable", server=self.name, error=repr(error))
        return ServerUnavailableError(self.name, str(error) or type(error).__name__)

    def void(self) -> None:
        """Forgets the last poll, and the one under way: behind the address may be another server now."""
        self._last = None
        self._epoch += 1

    async def recent_poll(self) -> Poll:
        """A poll no older than the settings allow."""
        return await self.poll_since(time.monotonic() - self._poll_max_age_seconds)

    async def poll_since(self, moment: float) -> Poll:
        """A poll that began at this monotonic time or later. However many ask, one is under way at a time.

        Raises:
            ServerUnavailableError
        """
        while self._last is None or self._last.began < moment:
            if self._under_way is None:
                self._under_way = asyncio.create_task(self._poll())
                self._under_way.add_done_callback(self._poll_ended)
            # Shielded: a caller that gives up does not take the poll away from the others.
            await asyncio.shield(self._under_way)
        return self._last

    async def _poll(self) -> None:
        epoch = self._epoch
        with self._poll_seconds.time():
            try:
                async with self.connection() as connection:
                    poll = await take_poll(connection, self._last, self._poll_timeout_seconds)
            except asyncpg.UndefinedTableError as error:
                self.void()
                raise ServerUnavailableError(
                    self.name, "it has no schema yet; run `aindusdb schema upgrade`"
                ) from error
            except TimeoutError as error:
                raise self._unavailable(error) from error
        if epoch == self._epoch:
            self._last = poll

    def _poll_ended(self, task: asyncio.Task[None]) -> None:
        self._under_way = None
        if not task.cancelled():
            task.exception()  # its waiters were told; there may be none left
