"""`QueryBus.execute(query)`: cache, freshness, server, SQL."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Generic, Protocol

import asyncpg

from query_service.cache import AnswerCache, Entry, Layer, entry_key
from query_service.catalogue import LiveCollection
from query_service.errors import (
    CollectionNotFoundError,
    ProjectionParkedError,
    ServerUnavailableError,
    SnapshotGoneError,
    SnapshotNotFoundError,
    SnapshotNotReadyError,
    TooManyReadsError,
)
from query_service.metrics import QueryMetrics
from query_service.polls import Poll
from query_service.queries import KeptQuery, Query
from query_service.replicas import RECOVERY_CONFLICTS, ReadServer
from query_service.routing import Failures, Routing
from query_service.snapshots import CollectionSnapshot, SnapshotRead, read_snapshots
from shared.freshness import Demand
from shared.postgres import Connection
from shared.read_model.snapshot import FoundT, Reading, Snapshot

_MAX_CHANGES = 5

_TABLES_CHANGED = (
    asyncpg.UndefinedTableError,
    asyncpg.InvalidCachedStatementError,
    asyncpg.OutdatedSchemaCacheError,
)
"""The poll that named the tables is out of date: their generation was replaced, or the collection deleted."""


class Choice(Protocol):
    """Of the past, one of a collection's snapshots."""

    async def among(self, collection: LiveCollection, there: Sequence[CollectionSnapshot]) -> CollectionSnapshot: ...


@dataclass(frozen=True, slots=True)
class Target:
    """Which collection, by its name or an alias, and how fresh; `as_of`: as it was, in one of its snapshots."""

    tenant: str
    collection: str
    demand: Demand
    as_of: Choice | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """How an answer came about: which server was read, None for a kept answer, after how many reads that failed; how
    long it took to choose a server (waiting for a token included), to look into the cache, and to read."""

    server: ReadServer | None
    kept_in: Layer | None
    """Where a kept answer that holds was found; it may have been passed over."""
    failed_reads: int
    choice_seconds: float
    cache_seconds: float
    read_seconds: float


@dataclass(frozen=True, slots=True)
class Answer(Generic[FoundT]):
    """`began` is the monotonic time of the statement or poll that vouches for what was found; `parked` counts the
    events set aside that concern it."""

    found: FoundT
    collection: LiveCollection
    snapshot: Snapshot
    began: float
    parked: int
    route: Route

    @property
    def cached(self) -> bool:
        return self.route.server is None


@dataclass(frozen=True, slots=True)
class _Kept(Generic[FoundT]):
    """A kept answer that holds."""

    found: FoundT
    snapshot: Snapshot
    began: float
    layer: Layer


