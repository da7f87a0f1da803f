"""Commands that wait for the writer: single ones go ahead of bulk, and the whole is bounded."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field

from command_service.domain.commands import Command, WriteVectors
from command_service.outcomes import Outcome

BULK_OPERATIONS = 8
"""A command with more operations than this is bulk."""

SINGLES_ARE_ABOUT_SECONDS = 0.1
"""For this long after a single command, bulk leaves room for the next."""

_COMMAND_BYTES = 512


class OverloadedError(Exception):
    """Too many commands, or too large ones, wait already. Try again after `retry_after_seconds`."""

    retry_after_seconds = 1


@dataclass(eq=False, slots=True)
class Pending:
    """A command and the caller who waits for its outcome."""

    command: Command
    answer: asyncio.Future[Outcome] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def operations(self) -> int:
        return len(self.command.operations) if isinstance(self.command, WriteVectors) else 1

    @property
    def is_bulk(self) -> bool:
        return self.operations > BULK_OPERATIONS

    @property
    def size_bytes(self) -> int:
        return _COMMAND_BYTES + (self.command.size_bytes if isinstance(self.command, WriteVectors) else 0)


class CommandQueue:
    """One consumer takes what fits into a transaction; any number of callers put."""

    def __init__(self, *, max_commands: int, max_bytes: int, batch_events: int, batch_bytes: int) -> None:
        self._max_commands = max_commands
        self._max_bytes = max_bytes
        self._batch_events = batch_events
        self._batch_bytes = batch_bytes
        self._single: deque[Pending] = deque()
        self._bulk: deque[Pending] = deque()
        self._bytes = 0
        self._bulk_is_next = False
        self._bulk_rests_until = 0.0
        self._single_at = float("-inf")
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        return len(self._single) + len(self._bulk)

    @property
    def size_bytes(self) -> int:
        return self._bytes

    def put(self, pending: Pending) -> None:
        """
        Raises:
            OverloadedError: the queue is full.
        """
        size = pending.size_bytes
        if len(self) >= self._max_commands or (self._bytes and self._bytes + size > self._max_bytes):
            raise OverloadedError(f"{len(self)} commands of {self._bytes} bytes wait already; try again in a second")
        self._bytes += size
        if pending.is_bulk:
            self._bulk.append(pending)
        else:
            self._single.append(pending)
            self._single_at = time.monotonic()
        self._filled.set()

    def rest_bulk(self, seconds: float) -> None:
        """Bulk comes again after this time, if single commands have come lately."""
        now = time.monotonic()
        if now - self._single_at < SINGLES_ARE_ABOUT_SECONDS:
            self._bulk_rests_until = now + seconds

    async def take(self) -> list[Pending]:
        """The next transaction's commands, at least one, either single ones or bulk.

        While both kinds wait, they take turns: a single one waits for at most one bulk transaction, and bulk is
        never starved.
        """
        while True:
            rest = self._bulk_rests_until - time.monotonic()
            if self._bulk and rest <= 0 and (self._bulk_is_next or not self._single):
                self._bulk_is_next = False
                # Half of what is allowed: it is the time for which single commands may have to wait.
                return self._take_from(self._bulk, self._batch_events // 2)
            if self._single:
                self._bulk_is_next = True
                return self._take_from(self._single, self._batch_events)
            self._filled.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(rest if self._bulk else None):
                    await self._filled.wait()

    def take_all(self) -> list[Pending]:
        """Whatever waits, for one answer to all of it."""
        waiting = [*self._single, *self._bulk]
        self._single.clear()
        self._bulk.clear()
        self._bytes = 0
        return waiting

    def _take_from(self, queue: deque[Pending], most_events: int) -> list[Pending]:
        taken: list[Pending] = []
        events = size = 0
        while queue:
            first = queue[0]
            events += first.operations
            size += first.size_bytes
            if taken and (events > most_events or size > self._batch_bytes):
                break
            taken.append(queue.popleft())
            self._bytes -= first.size_bytes
        return taken
