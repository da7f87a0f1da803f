"""The calls on collections."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from aindusdb.client.asynchronous.asking import PAGE, AsyncAsking
from aindusdb.client.calls import PREFIX, UNSET, Call, Unset, collection_path, given, reading, writing
from aindusdb.client.models import (
    Collection,
    CollectionPage,
    CreatedCollection,
    Metric,
    ReadCollection,
    Reembedding,
    SnapshotList,
    VectorType,
)


class AsyncCollectionCalls(AsyncAsking):
    async def collections(
        self,
        *,
        page_size: int = PAGE,
        token: str | None = None,
        timeout_ms: int | None = None,
        max_staleness_ms: int | None = None,
    ) -> AsyncIterator[Collection]:
        """All of them in the order of their names, page by page."""

        def page_at(cursor: str | None) -> Call[CollectionPage]:
            parameters = {
                "limit": page_size,
                "cursor": cursor,
                "timeout_ms": timeout_ms,
                "max_staleness_ms": max_staleness_ms,
            }
            return reading(f"{PREFIX}/collections", CollectionPage, parameters=parameters)

        async for page in self._pages(page_at, token):
            for one in page.items:
                yield one

    async def collection(
        self,
        name: str,
        *,
        token: str | None = None,
        timeout_ms: int | None = None,
        max_staleness_ms: int | None = None,
    ) -> ReadCollection:
        """By its name or an alias. `active` is what searches read, `change` what is still to become of it.

        Raises:
            CollectionNotFoundError
        """
        parameters = {"timeout_ms": timeout_ms, "max_staleness_ms": max_staleness_ms}
        return await self._ask(reading(collection_path(name), ReadCollection, parameters=parameters), token)

    async def snapshots(
        self,
        name: str,
        *,
        token: str | None = None,
        timeout_ms: int | None = None,
        max_staleness_ms: int | None = None,
    ) -> SnapshotList:
        """Which moments of the past it can be searched as of, in order of position.

        Raises:
            CollectionNotFoundError
        """
        parameters = {"timeout_ms": timeout_ms, "max_staleness_ms": max_staleness_ms}
        return await self._ask(reading(collection_path(name, "snapshots"), SnapshotList, parameters=parameters), token)

    async def reembedding(self, name: str) -> Reembedding:
        """How far its move to another model is.

        Raises:
            CollectionNotFoundError
        """
        return await self._ask(Call("GET", collection_path(name, "reembedding"), Reembedding))

    async def create_collection(
        self,
        name: str,
        *,
        dimension: int | None = None,
        metric: Metric | None = None,
        type: VectorType | None = None,
        index: Mapping[str, Any] | None = None,
        month_partitions: bool | None = None,
        metadata_indexes: Sequence[Mapping[str, Any]] | None = None,
        retention_seconds: int | None = None,
        model: str | None = None,
        description: str | None = None,
        idempotency_key: str | None = None,
    ) -> CreatedCollection:
        """With the service's model, or with neither model nor dimension, the collection takes texts. `index` as the API
        takes it, such as `{"kind": "hnsw", "m": 16}`. `month_partitions` divides the tables by the month in which
        vectors were created. `metadata_indexes` are such as `{"field": "price", "type": "number"}`. A vector that
        was not changed for `retention_seconds` expires.

        Raises:
            CollectionExistsError
        """
        definition = {
            "name": name,
            "dimension": dimension,
            "metric": metric,
            "type": type,
            "index": index,
            "month_partitions": month_partitions,
            "metadata_indexes": metadata_indexes,
            "retention_seconds": retention_seconds,
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
        month_partitions: bool | None = None,
        metadata_indexes: Sequence[Mapping[str, Any]] | None = None,
        retention_seconds: int | Unset | None = UNSET,
        model: str | Unset | None = UNSET,
        dimension: int | None = None,
        if_version: int | None = None,
        idempotency_key: str | None = None,
    ) -> CreatedCollection:
        """A description or a retention of None is removed; what is not given stays. Another metric, type, index or
        division is applied beside the running searches, which go on as before until then; `change` of the collection
        says how far that is. `metadata_indexes` are all that there are to be. A `model` is one that the service has, or
        the one before, which takes the move back; every content is embedded by it first, and `reembedding` says how far
        that is. It must have the `dimension`.

        Raises:
            CollectionNotFoundError, VersionMismatchError, ModelMismatchError, ReembeddingInProgressError
        """
        changes = given(
            {
                "metric": metric,
                "type": type,
                "index": index,
                "month_partitions": month_partitions,
                "metadata_indexes": metadata_indexes,
                "dimension": dimension,
            }
        )
        if model is not UNSET:
            changes["model"] = model
        if description is not UNSET:
            changes["description"] = description
        if retention_seconds is not UNSET:
            changes["retention_seconds"] = retention_seconds
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
            CollectionNotFoundError, VersionMismatchError
            CollectionAliasedError: an alias stands for it.
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
