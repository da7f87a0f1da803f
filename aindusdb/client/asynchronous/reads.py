"""The calls that read vectors, as they are now or as of a moment of the past. Each answer says how fresh it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from aindusdb.client.asynchronous.asking import PAGE, AsyncAsking
from aindusdb.client.calls import Call, Moment, moment_text, reading, shown, vector_path
from aindusdb.client.models import CountAnswer, Direction, OrderBy, Part, ReadVector, StoredVector, VectorPage


class AsyncReadCalls(AsyncAsking):
    async def count(
        self,
        collection: str,
        *,
        filter: Mapping[str, Any] | None = None,
        as_of: Moment | None = None,
        token: str | None = None,
        timeout_ms: int | None = None,
        max_staleness_ms: int | None = None,
    ) -> CountAnswer:
        """How many the filter matches; without one, how many there are.

        Raises:
            InvalidFilterError, NotFreshEnoughError
        """
        body = {"filter": filter, "timeout_ms": timeout_ms, "max_staleness_ms": max_staleness_ms, "as_of": as_of}
        return await self._ask(reading(vector_path(collection, "count"), CountAnswer, body=body), token)

    async def get(
        self,
        collection: str,
        id: str,
        *,
        include: Sequence[Part] | None = None,
        exclude: Sequence[Part] | None = None,
        version: int | None = None,
        collection_id: str | None = None,
        as_of: Moment | None = None,
        token: str | None = None,
        timeout_ms: int | None = None,
        max_staleness_ms: int | None = None,
    ) -> ReadVector:
        """The vector, or with `version` or `as_of` as it was; with `collection_id` in a collection that was deleted.

        Raises:
            VectorNotFoundError
        """
        parameters = {
            **shown(include, exclude),
            "version": version,
            "collection_id": collection_id,
            "timeout_ms": timeout_ms,
            "max_staleness_ms": max_staleness_ms,
            "as_of": moment_text(as_of),
        }
        return await self._ask(reading(vector_path(collection, id), ReadVector, parameters=parameters), token)

    async def vectors(
        self,
        collection: str,
        *,
        include: Sequence[Part] | None = None,
        exclude: Sequence[Part] | None = None,
        page_size: int = PAGE,
        as_of: Moment | None = None,
        token: str | None = None,
        timeout_ms: int | None = None,
        max_staleness_ms: int | None = None,
    ) -> AsyncIterator[StoredVector]:
        """All of them in the order of their ids, page by page. Pages are read one after the other: a vector that is
        written meanwhile is there or not."""

        def page_at(cursor: str | None) -> Call[VectorPage]:
            parameters = {
                **shown(include, exclude),
                "limit": page_size,
                "cursor": cursor,
                "timeout_ms": timeout_ms,
                "max_staleness_ms": max_staleness_ms,
                "as_of": moment_text(as_of),
            }
            return reading(vector_path(collection), VectorPage, parameters=parameters)

        async for page in self._pages(page_at, token):
            for one in page.items:
                yield one

    async def scroll(
        self,
        collection: str,
        *,
        filter: Mapping[str, Any] | None = None,
        order_by: OrderBy | None = None,
        direction: Direction | None = None,
        include: Sequence[Part] | None = None,
        exclude: Sequence[Part] | None = None,
        page_size: int = PAGE,
        as_of: Moment | None = None,
        token: str | None = None,
        timeout_ms: int | None = None,
        max_staleness_ms: int | None = None,
    ) -> AsyncIterator[StoredVector]:
        """Those that the filter matches, in order of their ids or of their creation. None comes twice, and none is left
        out that is there all the time, whatever is written meanwhile.

        Raises:
            InvalidFilterError, NotFreshEnoughError
        """
        async for page in self.scroll_pages(
            collection,
            filter=filter,
            order_by=order_by,
            direction=direction,
            include=include,
            exclude=exclude,
            page_size=page_size,
            token=token,
            as_of=as_of,
            timeout_ms=timeout_ms,
            max_staleness_ms=max_staleness_ms,
        ):
            for one in page.items:
                yield one

    async def scroll_pages(
        self,
        collection: str,
        *,
        filter: Mapping[str, Any] | None = None,
        order_by: OrderBy | None = None,
        direction: Direction | None = None,
        include: Sequence[Part] | None = None,
        exclude: Sequence[Part] | None = None,
        page_size: int = PAGE,
        cursor: str | None = None,
        as_of: Moment | None = None,
        token: str | None = None,
        timeout_ms: int | None = None,
        max_staleness_ms: int | None = None,
    ) -> AsyncIterator[VectorPage]:
        """As `scroll`, page by page. The `next_cursor` of a page as `cursor`, with the same filter and order, goes on
        behind that page, in another process too. A page may be shorter than `page_size`.

        Raises:
            MalformedCursorError: it is of another list.
            InvalidFilterError, NotFreshEnoughError
        """

        def page_at(cursor: str | None) -> Call[VectorPage]:
            body = {
                "filter": filter,
                "order_by": order_by,
                "direction": direction,
                **shown(include, exclude),
                "limit": page_size,
                "cursor": cursor,
                "timeout_ms": timeout_ms,
                "max_staleness_ms": max_staleness_ms,
                "as_of": as_of,
            }
            return reading(vector_path(collection, "scroll"), VectorPage, body=body)

        async for page in self._pages(page_at, token, cursor):
            yield page
