"""A store that keeps every promise, to show that the checker is content with it, and to lie with its help.

It has a log in two partitions, whose events reach each reader late and apart.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from tests.consistency.history import Change, ChangeKind, Freshness, History, Question, Read, Shown, Write
from tests.consistency.timelines import State, applies, changed
from tests.consistency.values import ALIASES, QUERIES, distance, distance_between, group_of, target_mark

COLLECTION = "here"
IDS = tuple(f"v{number}" for number in range(6))
ALIAS = "a0"
TARGETS = tuple(map(target_mark, ("here", "there", "elsewhere")))
PARTITIONS = 2
EVERYTHING = Question("list", COLLECTION, limit=len(IDS))

_STEP_SECONDS = 0.1
_KINDS: Mapping[ChangeKind, int] = {"create": 2, "put": 4, "patch": 2, "move": 1, "delete": 2}


@dataclass(frozen=True, slots=True)
class Event:
    """What a vector became at this position."""

    position: int
    id: str
    version: int
    state: State | None


def partition_of(vector_id: str) -> int:
    return int(vector_id[1:]) % PARTITIONS


@dataclass
class HonestStore:
    """Works through one operation after the other; each takes effect at some moment between its invocation and its
    completion, which overlap with those of the next ones."""

    random: random.Random
    log: list[Event] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    _now: float = 0.0
    _number: int = 0
    _mark: int = 0

    @property
    def head(self) -> int:
        return len(self.log)

    def history(self, operations: int) -> History:
        for _ in range(operations):
            if self.random.random() < 0.05:
                self.switch(self.random.choice(TARGETS))
            elif self.random.random() < 0.4:
                self.write()
            else:
                self.reads.append(self.read(self.question()))
        final = self.read(EVERYTHING, [write for write in self.writes if write.acknowledged], [self.head] * PARTITIONS)
        return History(tuple(self.writes), tuple(self.reads), (final,))

    def write(self) -> Write:
        """Some changes of vectors, all of them or none; now and then nobody learns which."""
        number, invoked, completed = self._next()
        changes = []
        for vector_id in self.random.sample(IDS, self.random.choice((1, 1, 1, 3))):
            kind = self.random.choices(list(_KINDS), list(_KINDS.values()))[0]
            change = Change(vector_id, kind, self._mark + 1)
            if applies(change, self.state(vector_id)[1]):
                self._mark += 1
                changes.append(change)
        known = self.random.random() < 0.9
        if known or self.random.random() < 0.5:
            done = tuple(self._apply(change) for change in changes)
            changes = list(done) if known else changes
        write = Write(number, COLLECTION, invoked, completed, tuple(changes), self.head if known else 0)
        self.writes.append(write)
        return write

    def switch(self, target: int) -> Write:
        """Of the alias."""
        number, invoked, completed = self._next()
        change = self._apply(Change(ALIAS, "put", target))
        write = Write(number, ALIASES, invoked, completed, (change,), self.head)
        self.writes.append(write)
        return write

    def _apply(self, change: Change) -> Change:
        version, state = self.state(change.id)
        self.log.append(Event(self.head + 1, change.id, version + 1, changed(change, state)))
        return replace(change, version=version + 1, position=self.head)

    def state(self, vector_id: str, position: int | None = None) -> tuple[int, State | None]:
        """The vector's version and state at a position (default: now)."""
        events = [event for event in self.log[:position] if event.id == vector_id]
        return (events[-1].version, events[-1].state) if events else (0, None)

    def question(self) -> Question:
        choice = self.random
        kinds = ("get", "past", "history", "list", "list", "count", "search", "search", "match", "resolve")
        match choice.choice(kinds):
            case "match" if written := [event for event in self.log if event.id != ALIAS]:
                event = choice.choice(written)
                return Question("match", COLLECTION, id=event.id, version=event.version)
            case "resolve" if self.state(ALIAS)[0]:
                return Question("resolve", ALIASES, id=ALIAS)
            case "past" if live := [one for one in self.log if one.state is not None and one.id != ALIAS]:
                event = choice.choice(live)
                return Question("past", COLLECTION, id=event.id, version=event.version)
            case "history":
                return Question("history", COLLECTION, id=choice.choice(IDS), limit=1_000)
            case "get":
                return Question("get", COLLECTION, id=choice.choice(IDS))
            case "list":
                return Question(
                    "list", COLLECTION, after=choice.choice(("", *IDS)), limit=choice.choice((2, len(IDS))),
                    descending=choice.random() < 0.5, group=choice.choice((None, 0)),
                )  # fmt: skip
            case "count":
                return Question("count", COLLECTION, group=choice.choice((None, 0, 1, 2)))
            case _:
                return Question(
                    "search", COLLECTION, group=choice.choice((None, 0)), query=choice.randrange(QUERIES),
                    like=choice.choice(("", "", *IDS)), k=choice.choice((1, 3, len(IDS))), exact=choice.random() < 0.5,
                )  # fmt: skip

    def read(
        self,
        question: Question,
        carried: Sequence[Write | Read] | None = None,
        positions: Sequence[int] | None = None,
        freshness: Freshness | None = None,
    ) -> Read:
        """An answer from the given checkpoints of the partitions, default: from any that the tokens allow. It says of
        itself what is true, or else `freshness`."""
        number, invoked, completed = self._next()
        if carried is None:
            earlier: list[Write | Read] = [*self.writes, *self.reads]
            tokens = [one for one in earlier if one.completed < invoked and _covers(one)]
            carried = self.random.sample(tokens, min(len(tokens), self.random.randrange(3)))
        demanded = max(map(_covers, carried), default=0)
        if positions is None:
            positions = [self.random.randint(max(demanded, self.head - 5), self.head) for _ in range(PARTITIONS)]
        honest = Freshness(min(positions), max(positions), age_ms=0.0)
        read = Read(
            number, question, invoked, completed, freshness or honest,
            carried=tuple(one.number for one in carried), demanded=demanded,
            cached=question.kind == "search" and self.random.random() < 0.5,
        )  # fmt: skip
        return self._answered(read, positions)

    def _answered(self, read: Read, positions: Sequence[int]) -> Read:
        question = read.question
        found = {}
        for vector_id in IDS:
            version, state = self.state(vector_id, positions[partition_of(vector_id)])
            if state is not None:
                found[vector_id] = Shown(vector_id, version, 0, state.metadata, state.content)
        matching = [
            shown for shown in found.values()
            if question.group is None or group_of(shown.metadata or 0) == question.group
        ]  # fmt: skip
        match question.kind:
            case "get":
                shown = found.get(question.id)
                return replace(read, shown=(shown,)) if shown else replace(read, freshness=None)
            case "past" | "history":
                events = [
                    event for event in self.log[: positions[partition_of(question.id)]] if event.id == question.id
                ]
                if question.kind == "history":
                    made = tuple(Shown(event.id, event.version, event.position) for event in events)
                else:
                    made = tuple(
                        Shown(event.id, event.version, event.position, event.state.metadata, event.state.content)
                        for event in events
                        if event.version == question.version and event.state is not None
                    )
                return replace(read, shown=made) if made else replace(read, freshness=None)
            case "list":
                after = sorted(matching, reverse=question.descending)
                if question.after:
                    after = [one for one in after if (one.id < question.after) == question.descending]
                    after = [one for one in after if one.id != question.after]
                return replace(read, shown=tuple(after[: question.limit]), more=len(after) > question.limit)
            case "count":
                return replace(read, count=len(matching))
            case "match":
                version = self.state(question.id, positions[partition_of(question.id)])[0]
                return replace(read, count=int(version == question.version), freshness=None)
            case "resolve":
                state = self.state(ALIAS, positions[partition_of(ALIAS)])[1]
                return replace(read, count=state.metadata) if state else replace(read, collection_found=False)
            case "search":
                like = found.get(question.like)
                if question.like and like is None:
                    return replace(read, freshness=None)
                distance_to = partial(distance_between, like.content) if like else partial(distance, question.query)
                hits = [
                    one._replace(distance=distance_to(one.content or 0)) for one in matching if one.id != question.like
                ]
                return replace(read, shown=tuple(sorted(hits, key=lambda hit: hit.distance)[: question.k]))

    def _next(self) -> tuple[int, float, float]:
        """Number, invocation and completion of an operation that takes effect now."""
        self._number += 1
        self._now += _STEP_SECONDS
        before, after = self.random.uniform(0, 3 * _STEP_SECONDS), self.random.uniform(0, 3 * _STEP_SECONDS)
        return self._number, self._now - before, self._now + after


def _covers(operation: Write | Read) -> int:
    if isinstance(operation, Write):
        return operation.covers
    return operation.freshness.covers if operation.freshness else 0
