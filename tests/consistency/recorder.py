"""What all clients of a run write into: the history, and the counts of what became of their requests."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import count

from tests.consistency.history import History, Read, Write


@dataclass
class Recorder:
    """Clients go on until `operations` were sent to a server that was there."""

    operations: int
    writes: list[Write] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    final: list[Read] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    _numbers: count[int] = field(default_factory=lambda: count(1))
    _marks: count[int] = field(default_factory=lambda: count(1))

    @property
    def is_full(self) -> bool:
        return self.sent >= self.operations

    def number(self) -> int:
        """Of a new operation."""
        return next(self._numbers)

    def mark(self) -> int:
        return next(self._marks)

    def history(self) -> History:
        return History(self.writes, self.reads, self.final, self.unexpected)
