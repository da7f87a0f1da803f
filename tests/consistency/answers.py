"""What one answer says of each vector, and whether it is an answer to its question at all."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from tests.consistency.history import Question, Read, Shown
from tests.consistency.timelines import State, Timeline
from tests.consistency.values import distance, distance_between, group_of

DISTANCE_TOLERANCE = 1e-5
"""Distances are computed in float32 there and in float64 here."""


DistanceTo = Callable[[int], float]
"""The distance, from where a search was made, to what was written under a mark."""


class Answer:
    """A read, looked at vector by vector."""

    def __init__(self, read: Read, distance_to: DistanceTo) -> None:
        self.read = read
        self._shown = {shown.id: shown for shown in read.shown}
        self._may_be_left_out = _omissions(read, distance_to)

    def concerns(self, vector_id: str) -> bool:
        """Whether the answer says something of the vector, be it that it is not there."""
        question = self.read.question
        if not self.read.collection_found:
            return False
        if question.like:
            return (vector_id == question.like) == self.read.found_nothing
        match question.kind:
            case "get" | "past" | "match" | "resolve":
                return vector_id == question.id
            case "history":
                return vector_id == question.id and not self.read.more
            case "list":
                begun = not question.after or _precedes(question, question.after, vector_id)
                return begun and (not self.read.more or not _precedes(question, self.read.shown[-1].id, vector_id))
            case "count":
                return False
            case "search":
                return True

    def fault(self, vector_id: str, timeline: Timeline, oldest: int, ceiling: float) -> str | None:
        """What is wrong with how it shows a vector that it concerns and that had reached the version `oldest`, if
        nothing beyond the position `ceiling` may be in it."""
        shown = self._shown.get(vector_id)
        question = self.read.question
        if question.kind == "past":
            return f"{vector_id} never was as it was" if shown is None and oldest >= question.version else None
        if question.kind in ("match", "resolve"):
            return self._otherwise(timeline, oldest, ceiling)
        if shown is None and question.kind == "history":
            return f"{vector_id} has no history, though it had reached version {oldest}" if oldest else None
        if shown is None:
            possible = timeline.possible(oldest, ceiling, self.read.completed)
            if any(self._may_be_left_out(state) for version in possible for state in version.states):
                return None
            return f"{vector_id} is not shown, though it had reached version {oldest}"
        if shown.version < oldest:
            return f"{vector_id} is shown as version {shown.version} instead of {oldest}"
        if shown.version < len(timeline.versions) and timeline.versions[shown.version].first > ceiling:
            return f"{vector_id} is shown as version {shown.version} of {timeline.versions[shown.version].first:.0f}"
        return None

    def _otherwise(self, timeline: Timeline, oldest: int, ceiling: float) -> str | None:
        """What is wrong with what was said of a version, or of what an alias stands for."""
        question, said = self.read.question, self.read.count
        possible = list(timeline.possible(oldest, ceiling, self.read.completed))
        if question.kind == "resolve":
            targets = {state.metadata for version in possible for state in version.states if state is not None}
            return None if said in targets else f"{question.id} stands for something else since version {oldest}"
        asked_for = timeline.versions[question.version] if question.version < len(timeline.versions) else None
        if said and asked_for not in possible:
            return f"{question.id} is matched as version {question.version} instead of {oldest}"
        if not said and all(version is asked_for for version in possible):
            return f"{question.id} is not matched as version {question.version}"
        return None

    def miscount(self, known: Mapping[str, Timeline], floor: float, ceiling: float) -> str | None:
        """What is wrong with a count, if all up to `floor` and nothing beyond `ceiling` is to be in it."""
        least = most = 0
        for timeline in known.values():
            counted = {
                state is not None and _matches(self.read.question, state)
                for version in timeline.possible(timeline.at(floor), ceiling, self.read.completed)
                for state in version.states
            }
            least += counted == {True}
            most += True in counted
        if least <= self.read.count <= most:
            return None
        return f"{self.read.count} is not from {least} to {most}"


def origins(read: Read, timeline: Timeline) -> list[DistanceTo]:
    """From where a search may have been made that was for what is like the vector of this timeline."""
    freshness = read.freshness
    assert freshness is not None
    marks = {
        state.content
        for version in timeline.possible(timeline.at(freshness.position), freshness.covers, read.completed)
        for state in version.states
        if state is not None
    }
    possible: list[DistanceTo] = [partial(distance_between, mark) for mark in sorted(marks)]
    return [distance_to for distance_to in possible if all(fits(hit, distance_to) for hit in read.shown)]


def fits(hit: Shown, distance_to: DistanceTo) -> bool:
    return hit.content is None or abs(hit.distance - distance_to(hit.content)) <= DISTANCE_TOLERANCE


def _omissions(read: Read, distance_to: DistanceTo) -> Callable[[State | None], bool]:
    """Which states of a vector need not be shown."""
    question = read.question
    if question.kind != "search" or read.found_nothing:
        return lambda state: state is None or not _matches(question, state)
    full = len(read.shown) >= question.k
    if full and not question.exact:
        return lambda _state: True  # the index is approximate
    farthest = max((shown.distance for shown in read.shown), default=math.inf) if full else math.inf

    def may_be_left_out(state: State | None) -> bool:
        if state is None or not _matches(question, state):
            return True
        return distance_to(state.content) >= farthest - DISTANCE_TOLERANCE

    return may_be_left_out


def _precedes(question: Question, one: str, other: str) -> bool:
    """In the order of the list."""
    return one > other if question.descending else one < other


def _matches(question: Question, state: State) -> bool:
    return question.group is None or group_of(state.metadata) == question.group


def wrong_answer(read: Read) -> Iterator[str]:
    """What can be said of an answer without knowing what had been written."""
    question, shown = read.question, read.shown
    ids = [one.id for one in shown]
    if len(set(ids)) < len(ids) and question.kind != "history":
        yield f"{[vector_id for vector_id, times in Counter(ids).items() if times > 1]} more than once"
    match question.kind:
        case "get":
            if set(ids) - {question.id}:
                yield f"another vector: {ids}"
        case "past":
            if [(one.id, one.version) for one in shown] not in ([], [(question.id, question.version)]):
                yield f"another version: {shown}"
        case "history":
            if set(ids) - {question.id} or [one.version for one in shown] != list(range(1, len(shown) + 1)):
                yield f"not its versions from the first one on: {shown}"
        case "list":
            in_order = ids == sorted(ids, reverse=question.descending) and all(
                not question.after or _precedes(question, question.after, vector_id) for vector_id in ids
            )
            if not in_order or len(ids) > question.limit or (read.more and len(ids) < question.limit):
                yield f"no page of such a list: {ids}"
            yield from _of_another_group(question, shown)
        case "search":
            yield from _wrong_hits(question, shown)
        case "match":
            if read.count not in (0, 1):
                yield f"{read.count} vectors of one id"
        case "count" | "resolve":
            pass


def torn(reads: Iterable[Read]) -> str | None:
    """How the answers of one batch differ, which are to be from one snapshot."""
    versions: dict[str, int] = {}
    for read in reads:
        for shown in read.shown:
            if versions.setdefault(shown.id, shown.version) != shown.version:
                return f"{shown.id} is shown as version {versions[shown.id]} and as {shown.version}"
    return None


def _of_another_group(question: Question, shown: tuple[Shown, ...]) -> Iterator[str]:
    for one in shown:
        if one.metadata is not None and question.group not in (None, group_of(one.metadata)):
            yield f"of another group: {one}"


def _wrong_hits(question: Question, shown: tuple[Shown, ...]) -> Iterator[str]:
    distances = [hit.distance for hit in shown]
    if len(shown) > question.k or distances != sorted(distances):
        yield f"not the {question.k} nearest in their order: {distances}"
    yield from _of_another_group(question, shown)
    for hit in shown:
        if hit.id == question.like or not (question.like or fits(hit, partial(distance, question.query))):
            yield f"at another distance: {hit}"
