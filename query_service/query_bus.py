"""`QueryBus.execute(query)`: cache, freshness, server, SQL."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import asyncpg

from query_service.cache import AnswerCache, Entry, entry_key
from query_service.catalogue import LiveCollection
from query_service.errors import (
    CollectionNotFoundError,
    ProjectionParkedError,
    ServerUnavailableError,
    TooManyReadsError,
)
from query_service.freshness import Demand
from query_service.metrics import QueryMetrics
from query_service.polls import Poll
from query_service.replicas import RECOVERY_CONFLICTS, ReadServer
from query_service.routing import Failures, Routing
from query_service.snapshot import Reading, Snapshot
from shared.postgres import Connection

_MAX_CHANGES = 5

_TABLES_CHANGED = (
    asyncpg.UndefinedTableError,
    asyncpg.InvalidCachedStatementError,
    asyncpg.OutdatedSchemaCacheError,
)
"""The poll that named the tables is out of date: their generation was replaced, or the collection deleted."""

FoundT = TypeVar("FoundT")


class Query(Protocol[FoundT]):
    """A read of one collection in one statement."""

    async def read(self, connection: Connection, collection: LiveCollection) -> Reading[FoundT]: ...


class KeptQuery(Query[FoundT], Protocol[FoundT]):
    """One whose answer is worth keeping."""

    def identity(self) -> bytes:
        """What tells it from all other queries over the same tables."""

    def dump(self, found: FoundT) -> bytes: ...

    def load(self, payload: bytes) -> FoundT: ...


@dataclass(frozen=True, slots=True)
class Target:
    """Which collection, and how fresh."""

    tenant: str
    collection: str
    demand: Demand


@dataclass(frozen=True, slots=True)
class Answer(Generic[FoundT]):
    """`began` is the monotonic time of the statement or poll that vouches for what was found; `parked` counts the
    events set aside that concern it."""

    found: FoundT
    collection: LiveCollection
    snapshot: Snapshot
    began: float
    parked: int
    cached: bool = False


class QueryBus:
    def __init__(self, routing: Routing, cache: AnswerCache, metrics: QueryMetrics, max_reads: int) -> None:
        self._routing = routing
        self._cache = cache
        self._metrics = metrics
        self._max_reads = max_reads
        self._under_way = 0

    async def execute(self, query: Query[FoundT], target: Target) -> Answer[FoundT]:
        """
        Raises:
            CollectionNotFoundError, ProjectionParkedError, ForeignTokenError, NotFreshEnoughError
            ServerUnavailableError: no server could answer.
            TooManyReadsError
            Whatever the query refuses.
        """
        return await self._bounded(query, target, None)

    async def execute_kept(self, query: KeptQuery[FoundT], target: Target) -> Answer[FoundT]:
        """The same, from the cache where it still holds."""
        return await self._bounded(query, target, query)

    async def poll(self, demand: Demand) -> Poll:
        """A poll that covers the demand, for reads that concern the catalogue only."""
        return (await self._routing.covering(demand, Failures()))[1]

    async def fault(self) -> str | None:
        """Why no server can be read, if so."""
        try:
            await self._routing.covering(Demand((), time.monotonic()), Failures())
        except ServerUnavailableError as error:
            return str(error)
        return None

    async def _bounded(self, query: Query[FoundT], target: Target, kept: KeptQuery[FoundT] | None) -> Answer[FoundT]:
        if self._under_way >= self._max_reads:
            raise TooManyReadsError(self._under_way)
        self._under_way += 1
        try:
            return await self._answer(query, target, kept)
        finally:
            self._under_way -= 1

    async def _answer(self, query: Query[FoundT], target: Target, kept: KeptQuery[FoundT] | None) -> Answer[FoundT]:
        failures = Failures()
        for _ in range(_MAX_CHANGES):
            answer = await self._try(query, target, kept, failures)
            if answer is not None:
                return answer
        raise ServerUnavailableError("every address", f"what it shows changed {_MAX_CHANGES} times during one read")

    async def _try(
        self, query: Query[FoundT], target: Target, kept: KeptQuery[FoundT] | None, failures: Failures
    ) -> Answer[FoundT] | None:
        """None: the poll that it began with had been overtaken."""
        while True:
            server, poll = await self._routing.covering(target.demand, failures)
            collection, parked = resolve(poll, target)
            key = None
            if kept is not None and poll.snapshot.log_id is not None:
                key = entry_key(poll.snapshot.log_id, collection, kept.identity())
                found = await self._from_cache(kept, key, poll, collection, parked, target.demand)
                if found is not None:
                    return found
            began = time.monotonic()
            try:
                async with server.reading() as connection:
                    reading = await query.read(connection, collection)
            except _TABLES_CHANGED:
                server.void()
                self._count(server, "tables_changed")
                return None
            except RECOVERY_CONFLICTS as error:
                self._count(server, "conflict")
                failures.add(server, ServerUnavailableError(server.name, str(error)))
                continue
            except ServerUnavailableError as error:
                self._count(server, "unavailable")
                failures.add(server, error)
                continue
            if not target.demand.covered_by(reading.snapshot):
                # Behind the address is another server than the one that was polled.
                server.void()
                self._count(server, "not_fresh")
                return None
            self._count(server, "answered")
            if kept is not None and key is not None and reading.snapshot.log_id == poll.snapshot.log_id:
                low, high = reading.snapshot.low, reading.snapshot.high
                self._cache.keep(key, Entry(low, high, kept.dump(reading.found), began))
            return Answer(reading.found, collection, reading.snapshot, began, parked)

    async def _from_cache(
        self,
        kept: KeptQuery[FoundT],
        key: bytes,
        poll: Poll,
        collection: LiveCollection,
        parked: int,
        demand: Demand,
    ) -> Answer[FoundT] | None:
        """The kept answer, if nothing has changed the collection since, as far as the poll shows; or if it is not older
        than the request is content with."""
        last_changed = poll.last_changed.get(collection.collection_id, 0)
        since = demand.vouched_since(time.monotonic())

        def holds(entry: Entry) -> bool:
            return entry.low >= last_changed or _recent(entry, since, demand)

        entry = await self._cache.find(key, holds)
        if entry is None:
            return None
        found = kept.load(entry.payload)
        if entry.low < last_changed:
            snapshot = Snapshot(entry.low, entry.high, poll.snapshot.log_id)
            return Answer(found, collection, snapshot, entry.vouched_at, parked, cached=True)
        # What is between the entry's snapshot and the poll's did not concern the collection.
        self._cache.vouch(key, entry, poll.began)
        low = max(entry.low, poll.snapshot.low)
        snapshot = Snapshot(low, max(entry.high, low), poll.snapshot.log_id)
        return Answer(found, collection, snapshot, max(poll.began, entry.vouched_at), parked, cached=True)

    def _count(self, server: ReadServer, outcome: str) -> None:
        self._metrics.reads.labels(server.name, outcome).inc()


def _recent(entry: Entry, since: float | None, demand: Demand) -> bool:
    return since is not None and entry.vouched_at >= since and entry.low >= demand.position


def resolve(poll: Poll, target: Target) -> tuple[LiveCollection, int]:
    """The collection and how many of its events are parked.

    Raises:
        CollectionNotFoundError
        ProjectionParkedError: what the token's holder wrote there is among the parked.
    """
    collection = poll.catalogue.find(target.tenant, target.collection)
    if collection is None:
        # Perhaps the caller has created it just now, and that could not be projected.
        _refuse_parked([position for of, position in poll.parked if of not in poll.catalogue.by_id], target.demand)
        raise CollectionNotFoundError(target.collection)
    parked = [position for of, position in poll.parked if of == collection.collection_id]
    _refuse_parked(parked, target.demand)
    return collection, len(parked)


def _refuse_parked(parked: Sequence[int], demand: Demand) -> None:
    written = [position for position in parked if demand.written(position)]
    if written:
        raise ProjectionParkedError(written)
