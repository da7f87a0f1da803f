"""One server of the read database: its connections, the last poll of it, how busy and how well it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from urllib.parse import urlsplit

import asyncpg
import structlog

from query_service.errors import ServerUnavailableError
from query_service.horizon import Horizon
from query_service.metrics import QueryMetrics
from query_service.polls import Poll, take_poll
from query_service.settings import QuerySettings
from shared.hosts import by_host
from shared.postgres import CONNECTION_LOST, Connection, Pool, create_pool

PATIENCE_SECONDS = 1.0
"""How long a server may take to be polled while there are others."""

RECOVERY_CONFLICTS = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
"""A replica ends statements that stand in the way of its recovery; elsewhere they may run."""

_FIRST_REST_SECONDS = 0.25
_LAST_REST_SECONDS = 5.0
_RELEASE_SECONDS = 1.0
_ATTENTION_SECONDS = 1.0
"""A read that takes longer may be a heavy one, or its server has frozen: another connection tells."""

_log = structlog.get_logger("replicas")


def server_names(dsns: Sequence[str]) -> list[str]:
    """What each address is called in metrics, logs and explanations: its host and port, or all of its hosts, and its
    database where that is what tells servers behind one pooler apart."""
    places = [",".join(by_host(dsn)) for dsn in dsns]
    return [
        place if places.count(place) == 1 else f"{place}{urlsplit(dsn).path}"
        for place, dsn in zip(places, dsns, strict=True)
    ]


class ReadServer:
    """One address. It names one server, never a balancer over several: its snapshots only grow."""

    def __init__(
        self, name: str, pool: Pool, settings: QuerySettings, metrics: QueryMetrics, horizon: Horizon, *, primary: bool
    ) -> None:
        self.name = name
        self.is_primary = primary
        self.in_flight = 0
        """Reads under way; polls do not count."""
        self._pool = pool
        self._horizon = horizon
        self._poll_max_age_seconds = settings.poll_max_age_seconds
        self._poll_timeout_seconds = settings.poll_timeout_seconds
        self._poll_seconds = metrics.poll.labels(name)
        self._last: Poll | None = None
        self._server_started: datetime | None = None
        self._under_way: asyncio.Task[None] | None = None
        self._asked_at = float("-inf")
        self._epoch = 0
        self._outdated_at = float("-inf")
        self._rests_until = float("-inf")
        self._rest_seconds = _FIRST_REST_SECONDS

    @classmethod
    async def create(
        cls, name: str, dsn: str, settings: QuerySettings, metrics: QueryMetrics, horizon: Horizon, *, primary: bool
    ) -> ReadServer:
        """Opens no connection, so that the service starts without its database."""
        pool = await create_pool(dsn, settings, vectors=True)
        return cls(name, pool, settings, metrics, horizon, primary=primary)

    def close(self) -> None:
        if self._under_way is not None:
            self._under_way.cancel()
        self._pool.terminate()

    @property
    def is_resting(self) -> bool:
        """It failed a moment ago, or is silent; better ask another one."""
        now = time.monotonic()
        silent = self._under_way is not None and now - self._asked_at > PATIENCE_SECONDS
        return silent or now < self._rests_until

    @property
    def lags(self) -> bool:
        """Its last poll lacked what another server had shown a while before."""
        return self._last is not None and self._horizon.lacks(self._last)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Connection]:
        """A connection for a read.

        Raises:
            ServerUnavailableError: it cannot be reached, or the connection broke; the last poll is void then.
        """
        self.in_flight += 1
        try:
            async with self._connection() as connection:
                attending: list[asyncio.Task[None]] = []
                timer = asyncio.get_running_loop().call_later(
                    _ATTENTION_SECONDS, lambda: attending.append(asyncio.create_task(self._attend(connection)))
                )
                try:
                    yield connection
                finally:
                    timer.cancel()
                    for task in attending:
                        task.cancel()
        finally:
            self.in_flight -= 1

    async def _attend(self, connection: Connection) -> None:
        """Breaks the connection when the server no longer answers, so that its read goes elsewhere."""
        while True:
            try:
                await self.poll_since(time.monotonic())
            except ServerUnavailableError:
                connection.terminate()
                return
            await asyncio.sleep(_ATTENTION_SECONDS)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
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
            # A statement that was given up is cancelled on the server, which may not answer; then the connection goes.
            with suppress(TimeoutError):
                await self._pool.release(connection, timeout=_RELEASE_SECONDS)

    def _connection_ended(self, _connection: object) -> None:
        self.void()

    def _unavailable(self, error: Exception) -> ServerUnavailableError:
        self.void()
        if not self.is_resting:
            _log.warning("read server unavailable", server=self.name, error=repr(error))
            self._rests_until = time.monotonic() + self._rest_seconds
            self._rest_seconds = min(2 * self._rest_seconds, _LAST_REST_SECONDS)
        return ServerUnavailableError(self.name, str(error) or type(error).__name__)

    def void(self) -> None:
        """Forgets the last poll, and the one under way: behind the address may be another server now."""
        self._last = None
        self._epoch += 1

    def outdate(self, position: int) -> None:
        """Something happened at this position: a poll from before it is no longer recent, if it does not show it."""
        if self._last is None or self._last.snapshot.low < position:
            self._outdated_at = time.monotonic()

    async def recent_poll(self) -> Poll:
        """A poll no older than the settings allow, nor than the last change that this process was told of.

        Raises:
            ServerUnavailableError
        """
        return await self.poll_since(max(time.monotonic() - self._poll_max_age_seconds, self._outdated_at))

    async def poll_since(self, moment: float) -> Poll:
        """A poll that began at this monotonic time or later. However many ask, one is under way at a time.

        Raises:
            ServerUnavailableError
        """
        while self._last is None or self._last.began < moment:
            # Shielded: a caller that gives up does not take the poll away from the others.
            await asyncio.shield(self._polling())
        return self._last

    def poll_beside(self, moment: float) -> None:
        """Begins such a poll, unless there is one, and does not wait for it."""
        if self._last is None or self._last.began < moment:
            self._polling()

    def _polling(self) -> asyncio.Task[None]:
        # Its callback may be yet to come: who waits for a task that is done never gives the event loop a turn.
        if self._under_way is None or self._under_way.done():
            self._asked_at = time.monotonic()
            self._under_way = asyncio.create_task(self._poll(), name=f"poll of {self.name}")
            self._under_way.add_done_callback(self._poll_ended)
        return self._under_way

    async def _poll(self) -> None:
        epoch = self._epoch
        with self._poll_seconds.time():
            try:
                async with asyncio.timeout(self._poll_timeout_seconds), self._connection() as connection:
                    poll = await take_poll(connection, self._last, self._poll_timeout_seconds)
            except asyncpg.UndefinedTableError as error:
                self.void()
                raise ServerUnavailableError(
                    self.name, "it has no schema yet; run `aindusdb schema upgrade`"
                ) from error
            except (TimeoutError, *RECOVERY_CONFLICTS) as error:
                raise self._unavailable(error) from error
        if self._server_started not in (None, poll.server_started):
            # A pooler kept the connections, but the new server's types may have other numbers than they know.
            await self._pool.expire_connections()
        self._server_started = poll.server_started
        if epoch == self._epoch:
            self._last = poll
            self._rests_until, self._rest_seconds = float("-inf"), _FIRST_REST_SECONDS
            self._horizon.note(poll, of_primary=self.is_primary)

    def _poll_ended(self, task: asyncio.Task[None]) -> None:
        if self._under_way is task:
            self._under_way = None
        if not task.cancelled():
            task.exception()  # its waiters were told; there may be none left
