"""What a client does: it writes and reads at random, and hands tokens on in every way that clients do."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from tests.consistency.client import ALIASED, Asked, Client, Collection, Token
from tests.consistency.history import Change, ChangeKind, Question, Write
from tests.consistency.recorder import Recorder
from tests.consistency.values import ALIASES, GROUPS, QUERIES

IDS = tuple(f"v{number:02}" for number in range(30))
WRITE_SHARE = 0.4
PAST_SHARE = 0.02
MATCHING_SHARE = 0.15
"""Of the writes, those by a filter."""
BATCH_SHARE = 0.1
ALIAS_SHARE = 0.1
LIKE_SHARE = 0.2
"""Of the searches, those for what is like a stored vector."""
MAX_BATCH = 6
ALIAS = Collection("current", "", stays=True, is_alias=True)
WHOLE_PAGE = 1_000

_KINDS: dict[ChangeKind, int] = {"create": 2, "put": 4, "patch": 3, "move": 2, "delete": 2}
_HEAT = 0.25
"""Of the writes, each collection gets this share of what the one before it gets: in the last ones answers stay true for
a while."""


class Session:
    """`shared` are the last tokens of all sessions: clients tell each other what they saw."""

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
        self._made: list[tuple[Collection, Change, Token]] = []
        self._written: list[Token] = []
        self._seen: list[Token] = []

    async def run(self) -> None:
        while not self._recorder.is_full:
            if self._random.random() < WRITE_SHARE:
                await self._write()
            else:
                await self._read()

    async def _write(self) -> None:
        heat = [_HEAT**place for place in range(len(self._collections))]
        if self._made and self._random.random() < MATCHING_SHARE:
            await self._write_matching()
            return
        collection = self._random.choices(self._collections, heat)[0]
        count = 1 if self._random.random() < 0.8 else self._random.randint(2, MAX_BATCH)
        changes = [
            Change(vector_id, self._random.choices(list(_KINDS), list(_KINDS.values()))[0], self._recorder.mark())
            for vector_id in self._random.sample(IDS, count)
        ]
        written = await self._client.change(collection, changes, with_key=self._random.random() < 0.5)
        self._wrote(collection, written)

    async def _write_matching(self) -> None:
        """By a filter, something that this session once made, if it is still as that left it."""
        collection, made, token = self._made[-1] if self._random.random() < 0.5 else self._random.choice(self._made)
        kind: ChangeKind = self._random.choice(("patch", "delete"))
        change = Change(made.id, kind, self._recorder.mark())
        tokens = [token, *self._seen[-1:]]
        with_key = self._random.random() < 0.5
        written = await self._client.change_matching(collection, change, made.version, tokens, with_key=with_key)
        self._wrote(collection, written)

    def _wrote(self, collection: Collection, written: tuple[Write, Token] | None) -> None:
        if written is not None:
            write, token = written
            self._remember(self._written, token)
            self._made += [(collection, change, token) for change in write.changes if change.kind != "delete"]
            del self._made[:-20]

    async def _read(self) -> None:
        """A question, often asked again at once, of the same or of another server."""
        if self._made and self._random.random() < PAST_SHARE:
            await self._read_past()
            return
        collection = self._random.choice(self._collections)
        if self._random.random() < BATCH_SHARE:
            questions = [self._search(collection.identity, like=False) for _ in range(self._random.randint(1, 4))]
            token = await self._client.search_batch(questions, collection, self._asked())
            if token is not None:
                self._remember(self._seen, token)
            return
        if self._random.random() < ALIAS_SHARE:
            await self._read_by_alias()
            return
        question = self._question(collection)
        for _ in range(self._random.choice((1, 1, 2, 4))):
            answer = await self._client.read(question, collection, self._asked())
            if answer is None:
                return
            read, token, cursor = answer
            if token is not None:
                self._remember(self._seen, token)
            if cursor is not None and token is not None and question.kind == "list" and self._random.random() < 0.5:
                await self._next_page(question, collection, read.shown[-1].id, token, cursor)

    async def _read_by_alias(self) -> None:
        """What it stands for, or something of the collection that it stands for."""
        if self._random.random() < 0.3:
            question, collection = Question("get", ALIASES, id=ALIAS.name), ALIASED
        else:
            identity, collection = ALIAS.identity, ALIAS
            kinds = (self._list(identity), Question("count", identity), self._search(identity, like=False))
            question = self._random.choice(kinds)
        answer = await self._client.read(question, collection, self._asked())
        if answer is not None and answer[1] is not None:
            self._remember(self._seen, answer[1])

    async def _read_past(self) -> None:
        """Something that this session once made, as it was then."""
        collection, change, token = self._random.choice(self._made)
        question = Question("past", collection.identity, id=change.id, version=change.version)
        await self._client.read(question, collection, Asked(self._random.choice(self._servers), [token]))

    async def _next_page(
        self, question: Question, collection: Collection, after: str, token: Token, cursor: str
    ) -> None:
        rest = replace(question, after=after)
        asked = Asked(self._random.choice(self._servers), [token], cursor=cursor)
        await self._client.read(rest, collection, asked)

    def _remember(self, own: list[Token], token: Token) -> None:
        own.append(token)
        del own[:-3]
        self._shared.append(token)
        del self._shared[:-50]

    def _question(self, collection: Collection) -> Question:
        chosen, identity = self._random, collection.identity
        kind = chosen.choices(("get", "history", "list", "count", "search"), (22, 4, 14, 15, 45))[0]
        match kind:
            case "get":
                return Question("get", identity, id=chosen.choice(IDS))
            case "history":
                return Question("history", identity, id=chosen.choice(IDS), limit=WHOLE_PAGE)
            case "list":
                return self._list(identity)
            case "count":
                return Question("count", identity, group=chosen.choice((None, *range(GROUPS))))
            case _:
                return self._search(identity)

    def _list(self, identity: str) -> Question:
        chosen = self._random
        limit = chosen.choice((5, WHOLE_PAGE))
        if chosen.random() < 0.5:
            return Question("list", identity, limit=limit)
        group, descending = chosen.choice((None, *range(GROUPS))), chosen.random() < 0.5
        return Question("list", identity, limit=limit, scrolled=True, group=group, descending=descending)

    def _search(self, identity: str, *, like: bool = True) -> Question:
        """One of few, so that others ask it too."""
        chosen = self._random
        if like and chosen.random() < LIKE_SHARE:
            k = chosen.choice((3, WHOLE_PAGE))
            return Question("search", identity, like=chosen.choice(IDS[:5]), k=k, exact=chosen.random() < 0.4)
        return Question(
            "search",
            identity,
            group=chosen.choice((None, None, 0, 1)),
            query=min(int(chosen.expovariate(1)), QUERIES - 1),
            k=chosen.choice((3, 3, WHOLE_PAGE)),
            exact=chosen.random() < 0.4,
            include=chosen.choice((("content", "metadata"), ("content", "metadata"), ("metadata",), ())),
        )

    def _asked(self) -> Asked:
        chosen = self._random
        ways: tuple[Sequence[Token], ...] = (
            [],
            self._written[-1:],
            self._seen[-1:],
            [*self._written[-1:], *self._seen[-1:]],
            [*self._written, *self._seen],
            chosen.sample(self._shared, min(2, len(self._shared))),
        )
        tokens = chosen.choices(ways, (25, 25, 25, 10, 5, 10))[0]
        return Asked(
            chosen.choice(self._servers),
            tokens,
            timeout_ms=chosen.choice((300, 1_000, 2_000)),
            in_header=chosen.random() < 0.7,
            max_staleness_ms=chosen.choice((None, None, None, 0, 100, 2_000)),
        )
