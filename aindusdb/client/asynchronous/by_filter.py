"""The calls that change all vectors that a filter matches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aindusdb.client.asynchronous.asking import AsyncAsking
from aindusdb.client.calls import given, vector_path, writing
from aindusdb.client.models import DeletedByFilter, PatchedByFilter


class AsyncByFilterCalls(AsyncAsking):
    async def delete_matching(
        self,
        collection: str,
        filter: Mapping[str, Any],
        *,
        limit: int | None = None,
        dry_run: bool | None = None,
        token: str | None = None,
        timeout_ms: int | None = None,
        idempotency_key: str | None = None,
    ) -> DeletedByFilter:
        """Deletes at most `limit` vectors that match, as the read model shows them, which covers `token`; `{}` matches
        all. With `dry_run` they are only counted.

        It is not all or nothing: what is written stays. Broken off, it goes on where it was when the same call is made
        again under the same `idempotency_key`. What somebody changes meanwhile is skipped.

        Raises:
            CollectionNotFoundError, InvalidFilterError, NotFreshEnoughError
        """
        body = given({"filter": filter, "limit": limit, "dry_run": dry_run, "timeout_ms": timeout_ms})
        return await self._ask(
            writing(
                "POST",
                vector_path(collection, "delete"),
                DeletedByFilter,
                body,
                idempotency_key=idempotency_key,
                takes_tokens=True,
            ),
            token,
        )

    async def patch_matching(
        self,
        collection: str,
        filter: Mapping[str, Any],
        metadata: Mapping[str, Any] | None,
        *,
        limit: int | None = None,
        dry_run: bool | None = None,
        token: str | None = None,
        timeout_ms: int | None = None,
        idempotency_key: str | None = None,
    ) -> PatchedByFilter:
        """Merges `metadata` (RFC 7396) into that of the vectors that match; None removes, as a whole and within.
        Otherwise as `delete_matching`.

        Raises:
            CollectionNotFoundError, InvalidFilterError, NotFreshEnoughError
        """
        body = given({"filter": filter, "limit": limit, "dry_run": dry_run, "timeout_ms": timeout_ms})
        return await self._ask(
            writing(
                "POST",
                vector_path(collection, "patch"),
                PatchedByFilter,
                {**body, "metadata": metadata},
                idempotency_key=idempotency_key,
                takes_tokens=True,
            ),
            token,
        )
