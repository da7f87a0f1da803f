"""Commands that wait for the writer: single ones go ahead of bulk, and the whole is bounded."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from command_service.domain.commands import Command, WriteVectors
from command_service.outcomes import Outcome

BULK_OPERATIONS = 8
"""A command with more operations than this is bulk."""

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
        (self._bulk if pending.operations > BULK_OPERATIONS else self._single).append(pending)
        self._filled.set()

    async def take(self) -> list[Pending]:
        """The next transaction's commands, at least one.

        While both kinds wait, transactions of single commands and of bulk take turns: a single one waits for at
        most one bulk transaction, and bulk is never starved.
        """
        while not len(self):
            self._filled.clear()
            await self._filled.wait()
        from_bulk = bool(self._bulk) and (self._bulk_is_next or not self._single)
        self._bulk_is_next = not from_bulk
        return self._take_from(self._bulk if from_bulk else self._single)

    def _take_from(self, queue: deque[Pending]) -> list[Pending]:
        taken: list[Pending] = []
        events = size = 0
        while queue:
            first = queue[0]
            events += first.operations
            size += first.size_bytes
            if taken and (events > self._batch_events or size > self._batch_bytes):
                break
            taken.append(queue.popleft())
            self._bytes -= first.size_bytes
        return taken