@dataclass(frozen=True, slots=True)
class _Chosen:
    """What is to be read, where, and how many events of it are parked, as the poll shows it."""

    server: ReadServer
    poll: Poll
    collection: LiveCollection
    parked: int


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
        return await self._bounded(query, target, None, read_anyway=True)

    async def execute_kept(
        self, query: KeptQuery[FoundT], target: Target, *, read_anyway: bool = False
    ) -> Answer[FoundT]:
        """The same, from the cache where a kept answer still holds, unless it is to be read anyway."""
        return await self._bounded(query, target, query, read_anyway=read_anyway)

    async def find(self, target: Target) -> LiveCollection:
        """The collection as a read finds it: as its active generation is, or, of the past, as the snapshot is.

        Raises:
            CollectionNotFoundError, ProjectionParkedError, ForeignTokenError, NotFreshEnoughError
            ServerUnavailableError, TooManyReadsError
            SnapshotNotFoundError, SnapshotNotReadyError
            Whatever the choice of a snapshot refuses.
        """
        failures = Failures()
        with self._counted():
            while True:
                chosen = await self._choose(target, failures)
                if chosen is not None:
                    return chosen.collection

    async def poll(self, demand: Demand) -> Poll:
        """A poll that covers the demand, for reads that concern the catalogue only."""
        return (await self._routing.covering(demand, Failures()))[1]

    async def survey(
        self, demand: Demand, read: Callable[[Connection, Poll], Awaitable[FoundT]]
    ) -> tuple[Poll, FoundT]:
        """Such a poll, and what is read besides from the server that it is of.

        Raises:
            ForeignTokenError, NotFreshEnoughError, ServerUnavailableError, TooManyReadsError
        """
        failures = Failures()
        with self._counted():
            while True:
                server, poll = await self._routing.covering(demand, failures)
                try:
                    async with server.reading() as connection:
                        return poll, await read(connection, poll)
                except RECOVERY_CONFLICTS as error:
                    failures.add(server, ServerUnavailableError(server.name, str(error)))
                except ServerUnavailableError as error:
                    failures.add(server, error)

    async def fault(self) -> str | None:
        """Why no server can be read, if so."""
        try:
            await self._routing.covering(Demand((), time.monotonic()), Failures())
        except ServerUnavailableError as error:
            return str(error)
        return None

    async def _bounded(
        self, query: Query[FoundT], target: Target, kept: KeptQuery[FoundT] | None, *, read_anyway: bool
    ) -> Answer[FoundT]:
        failures = Failures()
        with self._counted():
            tries = 0
            while tries - failures.count < _MAX_CHANGES:
                answer = await self._try(query, target, kept, failures, read_anyway=read_anyway)
                if answer is not None:
                    return answer
                tries += 1
        raise ServerUnavailableError("every address", f"what they show changed {_MAX_CHANGES} times during one read")

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """
        Raises:
            TooManyReadsError
        """
        if self._under_way >= self._max_reads:
            raise TooManyReadsError(self._under_way)
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    async def _try(
        self,
        query: Query[FoundT],
        target: Target,
        kept: KeptQuery[FoundT] | None,
        failures: Failures,
        *,
        read_anyway: bool,
    ) -> Answer[FoundT] | None:
        """None: the read failed, or the poll that it began with had been overtaken; to be tried again."""
        began = time.monotonic()
        choice = await self._choose(target, failures)
        if choice is None:
            return None
        server, poll, collection, parked = choice.server, choice.poll, choice.collection, choice.parked
        chosen = time.monotonic()
        held: _Kept[FoundT] | None = None
        key = b""
        if kept is not None and poll.snapshot.log_id is not None:
            key = entry_key(poll.snapshot.log_id, collection, kept.identity())
            held = await self._held(kept, key, poll, collection, target.demand)
        looked = time.monotonic()
        layer = held.layer if held else None
        if held is not None and not read_anyway:
            route = Route(None, layer, failures.count, chosen - began, looked - chosen, 0.0)
            return Answer(
                held.found, collection, _shown(held.snapshot, collection, poll, target), held.began, parked, route
            )
        read = query if collection.past is None else SnapshotRead(query)
        reading = await self._read(server, read, collection, target.demand, failures)
        if reading is None:
            return None
        # That these are its tables, and what of it is parked, is known as of the poll; no more than that is claimed.
        snapshot = replace(reading.snapshot, low=min(poll.snapshot.low, reading.snapshot.low))
        if kept is not None and key and snapshot.log_id == poll.snapshot.log_id:
            payload = kept.dump(reading.found)
            valid_until = reading.valid_until if collection.past is None else None
            self._cache.keep(key, Entry(snapshot.low, snapshot.high, payload, valid_until, looked))
        route = Route(server, layer, failures.count, chosen - began, looked - chosen, time.monotonic() - looked)
        return Answer(reading.found, collection, _shown(snapshot, collection, poll, target), looked, parked, route)

    async def _choose(self, target: Target, failures: Failures) -> _Chosen | None:
        """None: a server failed, and the read is to be tried again."""
        server, poll = await self._routing.covering(target.demand, failures)
        collection, parked = resolve(poll, target)
        if target.as_of is None:
            return _Chosen(server, poll, collection, parked)
        found = await self._snapshot(server, collection, target.as_of, failures)
        if found is None:
            return None
        server, collection = found
        return _Chosen(server, poll, collection, _parked_by_then(poll, collection))

    async def _snapshot(
        self, server: ReadServer, collection: LiveCollection, choice: Choice, failures: Failures
    ) -> tuple[ReadServer, LiveCollection] | None:
        """A server that has the snapshot: this one, or the primary if it has not come here yet. None: a server failed,
        and the read is to be tried again.

        Raises:
            SnapshotNotFoundError, SnapshotNotReadyError
            Whatever the choice refuses.
        """
        refusal: SnapshotNotFoundError | SnapshotNotReadyError | None = None
        for one in self._routing.with_primary(server, failures):
            try:
                async with one.reading() as connection:
                    there = await read_snapshots(connection, collection.collection_id)
            except RECOVERY_CONFLICTS as error:
                failures.add(one, ServerUnavailableError(one.name, str(error)))
                return None
            except ServerUnavailableError as error:
                failures.add(one, error)
                return None
            try:
                return one, (await choice.among(collection, there)).of(collection)
            except (SnapshotNotFoundError, SnapshotNotReadyError) as error:
                refusal = error
        assert refusal is not None
        raise refusal

    async def _read(
        self,
        server: ReadServer,
        query: Query[FoundT],
        collection: LiveCollection,
        demand: Demand,
        failures: Failures,
    ) -> Reading[FoundT] | None:
        reading: Reading[FoundT] | None = None
        outcome = "answered"
        try:
            async with server.reading() as connection:
                reading = await query.read(connection, collection)
        except (*_TABLES_CHANGED, SnapshotGoneError):
            server.void()
            outcome = "tables_changed"
        except RECOVERY_CONFLICTS as error:
            failures.add(server, ServerUnavailableError(server.name, str(error)))
            outcome = "conflict"
        except ServerUnavailableError as error:
            failures.add(server, error)
            outcome = "unavailable"
        if reading is not None and not demand.covered_by(reading.snapshot):
            # Behind the address is another server than the one that was polled.
            server.void()
            reading, outcome = None, "not_fresh"
        self._metrics.reads.labels(server.name, outcome).inc()
        return reading

    async def _held(
        self, kept: KeptQuery[FoundT], key: bytes, poll: Poll, collection: LiveCollection, demand: Demand
    ) -> _Kept[FoundT] | None:
        """The kept answer, if nothing that it shows has expired and nothing has changed the collection since, as far as
        the poll shows; or if it is not older than the request is content with."""
        # Nothing changes a snapshot.
        last_changed = poll.last_changed.get(collection.collection_id, 0) if collection.past is None else 0
        since = demand.vouched_since(time.monotonic())

        def holds(entry: Entry) -> bool:
            if entry.valid_until is not None and entry.valid_until <= poll.clock_at(time.monotonic()):
                return False
            return entry.low >= last_changed or _recent(entry, since, demand)

        found = await self._cache.find(key, holds)
        if found is None:
            return None
        layer, entry = found
        answer = kept.load(entry.payload)
        if entry.low < last_changed:
            return _Kept(answer, Snapshot(entry.low, entry.high, poll.snapshot.log_id), entry.vouched_at, layer)
        # What is between the entry's snapshot and the poll's did not concern the collection.
        self._cache.vouch(key, entry, poll.began)
        low = max(entry.low, poll.snapshot.low)
        snapshot = Snapshot(low, max(entry.high, low), poll.snapshot.log_id)
        return _Kept(answer, snapshot, max(poll.began, entry.vouched_at), layer)


