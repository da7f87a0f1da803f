"""A client that lets an alias stand for one collection after another, while others read through it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from tests.consistency.client import ALIASED, Asked, Client, Collection, Token
from tests.consistency.history import Change, Question
from tests.consistency.recorder import Recorder
from tests.consistency.session import ALIAS
from tests.consistency.values import ALIASES, target_mark

_PAUSE_SECONDS = 0.05


class Switching:
    """Alone sets the alias, and each time to something that it cannot stand for already: to set it to the same again
    is no event."""

    def __init__(
        self,
        client: Client,
        recorder: Recorder,
        collections: Sequence[Collection],
        servers: Sequence[str],
        shared: list[Token],
        chosen: random.Random,
    ) -> None:
        self._client = client
        self._recorder = recorder
        self._collections = collections
        self._servers = servers
        self._shared = shared
        self._random = chosen
        self._possible: list[Collection] = []

    async def run(self) -> None:
        while not self._recorder.is_full:
            token = await self.switch()
            if token is not None:
                server = self._random.choice(self._servers)
                kinds = (Question("count", ALIAS.identity), Question("get", ALIASES, id=ALIAS.name))
                question = self._random.choice(kinds)
                collection = ALIAS if question.kind == "count" else ALIASED
                await self._client.read(question, collection, Asked(server, [token]))
            await asyncio.sleep(_PAUSE_SECONDS)

    async def switch(self) -> Token | None:
        others = [one for one in self._collections if one not in self._possible]
        if not others:
            return None
        target = self._random.choice(others)
        self._possible.append(target)
        change = Change(ALIAS.name, "put", target_mark(target.name))
        written = await self._client.set_alias(ALIAS, target, change)
        if written is None:
            return None
        self._possible = [target]
        self._shared.append(written[1])
        return written[1]
