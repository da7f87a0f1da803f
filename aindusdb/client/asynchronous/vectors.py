"""The calls that write vectors. Each carries an idempotency key, so a repeated one takes effect once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from aindusdb.client.asynchronous.asking import AsyncAsking
from aindusdb.client.batches import Batch, PutSummary, Vector, batches_of, encoded_operations
from aindusdb.client.calls import UNSET, Unset, encode, vector_body, vector_path, writing
from aindusdb.client.embeddings import EmbeddingInput
from aindusdb.client.models import BatchAnswer, VectorWritten


class AsyncVectorCalls(AsyncAsking):
    async def create(
        self,
        collection: str,
        id: str | None = None,
        *,
        embedding: EmbeddingInput | None = None,
        content: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        model: str | None = None,
        expires_at: datetime | str | None = None,
        idempotency_key: str | None = None,
    ) -> VectorWritten:
        """Without an `id` the service gives one. Content without an embedding is embedded by the service. From
        `expires_at` on, an instant to come with its zone, no read shows it.

        Raises:
            VectorExistsError
        """
        body = vector_body(
            embedding,
            UNSET if content is None else content,
            metadata or {},
            model,
            UNSET if expires_at is None else expires_at,
        )
        if id is not None:
            body["id"] = id
        return await self._ask(
            writing("POST", vector_path(collection), VectorWritten, body, idempotency_key=idempotency_key)
        )

    async def put(
        self,
        collection: str,
        id: str,
        *,
        embedding: EmbeddingInput | None = None,
        content: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        model: str | None = None,
        expires_at: datetime | str | None = None,
        if_version: int | None = None,
        idempotency_key: str | None = None,
    ) -> VectorWritten:
        """Puts this in place, whatever was there. Content without an embedding is embedded by the service. Without
        `expires_at` it does not expire by itself.

        Raises:
            VersionMismatchError: the vector has not the version `if_version`; 0: it is there.
        """
        return await self._ask(
            writing(
                "PUT",
                vector_path(collection, id),
                VectorWritten,
                vector_body(
                    embedding,
                    UNSET if content is None else content,
                    metadata or {},
                    model,
                    UNSET if expires_at is None else expires_at,
                ),
                if_version=if_version,
                idempotency_key=idempotency_key,
            )
        )

    async def patch(
        self,
        collection: str,
        id: str,
        *,
        embedding: EmbeddingInput | None = None,
        content: str | Unset | None = UNSET,
        metadata: Mapping[str, Any] | Unset | None = UNSET,
        model: str | None = None,
        expires_at: datetime | str | Unset | None = UNSET,
        if_version: int | None = None,
        idempotency_key: str | None = None,
    ) -> VectorWritten:
        """A merge patch (RFC 7396): what is not given stays, None removes, also within the metadata.

        Raises:
            VectorNotFoundError, VersionMismatchError
        """
        return await self._ask(
            writing(
                "PATCH",
                vector_path(collection, id),
                VectorWritten,
                vector_body(embedding, content, metadata, model, expires_at),
                if_version=if_version,
                idempotency_key=idempotency_key,
            )
        )

    async def delete(
        self, collection: str, id: str, *, if_version: int | None = None, idempotency_key: str | None = None
    ) -> VectorWritten:
        """
        Raises:
            VectorNotFoundError, VersionMismatchError
        """
        return await self._ask(
            writing(
                "DELETE",
                vector_path(collection, id),
                VectorWritten,
                if_version=if_version,
                idempotency_key=idempotency_key,
            )
        )

    async def write_batch(
        self, collection: str, operations: Sequence[Mapping[str, Any]], *, idempotency_key: str | None = None
    ) -> BatchAnswer:
        """At most 1,000 operations as the API takes them, each with its `op`: all take effect or none."""
        return await self._write_batch(collection, encode({"operations": operations}), idempotency_key)

    async def put_many(
        self, collection: str, vectors: Iterable[Vector], *, idempotency_key: str | None = None
    ) -> PutSummary:
        """Puts any number of vectors in place, in batches within the API's limits, in their order. Each batch takes
        effect as a whole; what was written before a failure stays.

        With an `idempotency_key` the batches have keys of their own that are made from it, so that the same call again
        takes effect once.
        """
        summary = PutSummary()
        for number, batch in enumerate(batches_of(encoded_operations(vectors))):
            key = None if idempotency_key is None else f"{idempotency_key}-{number}"
            summary = summary.with_answer(await self._write_batch(collection, batch, key))
        return summary

    async def _write_batch(self, collection: str, body: Batch, idempotency_key: str | None) -> BatchAnswer:
        return await self._ask(
            writing("POST", vector_path(collection, "batch"), BatchAnswer, body, idempotency_key=idempotency_key)
        )
