"""The calls on collections."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from aindusdb.client.asynchronous.asking import AsyncAsking
from aindusdb.client.calls import PREFIX, UNSET, Unset, collection_path, given, reading, writing
from aindusdb.client.models import Collection, CollectionPage, CreatedCollection, Metric, ReadCollection, VectorType

PAGE = 1_000


class AsyncCollectionCalls(AsyncAsking):
    async def collections(self, *, token: str | None = None) -> AsyncIterator[Collection]:
        """All of them in the order of their names, page by page."""
        call = reading(f"{PREFIX}/collections", CollectionPage, parameters={"limit": PAGE})
        while True:
            page = await self._ask(call, token)
            for one in page.items:
                yield one
            if page.next_cursor is None:
                return
            call = call.with_parameters(cursor=page.next_cursor)

    async def collection(self, name: str, *, token: str | None = None, timeout_ms: int | None = None) -> ReadCollection:
        return await self._ask(
            reading(collection_path(name), ReadCollection, parameters={"timeout_ms": timeout_ms}), token
        )

    async def create_collection(
        self,
        name: str,
        *,
        dimension: int | None = None,
        metric: Metric | None = None,
        type: VectorType | None = None,
        index: Mapping[str, Any] | None = None,
        model: str | None = None,
        description: str | None = None,
        idempotency_key: str | None = None,
    ) -> CreatedCollection:
        """With the service's model, or with neither model nor dimension, the collection takes texts. `index` as the API
        takes it, such as `{"kind": "hnsw", "m": 16}`.

        Raises:
            CollectionExistsError
        """
        definition = {
            "name": name,
            "dimension": dimension,
            "metric": metric,
            "type": type,
            "index": index,
            "model": model,
            "description": description,
        }
        return await self._ask(
            writing(
                "POST",
                f"{PREFIX}/collections",
                CreatedCollection,
                given(definition),
                idempotency_key=idempotency_key,
            )
        )

    async def update_collection(
        self,
        name: str,
        *,
        description: str | Unset | None = UNSET,
        metric: Metric | None = None,
        type: VectorType | None = None,
        index: Mapping[str, Any] | None = None,
        if_version: int | None = None,
        idempotency_key: str | None = None,
    ) -> CreatedCollection:
        """A description of None is removed; what is not given stays. Another metric, type or index is applied beside
        the running searches, which go on as before until then."""
        changes = given({"metric": metric, "type": type, "index": index})
        if description is not UNSET:
            changes["description"] = description
        return await self._ask(
            writing(
                "PATCH",
                collection_path(name),
                CreatedCollection,
                changes,
                if_version=if_version,
                idempotency_key=idempotency_key,
            )
        )

    async def delete_collection(
        self, name: str, *, if_version: int | None = None, idempotency_key: str | None = None
    ) -> CreatedCollection:
        """With all its vectors; `restore_collection` brings it back.

        Raises:
            CollectionNotFoundError
        """
        return await self._ask(
            writing(
                "DELETE",
                collection_path(name),
                CreatedCollection,
                if_version=if_version,
                idempotency_key=idempotency_key,
            )
        )
