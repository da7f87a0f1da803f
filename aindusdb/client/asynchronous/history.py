"""What became of vectors, and bringing back what was."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from aindusdb.client.asynchronous.asking import PAGE, AsyncAsking
from aindusdb.client.calls import PREFIX, Call, collection_path, given, reading, shown, vector_path, writing
from aindusdb.client.models import Event, EventPage, EventPart, Restored, RestoredCollection, VectorWritten


class AsyncHistoryCalls(AsyncAsking):
    async def history(
        self,
        collection: str,
        id: str,
        *,
        include: Sequence[EventPart] | None = None,
        collection_id: str | None = None,
        page_size: int = PAGE,
        token: str | None = None,
        timeout_ms: int | None = None,
        max_staleness_ms: int | None = None,
    ) -> AsyncIterator[Event]:
        """Every event of the vector, the first one first; with `collection_id` in a collection that was deleted.

        Raises:
            VectorNotFoundError: there never was such a vector.
        """

        def page_at(cursor: str | None) -> Call[EventPage]:
            parameters = {
                **shown(include),
                "collection_id": collection_id,
                "limit": page_size,
                "cursor": cursor,
                "timeout_ms": timeout_ms,
                "max_staleness_ms": max_staleness_ms,
            }
            return reading(vector_path(collection, id, "history"), EventPage, parameters=parameters)

        async for page in self._pages(page_at, token):
            for one in page.items:
                yield one

    async def restore(
        self,
        collection: str,
        id: str,
        version: int,
        *,
        if_version: int | None = None,
        idempotency_key: str | None = None,
    ) -> VectorWritten:
        """Brings the vector back as it was at `version`, by a new event.

        Raises:
            VectorNotFoundError, VersionMismatchError
        """
        return await self._ask(
            writing(
                "POST",
                vector_path(collection, id, "restore"),
                VectorWritten,
                {"version": version},
                if_version=if_version,
                idempotency_key=idempotency_key,
            )
        )

    async def restore_request(self, request_id: str, *, force: bool = False, cursor: str | None = None) -> Restored:
        """Takes back what one request changed or deleted, one page of it: as long as the answer has a `next_cursor`,
        the same call with it as `cursor` goes on. With `force` also what was changed since. Repeated, it changes
        nothing more."""
        body = given({"request_id": request_id, "force": force, "cursor": cursor})
        return await self._ask(writing("POST", f"{PREFIX}/restore", Restored, body))

    async def restore_collection(
        self, name: str, collection_id: str, *, cursor: str | None = None
    ) -> RestoredCollection:
        """Brings a deleted collection back under a new id, one page of it: as long as the answer has a `next_cursor`,
        the same call with it as `cursor` goes on. Repeated, it changes nothing more.

        Raises:
            CollectionExistsError: another collection bears the name now.
        """
        body = given({"collection_id": collection_id, "cursor": cursor})
        return await self._ask(writing("POST", collection_path(name, "restore"), RestoredCollection, body))
