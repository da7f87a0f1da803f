"""One run: servers, clients, faults, and what the checker says of it."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from shared.tokens import Signer
from tests.consistency.checker import Violation, violations_of
from tests.consistency.client import ALIASED, Asked, Client, Collection, Token
from tests.consistency.comings_and_goings import ComingsAndGoings
from tests.consistency.faults import Faults
from tests.consistency.history import Change, Question
from tests.consistency.recorder import Recorder
from tests.consistency.report import report_of
from tests.consistency.servers import SIGNING_KEY, Servers, running_servers
from tests.consistency.session import ALIAS, WHOLE_PAGE, Session
from tests.consistency.switching import Switching
from tests.consistency.values import ALIASES

COLLECTIONS = tuple(
    Collection(name, name, stays=True, index=index)
    for name, index in (("hot", "hnsw"), ("warm", "ivfflat"), ("cool", "none"), ("cold", "hnsw"))
)
ALIAS_ITSELF = Question("get", ALIASES, id=ALIAS.name)
SETTLING_MS = 30_000
_PROGRESS_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Options:
    """`fault_pause_seconds`: the least and the longest time from one fault to the next."""

    operations: int
    sessions: int
    kafka: bool
    seed: int
    fault_pause_seconds: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Outcome:
    report: dict[str, Any]
    violations: Sequence[Violation]


async def run(options: Options) -> Outcome:
    print(f"seed {options.seed}", file=sys.stderr)
    async with running_servers(kafka=options.kafka) as servers:
        recorder, faults = Recorder(options.operations), Counter[str]()
        started = time.monotonic()
        await _work(servers, options, recorder, faults)
        seconds = time.monotonic() - started
    violations = violations_of(recorder.history())
    return Outcome(report_of(recorder, violations, faults, seconds, options.seed), violations)


async def _work(servers: Servers, options: Options, recorder: Recorder, counts: Counter[str]) -> None:
    chosen = random.Random(options.seed)
    signer = Signer([SIGNING_KEY.encode()])
    async with AsyncExitStack() as stack:
        clients = [Client(servers.command_url, recorder, signer) for _ in range(options.sessions + 3)]
        for client in clients:
            stack.callback(client.close)
        first, fleeting, aliasing, *others = clients
        shared = await _created(servers, first)
        switching = Switching(
            aliasing, recorder, COLLECTIONS, servers.query_urls, shared, random.Random(chosen.random())
        )
        await _aliased(servers, aliasing, switching)
        working: list[Session | ComingsAndGoings | Switching] = [
            Session(client, recorder, COLLECTIONS, servers.query_urls, shared, random.Random(chosen.random()))
            for client in others
        ]
        working.append(switching)
        working.append(
            ComingsAndGoings(fleeting, recorder, "fleeting", servers.query_urls, random.Random(chosen.random()))
        )
        faults = Faults(servers, random.Random(chosen.random()), options.fault_pause_seconds, counts)
        async with _beside(faults.run()), _beside(_watch(recorder, counts)), asyncio.TaskGroup() as group:
            for one in working:
                group.create_task(one.run())
        await faults.mend()
        await _ask_for_everything(servers, first, recorder)


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """It goes on for as long as the block; if it fails, so does the block in its end."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
    if not task.cancelled():
        task.result()


async def _created(servers: Servers, client: Client) -> list[Token]:
    """The tokens of the collections' creations, once every query service knows of them."""
    tokens = []
    for collection in COLLECTIONS:
        token = await client.create(collection)
        assert token is not None, f"the collection {collection.name} could not be created"
        tokens.append(token)
    for server in servers.query_urls:
        asked = Asked(server, tokens[-1:], timeout_ms=SETTLING_MS)
        for collection in COLLECTIONS:
            answer = await client.read(Question("count", collection.identity), collection, asked)
            assert answer is not None, f"the collection {collection.name} was not to be read in time"
    return tokens


async def _aliased(servers: Servers, client: Client, switching: Switching) -> None:
    """Once every query service knows what the alias stands for."""
    token = await switching.switch()
    assert token is not None, "the alias could not be set"
    for server in servers.query_urls:
        answer = await client.read(ALIAS_ITSELF, ALIASED, Asked(server, [token], timeout_ms=SETTLING_MS))
        assert answer is not None, "the alias was not to be read in time"


async def _ask_for_everything(servers: Servers, client: Client, recorder: Recorder) -> None:
    """After one more write, whose token covers all the others."""
    written = await client.change(COLLECTIONS[0], [Change("last", "put", recorder.mark())], with_key=True)
    assert written is not None, "the last write was not acknowledged"
    _, token = written
    for server in servers.query_urls:
        asked = Asked(server, [token], timeout_ms=SETTLING_MS)
        answer = await client.read(ALIAS_ITSELF, ALIASED, asked, final=True)
        assert answer is not None, "what the alias stands for was not answered in the end"
        for collection in COLLECTIONS:
            for question in (
                Question("list", collection.identity, limit=WHOLE_PAGE),
                Question("count", collection.identity),
                Question("search", collection.identity, k=WHOLE_PAGE, exact=True),
            ):
                answer = await client.read(question, collection, asked, final=True)
                assert answer is not None, f"{question} was not answered in the end"


async def _watch(recorder: Recorder, faults: Counter[str]) -> None:
    while True:
        before = recorder.sent
        await asyncio.sleep(_PROGRESS_SECONDS)
        rate = (recorder.sent - before) / _PROGRESS_SECONDS
        print(f"{recorder.sent} operations, {rate:.0f} a second, {faults.total()} faults", file=sys.stderr)
