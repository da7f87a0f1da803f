"""One HTTP exchange with its timeouts, its retries and its refusals."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

import httpx

from aindusdb.client.calls import AnswerT, Call, reached, read_answer
from aindusdb.client.errors import ClientError, ProblemError, UnreachableError
from aindusdb.client.pauses import AsyncPauses
from aindusdb.client.retries import RetryPolicy, is_slowed, may_pass

WaitListener: TypeAlias = Callable[[ClientError, float], None]
"""Called before each pause with its cause and its length in seconds."""
Body: TypeAlias = Callable[[], AsyncIterator[bytes]]
"""Makes a body anew for each attempt."""

CONNECT_TIMEOUT_SECONDS = 5.0


class AsyncTransport:
    def __init__(
        self,
        url: str,
        *,
        retries: RetryPolicy,
        timeout_seconds: float,
        on_wait: WaitListener | None,
        http: httpx.AsyncBaseTransport | None,
    ) -> None:
        self.url = url.rstrip("/")
        self.retries = retries
        self._on_wait = on_wait
        self._pauses = AsyncPauses()
        timeout = httpx.Timeout(timeout_seconds, connect=min(CONNECT_TIMEOUT_SECONDS, timeout_seconds))
        # trust_env off: a proxy meant for the internet must not stand before a local database.
        self._http = httpx.AsyncClient(timeout=timeout, trust_env=False, transport=http)

    async def aclose(self) -> None:
        """Ends the pauses of others as well: their requests fail at once."""
        self.give_up()
        await self._http.aclose()

    def give_up(self) -> None:
        """From now on nothing is sent a second time."""
        self._pauses.end()

    async def exchange(self, call: Call[AnswerT], body: Body | None = None) -> AnswerT:
        """The answer of the call. One that is not repeatable is sent once.

        Raises:
            ProblemError, UnreachableError, UnexpectedAnswerError
        """
        deadline = time.monotonic() + self.retries.patience_seconds
        slowed_deadline = time.monotonic() + self.retries.slowed_patience_seconds
        failures = 0
        while True:
            try:
                return await self._once(call, body)
            except (ProblemError, UnreachableError) as failure:
                failures += 1
                slowed = is_slowed(failure)
                until = slowed_deadline if slowed else deadline
                if not call.repeatable or not await self.waited_out(failure, failures, until):
                    raise
                if slowed:
                    # The time for which the service slows a request down is not that for waiting out its failures.
                    failures, deadline = 0, time.monotonic() + self.retries.patience_seconds

    async def waited_out(self, failure: ProblemError | UnreachableError, failures: int, deadline: float) -> bool:
        """Waits before the next attempt; False if there is to be none. `deadline` is of the monotonic clock."""
        if not may_pass(failure):
            return False
        asked = failure.retry_after_seconds if isinstance(failure, ProblemError) else None
        pause = self.retries.pause_seconds(failures, asked)
        if time.monotonic() + pause > deadline:
            return False
        if self._on_wait is not None:
            self._on_wait(failure, pause)
        return not await self._pauses.broken_off(pause)

    async def _once(self, call: Call[AnswerT], body: Body | None) -> AnswerT:
        with reached(self.url):
            response = await self._http.request(
                call.method,
                self.url + call.path,
                content=call.body if body is None else body(),
                params=dict(call.parameters),
                headers=call.sent_headers(),
            )
        return read_answer(call, self.url, response)

    @asynccontextmanager
    async def stream(self, call: Call[AnswerT], timeout_seconds: float) -> AsyncIterator[httpx.Response]:
        """The answer while it arrives, which has no end; at most `timeout_seconds` pass between its parts.

        Raises:
            ProblemError, UnreachableError, UnexpectedAnswerError
        """
        with reached(self.url):
            async with self._http.stream(
                call.method,
                self.url + call.path,
                params=dict(call.parameters),
                headers=call.sent_headers(),
                timeout=httpx.Timeout(timeout_seconds, connect=CONNECT_TIMEOUT_SECONDS),
            ) as response:
                if not response.is_success:
                    await response.aread()
                    read_answer(call, self.url, response)
                yield response
