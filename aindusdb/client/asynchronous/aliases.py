"""The calls on aliases: other names of collections."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aindusdb.client.asynchronous.asking import PAGE, AsyncAsking
from aindusdb.client.calls import PREFIX, Call, alias_path, reading, writing
from aindusdb.client.models import Alias, AliasPage, AliasWritten, ReadAlias


class AsyncAliasCalls(AsyncAsking):
    async def aliases(
        self,
        *,
        collection: str | None = None,
        page_size: int = PAGE,
        token: str | None = None,
        timeout_ms: int | None = None,
        max_staleness_ms: int | None = None,
    ) -> AsyncIterator[Alias]:
        """All of them in the order of their names, page by page; with `collection` those of that one."""

        def page_at(cursor: str | None) -> Call[AliasPage]:
            parameters = {
                "collection": collection,
                "limit": page_size,
                "cursor": cursor,
                "timeout_ms": timeout_ms,
                "max_staleness_ms": max_staleness_ms,
            }
            return reading(f"{PREFIX}/aliases", AliasPage, parameters=parameters)

        async for page in self._pages(page_at, token):
            for one in page.items:
                yield one

    async def alias(
        self,
        name: str,
        *,
        token: str | None = None,
        timeout_ms: int | None = None,
        max_staleness_ms: int | None = None,
    ) -> ReadAlias:
        """What it stands for.

        Raises:
            AliasNotFoundError
        """
        parameters = {"timeout_ms": timeout_ms, "max_staleness_ms": max_staleness_ms}
        return await self._ask(reading(alias_path(name), ReadAlias, parameters=parameters), token)

    async def set_alias(
        self, name: str, collection: str, *, if_version: int | None = None, idempotency_key: str | None = None
    ) -> AliasWritten:
        """Lets it stand for the collection of this name, whatever it stood for before: each read is answered by the one
        or the other, and one that covers the token by the new one.

        Raises:
            CollectionNotFoundError
            CollectionExistsError: a collection bears the name of the alias.
            VersionMismatchError: the alias has not the version `if_version`; 0: it is there.
        """
        return await self._ask(
            writing(
                "PUT",
                alias_path(name),
                AliasWritten,
                {"collection": collection},
                if_version=if_version,
                idempotency_key=idempotency_key,
            )
        )

    async def remove_alias(
        self, name: str, *, if_version: int | None = None, idempotency_key: str | None = None
    ) -> AliasWritten:
        """The collection stays.

        Raises:
            AliasNotFoundError, VersionMismatchError
        """
        return await self._ask(
            writing("DELETE", alias_path(name), AliasWritten, if_version=if_version, idempotency_key=idempotency_key)
        )
