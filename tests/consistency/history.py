"""What clients did and were told. Positions are those of the event log; times are monotonic seconds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

ChangeKind = Literal["create", "put", "patch", "move", "delete"]
"""`create` makes a vector that is not there, `put` sets all of it, `patch` its metadata, `move` its embedding and
content."""

QuestionKind = Literal["get", "past", "history", "list", "count", "search", "match", "resolve"]
"""`past` gets a vector as it was at a version; `history` lists all its versions, its deletions among them. `match` is
what a change by a filter looks for: whether a vector has a version. `resolve` is what a read through an alias shows
besides: what the alias stands for."""


@dataclass(frozen=True, slots=True)
class Change:
    """One vector's part in a write. `version` and `position` as they were acknowledged; 0: the outcome is unknown."""

    id: str
    kind: ChangeKind
    mark: int
    version: int = 0
    position: int = 0


@dataclass(frozen=True, slots=True)
class Write:
    """A write that was acknowledged, or may have taken effect. `covers` is the last position of its token. One that was
    never answered covers nothing and is never completed. `drops`: it deleted the whole collection."""

    number: int
    collection: str
    invoked: float
    completed: float
    changes: tuple[Change, ...]
    covers: int = 0
    drops: bool = False

    @property
    def acknowledged(self) -> bool:
        return self.covers > 0


@dataclass(frozen=True, slots=True)
class Question:
    """What a read asked for. Of a list or a history: up to `limit` items, after `after`, the greatest first if it is
    `descending`; `scrolled`: by the route that takes filters. Of a search: the `k` nearest to query `query`, or to the
    stored vector `like`, among those of `group` if that is given; `exact`: not by the index; `include`: which parts the
    hits shall bring."""

    kind: QuestionKind
    collection: str
    id: str = ""
    version: int = 0
    after: str = ""
    limit: int = 0
    descending: bool = False
    scrolled: bool = False
    group: int | None = None
    query: int = 0
    like: str = ""
    k: int = 0
    exact: bool = False
    include: tuple[str, ...] = ("content", "metadata")

    @property
    def of_the_log(self) -> bool:
        """Answered from the event database, which is ahead of the read model."""
        return self.kind in ("past", "history")


class Shown(NamedTuple):
    """A vector in an answer, with the marks in its metadata and its content, and a hit's distance. None and 0: the
    answer does not say."""

    id: str
    version: int
    position: int = 0
    metadata: int | None = None
    content: int | None = None
    distance: float = 0.0


@dataclass(frozen=True, slots=True)
class Freshness:
    """What an answer says of itself; `covers` is the last position of its token."""

    position: int
    covers: int
    age_ms: float


@dataclass(frozen=True, slots=True)
class Read:
    """An answered read. `count` is that of a count or a match, or the mark of what an alias stands for. `batch`: reads
    with the same number, if it is not 0, are answers from one snapshot. `carried` are the numbers of the operations
    whose tokens it brought, `demanded` the greatest position that these cover. `freshness` is None where there is
    nothing to show: 404 says nothing of itself, nor does a match. `more`: others follow on the next page."""

    number: int
    question: Question
    invoked: float
    completed: float
    freshness: Freshness | None
    shown: tuple[Shown, ...] = ()
    count: int = 0
    more: bool = False
    collection_found: bool = True
    carried: tuple[int, ...] = ()
    demanded: int = 0
    max_staleness_ms: float | None = None
    cached: bool = False
    server: str = ""
    batch: int = 0

    @property
    def found_nothing(self) -> bool:
        """404: the one vector that it asked for is not there."""
        return self.freshness is None


@dataclass(frozen=True, slots=True)
class History:
    """`final` are reads of everything, made after the last write and with tokens of all of them. `unexpected` are
    answers that no client may get: a sentence for each."""

    writes: Sequence[Write]
    reads: Sequence[Read]
    final: Sequence[Read] = ()
    unexpected: Sequence[str] = field(default=())

    def operations(self) -> Mapping[int, Write | Read]:
        return {operation.number: operation for operation in self._all()}

    def _all(self) -> Iterator[Write | Read]:
        yield from self.writes
        yield from self.reads
        yield from self.final
