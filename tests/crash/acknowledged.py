"""What the services promised to their clients."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

import httpx

from events_schema.base import RecordedEvent


@dataclass(frozen=True, slots=True)
class Promise:
    """A write that was acknowledged: of which vector, and where it is in the log. `version` is the vector's with it;
    None: a change by a filter, which does not tell."""

    vector_id: str
    position: int
    version: int | None = None

    def is_kept_by(self, event: RecordedEvent) -> bool:
        told = (event.event_data["id"], event.position)
        return told == (self.vector_id, self.position) and self.version in (None, event.version)


@dataclass
class Acknowledged:
    """`promises` by mark, which is unique to one operation."""

    promises: dict[str, Promise] = field(default_factory=dict)
    deletions: int = 0
    unknown: set[str] = field(default_factory=set)
    """Marks of operations whose answer never came."""
    under_way: int = 0
    last_at: float = 0.0
    given_up: int = 0
    """Promises of what was beyond the end of a log that was restored."""
    fresh_reads: int = 0
    stale_reads: int = 0
    """Answers that lacked what they said, or were asked, to cover; a token of a log that is no more among what was
    taken."""
    internal_errors: int = 0

    @property
    def last_position(self) -> int:
        return max((promise.position for promise in self.promises.values()), default=0)

    def note_status(self, answer: httpx.Response) -> None:
        """Of any answer: a fault of a service's own is never one that clients are to see."""
        if answer.status_code == httpx.codes.INTERNAL_SERVER_ERROR:
            self.internal_errors += 1
            print(f"{answer.request.method} {answer.request.url.path} is answered 500", file=sys.stderr)

    def give_up_beyond(self, position: int) -> int:
        """The log was restored and ends here. Says how many promises it cannot keep."""
        lost = [mark for mark, promise in self.promises.items() if promise.position > position]
        for mark in lost:
            del self.promises[mark]
        self.given_up += len(lost)
        return len(lost)
