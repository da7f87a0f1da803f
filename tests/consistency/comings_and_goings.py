"""A client that creates a collection, fills it, drops it and uses its name again: nothing comes back from the dead."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from itertools import count

from tests.consistency.client import Asked, Client, Collection, Token
from tests.consistency.history import Change, Question
from tests.consistency.recorder import Recorder
from tests.consistency.session import IDS, WHOLE_PAGE

_VECTORS = IDS[:4]
_STEPS = 12
_READS_AFTERWARDS = 20


class ComingsAndGoings:
    """Alone knows its collections, so each of its reads carries a token that says which of them it means."""

    def __init__(
        self, client: Client, recorder: Recorder, name: str, servers: Sequence[str], chosen: random.Random
    ) -> None:
        self._client = client
        self._recorder = recorder
        self._name = name
        self._servers = servers
        self._random = chosen

    async def run(self) -> None:
        for incarnation in count(1):
            index = ("hnsw", "ivfflat", "none")[incarnation % 3]
            collection = Collection(self._name, f"{self._name}#{incarnation}", index=index)
            created = await self._client.create(collection)
            if created is not None:
                dropped = await self._live(collection, created)
                if dropped is None:
                    self._name += "x"  # it is unknown whether the old name is free again
                else:
                    await self._read(collection, dropped)
            else:
                self._name += "x"
            if self._recorder.is_full:
                return

    async def _live(self, collection: Collection, token: Token) -> Token | None:
        for _ in range(_STEPS):
            if self._random.random() < 0.4:
                change = Change(self._random.choice(_VECTORS), "put", self._recorder.mark())
                written = await self._client.change(collection, [change], with_key=True)
                token = written[1] if written else token
            else:
                token = await self._read(collection, token) or token
            if self._recorder.is_full:
                break
        dropping = asyncio.create_task(self._client.drop(collection))
        await self._read_on(collection, token, dropping)
        return await dropping

    async def _read_on(self, collection: Collection, token: Token, dropping: asyncio.Task[Token | None]) -> None:
        """Until a little after the collection is dropped; by then its tables are on their way out."""
        since = 0
        while since < _READS_AFTERWARDS:
            since += dropping.done()
            await self._read(collection, token)

    async def _read(self, collection: Collection, token: Token) -> Token | None:
        """The token of the answer."""
        identity = collection.identity
        question = self._random.choice(
            (
                Question("get", identity, id=self._random.choice(_VECTORS)),
                Question("list", identity, limit=WHOLE_PAGE),
                Question("count", identity),
                Question("search", identity, k=WHOLE_PAGE),
            )
        )
        answer = await self._client.read(question, collection, Asked(self._random.choice(self._servers), [token]))
        return None if answer is None else answer[1]
