"""The calls that read vectors as they are now. Each answer says how fresh it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from aindusdb.client.asynchronous.asking import AsyncAsking
from aindusdb.client.asynchronous.collections import PAGE
from aindusdb.client.calls import as_base64, reading, shown, vector_path
from aindusdb.client.embeddings import EmbeddingInput
from aindusdb.client.models import CountAnswer, Part, ReadVector, SearchAnswer, StoredVector, VectorPage


class AsyncReadCalls(AsyncAsking):
    async def search(
        self,
        collection: str,
        *,
        embedding: EmbeddingInput | str | None = None,
        query: str | None = None,
        id: str | None = None,
        k: int | None = None,
        filter: Mapping[str, Any] | None = None,
        ef_search: int | None = None,
        exact: bool | None = None,
        min_score: float | None = None,
        include: Sequence[Part] | None = None,
        exclude: Sequence[Part] | None = None,
        model: str | None = None,
        explain: bool | None = None,
        token: str | None = None,
        timeout_ms: int | None = None,
        max_staleness_ms: int | None = None,
    ) -> SearchAnswer:
        """The `k` vectors nearest to an embedding, to a text (`query`), or to the stored vector `id`, one of the three.

        An embedding that is a text is base64 of little-endian float32. The answer covers `token`, for which the service
        waits at most `timeout_ms`. With `explain` the answer says how it was found.

        Raises:
            DimensionMismatchError, InvalidFilterError, NotFreshEnoughError
        """
        body = {
            "embedding": None if embedding is None else as_base64(embedding),
            "query": query,
            "id": id,
            "k": k,
            "filter": filter,
            "ef_search": ef_search,
            "exact": exact,
            "min_score": min_score,
            **shown(include),
            "exclude": None if exclude is None else list(exclude),
            "model": model,
            "explain": explain,
            "timeout_ms": timeout_ms,
            "max_staleness_ms": max_staleness_ms,
        }
        return await self._ask(reading(vector_path(collection, "search"), SearchAnswer, body=body), token)

    async def count(
        self,
        collection: str,
        *,
        filter: Mapping[str, Any] | None = None,
        token: str | None = None,
        timeout_ms: int | None = None,
    ) -> CountAnswer:
        body = {"filter": filter, "timeout_ms": timeout_ms}
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
        token: str | None = None,
        timeout_ms: int | None = None,
    ) -> ReadVector:
        """The vector, or with `version` as it was then; with `collection_id` in a collection that was deleted.

        Raises:
            VectorNotFoundError
        """
        parameters = {
            **shown(include),
            "exclude": exclude,
            "version": version,
            "collection_id": collection_id,
            "timeout_ms": timeout_ms,
        }
        return await self._ask(reading(vector_path(collection, id), ReadVector, parameters=parameters), token)

    async def vectors(
        self,
        collection: str,
        *,
        include: Sequence[Part] | None = None,
        exclude: Sequence[Part] | None = None,
        page_size: int = PAGE,
        token: str | None = None,
        timeout_ms: int | None = None,
    ) -> AsyncIterator[StoredVector]:
        """All of them in the order of their ids, page by page. Pages are read one after the other: a vector that is
        written meanwhile is there or not."""
        parameters = {"limit": page_size, **shown(include), "exclude": exclude, "timeout_ms": timeout_ms}
        call = reading(vector_path(collection), VectorPage, parameters=parameters)
        while True:
            page = await self._ask(call, token)
            for one in page.items:
                yield one
            if page.next_cursor is None:
                return
            call = call.with_parameters(cursor=page.next_cursor)
