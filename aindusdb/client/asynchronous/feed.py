"""The change feed, followed through broken connections and restarts of the service: no event is left out or doubled."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence

from httpx_sse import EventSource

from aindusdb.client.asynchronous.asking import AsyncAsking
from aindusdb.client.errors import ProblemError, UnreachableError
from aindusdb.client.feed import SILENCE_SECONDS, event_of, feed_call, resumed
from aindusdb.client.models import EventPart, FeedEvent


class AsyncFeedCalls(AsyncAsking):
    async def events(
        self,
        *,
        after: int | str | None = None,
        collection: str | None = None,
        collection_id: str | None = None,
        types: Sequence[str] = (),
        include: Sequence[EventPart] | None = None,
    ) -> AsyncIterator[FeedEvent]:
        """Every event behind `after`, a position or the `message_id` of an event, and then those that come; without it
        those that come. It has no end.

        A connection that breaks is made anew as the client's retries say, from the last message on. Who ends early
        closes the iterator, or waits until it is collected.

        Raises:
            CollectionNotFoundError, WrongDatabaseError: `after` is of another event log, perhaps from before a restore.
        """
        call = feed_call(after, collection, collection_id, types, include)
        transport = self._transport
        last_id, failures, deadline = "", 0, 0.0
        while True:
            failure: ProblemError | UnreachableError = UnreachableError(transport.url, "the feed ended")
            try:
                async with transport.stream(resumed(call, last_id), SILENCE_SECONDS) as response:
                    async for message in EventSource(response).aiter_sse():
                        last_id, failures = message.id, 0
                        if message.data:
                            yield event_of(message, transport.url)
            except (ProblemError, UnreachableError) as error:
                failure = error
            failures += 1
            if failures == 1:
                deadline = time.monotonic() + transport.retries.patience_seconds
            if not await transport.waited_out(failure, failures, deadline):
                raise failure
