"""The synchronous client behind the words of the asynchronous one, so that one test speaks to both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import GeneratorType
from typing import Any

from aindusdb.client import AsyncClient, Client, RetryPolicy

PATIENCE = RetryPolicy(patience_seconds=60.0)
ITERATED = ("collections", "aliases", "vectors", "scroll", "scroll_pages", "history", "events")


class Awaited:
    """Calls answer at once; what they answer can be awaited, or iterated over by `async for`."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def session(self) -> Awaited:
        return Awaited(self._client.session())

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*arguments: Any, **options: Any) -> Any:
            if name in ITERATED:
                return _iterated(method(*arguments, **options))
            return _awaited(method, arguments, options)

        return call


async def _awaited(method: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    answer = method(*arguments, **options)
    assert not isinstance(answer, GeneratorType)
    return answer


async def _iterated(items: Iterator[Any]) -> AsyncIterator[Any]:
    for one in items:
        yield one


@asynccontextmanager
async def _synchronous(url: str) -> AsyncIterator[Any]:
    with Client(url, retries=PATIENCE) as client:
        yield Awaited(client)


@asynccontextmanager
async def _asynchronous(url: str) -> AsyncIterator[Any]:
    async with AsyncClient(url, retries=PATIENCE) as client:
        yield client


def either(kind: str, url: str) -> AbstractAsyncContextManager[Any]:
    return {"synchronous": _synchronous, "asynchronous": _asynchronous}[kind](url)