def _shown(snapshot: Snapshot, collection: LiveCollection, poll: Poll, target: Target) -> Snapshot:
    """What the answer holds of the log; from a snapshot of the past, no more than that. What an alias stands for is
    known as of the poll, and a kept answer may be older or newer than that."""
    if collection.past is None:
        named_at = poll.catalogue.alias_position(target.tenant, target.collection)
        if named_at == 0:
            return snapshot
        return replace(snapshot, low=min(snapshot.low, poll.snapshot.low), high=max(snapshot.high, named_at))
    return replace(snapshot, low=collection.past.position, high=collection.past.position)


def _parked_by_then(poll: Poll, collection: LiveCollection) -> int:
    """How many events are parked that the snapshot would hold."""
    assert collection.past is not None
    return sum(of == collection.collection_id and at <= collection.past.position for of, at in poll.parked)


def _recent(entry: Entry, since: float | None, demand: Demand) -> bool:
    return since is not None and entry.vouched_at >= since and entry.low >= demand.position


def resolve(poll: Poll, target: Target) -> tuple[LiveCollection, int]:
    """The collection and how many of its events are parked.

    Raises:
        CollectionNotFoundError
        ProjectionParkedError: what the token's holder wrote there is among the parked.
    """
    refuse_parked(poll.parked_aliases, target.demand)
    collection = poll.catalogue.find(target.tenant, target.collection)
    if collection is None:
        # Perhaps the caller has created it just now, and that could not be projected.
        refuse_parked([position for of, position in poll.parked if of not in poll.catalogue.by_id], target.demand)
        raise CollectionNotFoundError(target.collection)
    parked = [position for of, position in poll.parked if of == collection.collection_id]
    refuse_parked(parked, target.demand)
    return collection, len(parked)


def refuse_parked(parked: Sequence[int], demand: Demand) -> None:
    """
    Raises:
        ProjectionParkedError: what a token's holder wrote is among these positions.
    """
    written = [position for position in parked if demand.written(position)]
    if written:
        raise ProjectionParkedError(written)
