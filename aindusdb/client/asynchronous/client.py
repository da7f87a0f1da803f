"""The client: all calls over one pool of connections."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import httpx

from aindusdb.client.asynchronous.aliases import AsyncAliasCalls
from aindusdb.client.asynchronous.by_filter import AsyncByFilterCalls
from aindusdb.client.asynchronous.collections import AsyncCollectionCalls
from aindusdb.client.asynchronous.feed import AsyncFeedCalls
from aindusdb.client.asynchronous.history import AsyncHistoryCalls
from aindusdb.client.asynchronous.importing import AsyncImportCalls
from aindusdb.client.asynchronous.reads import AsyncReadCalls
from aindusdb.client.asynchronous.searching import AsyncSearchCalls
from aindusdb.client.asynchronous.transport import AsyncTransport, WaitListener
from aindusdb.client.asynchronous.vectors import AsyncVectorCalls
from aindusdb.client.calls import Call
from aindusdb.client.models import Health
from aindusdb.client.retries import RetryPolicy
from aindusdb.client.session_tokens import SessionTokens


class AsyncSession(
    AsyncCollectionCalls,
    AsyncAliasCalls,
    AsyncVectorCalls,
    AsyncByFilterCalls,
    AsyncReadCalls,
    AsyncSearchCalls,
    AsyncHistoryCalls,
    AsyncFeedCalls,
    AsyncImportCalls,
):
    """The calls of a client whose reads cover what went before in the session: they see its writes, and never go back
    behind what it has read. It needs no closing."""

    async def health(self) -> Health:
        """That the service is alive."""
        return await self._ask(Call("GET", "/health", Health))

    async def ready(self) -> Health:
        """That the service can do its work, and what it does without.

        Raises:
            DependencyUnavailableError
        """
        return await self._ask(Call("GET", "/ready", Health))


class AsyncClient(AsyncSession):
    """Use it as a context manager. `url` is that of the edge, the gateway, or one service.

    Every method raises `ProblemError` when the service refuses (of a class for each type of problem),
    `UnreachableError` when no answer comes, and `UnexpectedAnswerError` when something else answers. Failures that may
    pass are waited out as `retries` says: all requests can be repeated, because every write carries an idempotency key.
    `timeout_seconds` bounds each wait for the service. `on_wait` is told of each pause.
    """

    def __init__(
        self,
        url: str,
        *,
        retries: RetryPolicy | None = None,
        timeout_seconds: float = 60.0,
        on_wait: WaitListener | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(
            AsyncTransport(
                url,
                retries=retries or RetryPolicy(),
                timeout_seconds=timeout_seconds,
                on_wait=on_wait,
                http=transport,
            ),
            None,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._transport.aclose()

    def give_up(self) -> None:
        """From now on no failure is waited out."""
        self._transport.give_up()

    def session(self) -> AsyncSession:
        """Calls over the same connections whose reads see what they wrote."""
        return AsyncSession(self._transport, SessionTokens())
