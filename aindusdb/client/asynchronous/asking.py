"""What all calls of the client have in common: they go through one transport, and a session remembers their tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TypeAlias

from aindusdb.client.asynchronous.transport import AsyncTransport, Body
from aindusdb.client.calls import PREFIX, AnswerT, Call, PageT, reading
from aindusdb.client.models import CollectionPage
from aindusdb.client.session_tokens import SessionTokens

PageCall: TypeAlias = Callable[[str | None], Call[PageT]]
"""The page that begins at a cursor; None: the first one."""

PAGE = 1_000
"""So many are asked for at once; the most that the API allows."""


class AsyncAsking:
    def __init__(self, transport: AsyncTransport, tokens: SessionTokens | None) -> None:
        self._transport = transport
        self._tokens = tokens

    async def _ask(self, call: Call[AnswerT], token: str | None = None, *, body: Body | None = None) -> AnswerT:
        """`token`: the read covers it, and what the session has written and read before."""
        own = () if token is None else (token,)
        if self._tokens is None:
            return await self._transport.exchange(call.carrying(own), body)
        carried = self._tokens.carried() if call.takes_tokens else ()
        answer = await self._transport.exchange(call.carrying((*own, *carried)), body)
        self._tokens.learn(answer, carried)
        if self._tokens.is_full and call.method != "GET":
            await self._ask(reading(f"{PREFIX}/collections", CollectionPage, parameters={"limit": 1}))
        return answer

    async def _pages(
        self, call_at: PageCall[PageT], token: str | None, cursor: str | None = None
    ) -> AsyncIterator[PageT]:
        """From the cursor to the end of the list, one after the other."""
        while True:
            page = await self._ask(call_at(cursor), token)
            yield page
            cursor = page.next_cursor
            if cursor is None:
                return
