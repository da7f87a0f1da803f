"""Connections that die at a statement of the test's choosing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
from pgvector.asyncpg import register_vector

from shared.settings import ProcessSettings

Death = tuple[int, bool]
"""At which statement of a connection, and whether before the server gets it."""


class MortalConnection(asyncpg.Connection):
    """Dies at its n-th statement, before the server gets it or after it was carried out: a COMMIT, too, may have
    taken effect and nobody was told."""

    statements_left: int | None = None
    dies_before: bool = True

    async def execute(self, *arguments: Any, **options: Any) -> Any:
        return await self._mortal(super().execute, *arguments, **options)

    async def fetch(self, *arguments: Any, **options: Any) -> Any:
        return await self._mortal(super().fetch, *arguments, **options)

    async def fetchval(self, *arguments: Any, **options: Any) -> Any:
        return await self._mortal(super().fetchval, *arguments, **options)

    async def fetchrow(self, *arguments: Any, **options: Any) -> Any:
        return await self._mortal(super().fetchrow, *arguments, **options)

    async def copy_to_table(self, *arguments: Any, **options: Any) -> Any:
        return await self._mortal(super().copy_to_table, *arguments, **options)

    async def copy_records_to_table(self, *arguments: Any, **options: Any) -> Any:
        return await self._mortal(super().copy_records_to_table, *arguments, **options)

    async def _mortal(self, statement: Callable[..., Awaitable[Any]], *arguments: Any, **options: Any) -> Any:
        if self.statements_left is None:
            return await statement(*arguments, **options)
        self.statements_left -= 1
        if self.statements_left > 0:
            return await statement(*arguments, **options)
        if not self.dies_before:
            await statement(*arguments, **options)
        self.terminate()
        raise asyncpg.ConnectionDoesNotExistError("the connection died, as the test wants it")


class Mortality:
    """At which statement each of the coming connections dies; those after them live."""

    def __init__(self, deaths: list[Death]) -> None:
        self.pending = list(deaths)

    async def connect(self, dsn: str, _settings: ProcessSettings, *, vectors: bool) -> asyncpg.Connection:
        assert vectors
        connection = await asyncpg.connect(dsn, connection_class=MortalConnection)
        await register_vector(connection)
        if self.pending:
            connection.statements_left, connection.dies_before = self.pending.pop(0)
        return connection
