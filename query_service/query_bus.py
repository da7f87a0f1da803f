"""`QueryBus.execute(query)`: which server, which tables, and whether what was read is fresh enough."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import asyncpg

from query_service.catalogue import LiveCollection
from query_service.errors import CollectionNotFoundError, ProjectionParkedError, ServerUnavailableError
from query_service.freshness import Demand, covering_poll
from query_service.metrics import QueryMetrics
from query_service.polls import Poll
from query_service.replicas import ReadServer
from query_service.snapshot import Reading, Snapshot
from shared.postgres import Connection

_TRIES_PER_SERVER = 2
_MAX_READS = 5

_TABLES_CHANGED = (
    asyncpg.UndefinedTableError,
    asyncpg.InvalidCachedStatementError,
    asyncpg.OutdatedSchemaCacheError,
)
"""The poll that named the tables is out of date: their generation was replaced, or the collection deleted."""

FoundT = TypeVar("FoundT")
ResultT = TypeVar("ResultT")


class Query(Protocol[FoundT]):
    """A read of one collection in one statement."""

    async def read(self, connection: Connection, collection: LiveCollection) -> Reading[FoundT]: ...


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


class QueryBus:
    def __init__(self, servers: Sequence[ReadServer], metrics: QueryMetrics) -> None:
        self._servers = servers
        self._metrics = metrics

    async def execute(self, query: Query[FoundT], target: Target) -> Answer[FoundT]:
        """
        Raises:
            CollectionNotFoundError, ProjectionParkedError, ForeignTokenError, NotFreshEnoughError
            ServerUnavailableError: no server could answer.
            Whatever the query refuses.
        """
        return await self._somewhere(lambda server: self._read(server, query, target))

    async def poll(self, demand: Demand) -> Poll:
        """A poll that covers the demand, for reads that concern the catalogue only."""
        return await self._somewhere(lambda server: covering_poll(server, demand, self._metrics))

    async def fault(self) -> str | None:
        """Why no server can be read, if so."""
        try:
            await self._somewhere(lambda server: server.recent_poll())
        except ServerUnavailableError as error:
            return str(error)
        return None

    async def _somewhere(self, attempt: Callable[[ReadServer], Awaitable[ResultT]]) -> ResultT:
        """Each server in turn, and each once more: a connection may have been broken since long ago."""
        failure: ServerUnavailableError | None = None
        for server in self._tries():
            try:
                return await attempt(server)
            except ServerUnavailableError as error:
                failure = error
        assert failure is not None
        raise failure

    def _tries(self) -> Iterator[ReadServer]:
        for server in self._servers:
            for _ in range(_TRIES_PER_SERVER):
                yield server

    async def _read(self, server: ReadServer, query: Query[FoundT], target: Target) -> Answer[FoundT]:
        for _ in range(_MAX_READS):
            poll = await covering_poll(server, target.demand, self._metrics)
            collection, parked = resolve(poll, target)
            began = time.monotonic()
            try:
                async with server.connection() as connection:
                    reading = await query.read(connection, collection)
            except _TABLES_CHANGED:
                server.void()
                continue
            except asyncpg.SerializationError as error:
                # A replica ended the statement because it stood in the way of its recovery.
                raise ServerUnavailableError(server.name, str(error)) from error
            if target.demand.covered_by(reading.snapshot):
                return Answer(reading.found, collection, reading.snapshot, began, parked)
            # Behind the address is another server than the one that was polled.
            server.void()
        raise ServerUnavailableError(server.name, f"what it shows changed {_MAX_READS} times during one read")


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
