"""Which server answers a read: a replica that is well, fresh enough and least busy; else the primary."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from query_service.errors import ServerUnavailableError
from query_service.metrics import QueryMetrics
from query_service.polls import Poll
from query_service.replicas import PATIENCE_SECONDS, ReadServer
from shared.freshness import Demand, ForeignTokenError, NotFreshEnoughError

_TRIES_PER_SERVER = 2
_PRIMARY_AFTER_SECONDS = 0.05
"""A read waits so long for replicas to cover its token before the primary is asked too."""
_SURVEY_SECONDS = 0.5
_SHORTEST_PAUSE_SECONDS = 0.002
_LONGEST_PAUSE_SECONDS = 0.020


@dataclass(slots=True)
class Failures:
    """What one read has met with so far. Each server may fail it twice: a connection may have been broken for long."""

    _errors: dict[ReadServer, list[ServerUnavailableError]] = field(default_factory=dict)

    def add(self, server: ReadServer, error: ServerUnavailableError) -> None:
        self._errors.setdefault(server, []).append(error)

    def of(self, server: ReadServer) -> int:
        return len(self._errors.get(server, ()))

    @property
    def count(self) -> int:
        return sum(map(len, self._errors.values()))

    def most_telling(self, servers: Sequence[ReadServer]) -> ServerUnavailableError:
        """The last error of the first of these servers that has any."""
        return next(self._errors[server][-1] for server in servers if server in self._errors)


class Routing:
    def __init__(self, servers: Sequence[ReadServer], metrics: QueryMetrics) -> None:
        self._servers = servers
        self._metrics = metrics
        self._turns: dict[ReadServer, int] = {}
        self._turn = 0
        self._surveyed_at = float("-inf")

    async def covering(self, demand: Demand, failures: Failures) -> tuple[ReadServer, Poll]:
        """A server to read from, and a recent poll of it that covers the demand.

        Raises:
            ForeignTokenError
            NotFreshEnoughError: none covers the demand by its deadline.
            ServerUnavailableError: none is left that has not failed this read.
        """
        self._look_around()
        began = time.monotonic()
        while True:
            server = self._choices(failures)[0]
            try:
                poll = await self._polled(server, demand.vouched_since(began))
            except ServerUnavailableError as error:
                failures.add(server, error)
                continue
            if not demand.tokens or demand.covered_by(poll.snapshot):
                return self._chosen(server), poll
            with self._metrics.freshness_wait.time():
                return await self._wait(demand, failures)

    def with_primary(self, server: ReadServer, failures: Failures) -> list[ReadServer]:
        """This server, then the primary, if that is another one which can be asked: it has what the first may lack."""
        others = [one for one in self._servers if one.is_primary and failures.of(one) < _TRIES_PER_SERVER]
        return [server] if server.is_primary else [server, *others[:1]]

    async def _polled(self, server: ReadServer, since: float | None) -> Poll:
        polling = server.recent_poll() if since is None else server.poll_since(since)
        if len(self._servers) == 1:
            return await polling
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await polling
        except TimeoutError as error:
            raise ServerUnavailableError(server.name, f"no answer within {PATIENCE_SECONDS:g} seconds") from error

    async def _wait(self, demand: Demand, failures: Failures) -> tuple[ReadServer, Poll]:
        began = time.monotonic()
        pause = 0.0  # the first poll that is too old is replaced at once
        while True:
            now = time.monotonic()
            waited_long = now - began >= _PRIMARY_AFTER_SECONDS or demand.deadline - now <= _PRIMARY_AFTER_SECONDS
            found = await self._first_to_cover(demand, failures, self._waited_for(failures, waited_long))
            if isinstance(found, tuple):
                return self._chosen(found[0]), found[1]
            left = demand.deadline - time.monotonic()
            if left <= 0:
                raise found
            await asyncio.sleep(min(pause, left))
            pause = min(max(2 * pause, _SHORTEST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)

    def _waited_for(self, failures: Failures, waited_long: bool) -> list[ReadServer]:
        choices = self._choices(failures)
        preferred = [server for server in choices if self._rank(server) == self._rank(choices[0])]
        return choices if waited_long else preferred

    async def _first_to_cover(
        self, demand: Demand, failures: Failures, servers: Sequence[ReadServer]
    ) -> tuple[ReadServer, Poll] | NotFreshEnoughError | ForeignTokenError:
        """The first of these servers whose next poll covers the demand, else why none does."""
        since = time.monotonic()
        polls = {asyncio.create_task(self._polled(server, since)): server for server in servers}
        nearest: NotFreshEnoughError | ForeignTokenError | None = None
        waiting = set(polls)
        try:
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    try:
                        poll = task.result()
                        if demand.covered_by(poll.snapshot):
                            return polls[task], poll
                    except ServerUnavailableError as error:
                        failures.add(polls[task], error)
                    except ForeignTokenError as error:
                        nearest = nearest or error
                    else:
                        missed = demand.not_met(poll.snapshot)
                        if not isinstance(nearest, NotFreshEnoughError) or nearest.current < missed.current:
                            nearest = missed
        finally:
            for task in waiting:
                task.cancel()
        if isinstance(nearest, ForeignTokenError):
            raise nearest
        # None of them could be polled: the next round asks those that are left, if any.
        return nearest or NotFreshEnoughError(demand.position, 0)

    def _choices(self, failures: Failures) -> list[ReadServer]:
        """The servers that may be asked, in order of preference; at least one.

        Raises:
            ServerUnavailableError
        """
        left = [server for server in self._servers if failures.of(server) < _TRIES_PER_SERVER]
        if not left:
            raise failures.most_telling(self._servers)
        return sorted(
            left,
            key=lambda one: (failures.of(one), self._rank(one), one.in_flight, self._turns.get(one, 0)),
        )

    @staticmethod
    def _rank(server: ReadServer) -> int:
        if server.is_resting:
            return 3
        if server.is_primary:
            return 1
        return 2 if server.lags else 0

    def _chosen(self, server: ReadServer) -> ReadServer:
        self._turn += 1
        self._turns[server] = self._turn
        return server

    def _look_around(self) -> None:
        """Polls all servers now and then, as long as there are reads: so it shows who lags and who is back."""
        now = time.monotonic()
        if len(self._servers) > 1 and now - self._surveyed_at >= _SURVEY_SECONDS:
            self._surveyed_at = now
            for server in self._servers:
                server.poll_beside(now - _SURVEY_SECONDS / 2)
                self._metrics.server_state.labels(server.name, "lags").set(server.lags)
                self._metrics.server_state.labels(server.name, "resting").set(server.is_resting)
