"""What each vector was at which position, as far as acknowledgements tell."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tests.consistency.history import Change, Shown, Write

AT_THE_END = math.inf


class State(NamedTuple):
    """A live vector: the mark of the change that its metadata is from, and that of its content and embedding."""

    metadata: int
    content: int


@dataclass(frozen=True, slots=True)
class Version:
    """A version came about at a position from `first` to `last`, both the same if that was acknowledged, and not before
    the time `invoked`. It is one of `states`; None: the vector is not there. Without a `last` it perhaps never came."""

    first: float
    last: float
    invoked: float
    states: frozenset[State | None]


_NOTHING = Version(0, 0, -math.inf, frozenset([None]))


@dataclass(frozen=True, slots=True)
class Timeline:
    """One vector's versions; its number is its place, and the first one is that it is not there yet."""

    versions: Sequence[Version]
    lasts: Sequence[float]

    def at(self, position: float) -> int:
        """The number of the version that it certainly had reached at this position."""
        return bisect_right(self.lasts, position) - 1

    def possible(self, oldest: int, ceiling: float, completed: float) -> Iterator[Version]:
        """What a read may have met that ended at the time `completed`: from the version `oldest` on, nothing beyond the
        position `ceiling`."""
        for version in self.versions[oldest:]:
            if version.first > ceiling or version.invoked >= completed:
                return
            yield version

    def knows(self, shown: Shown, completed: float) -> bool:
        """Whether somebody had made what was shown, or the deletion that was, when that read ended."""
        if not 0 < shown.version < len(self.versions):
            return False
        version = self.versions[shown.version]
        return version.invoked < completed and (not shown.position or version.first <= shown.position <= version.last)

    def holds(self, shown: Shown, completed: float) -> bool:
        """Whether what was shown is what had been written."""
        return self.knows(shown, completed) and any(
            state is not None and shown.metadata in (None, state.metadata) and shown.content in (None, state.content)
            for state in self.versions[shown.version].states
        )


UNKNOWN = Timeline([_NOTHING], [_NOTHING.last])
"""Of a vector that nobody has written."""

Timelines = Mapping[str, Mapping[str, Timeline]]
"""Collection -> id -> timeline."""


class UnaccountedError(Exception):
    """The acknowledgements of one vector's changes cannot all be true."""


def timeline_of(known: Iterable[tuple[Change, Write]], unknown: Sequence[tuple[Change, Write]]) -> Timeline:
    """The timeline of one vector from the changes that were acknowledged and from those with unknown outcomes.

    Raises:
        UnaccountedError
    """
    versions = [_NOTHING]
    left = len(unknown)
    for change, write in sorted(known, key=lambda one: one[0].version):
        told = f"write {write.number} was told that it made version {change.version} at {change.position}"
        last = versions[-1]
        missing = change.version - len(versions)
        if missing < 0 or change.position <= last.last:
            raise UnaccountedError(f"{told}; but version {len(versions) - 1} is at {last.last}")
        left -= missing
        if left < 0:
            raise UnaccountedError(f"{told}; but nobody made the versions before it")
        for _ in range(missing):
            versions.append(_unknown(versions[-1], unknown, change.position - 1))
        states = _after([change], versions[-1].states)
        if not states:
            raise UnaccountedError(f"{told}; but there was nothing that it could change")
        versions.append(Version(change.position, change.position, write.invoked, states))
    for _ in range(left):
        versions.append(_unknown(versions[-1], unknown, AT_THE_END))
    return Timeline(versions, [version.last for version in versions])


def _unknown(previous: Version, unknown: Sequence[tuple[Change, Write]], last: float) -> Version:
    """Made by one of the changes with unknown outcomes, whichever."""
    states = _after([change for change, _ in unknown], previous.states)
    return Version(previous.first + 1, last, min(write.invoked for _, write in unknown), states)


def _after(changes: Iterable[Change], states: Iterable[State | None]) -> frozenset[State | None]:
    """What any of these changes makes of any of these states."""
    return frozenset(changed(change, state) for change in changes for state in states if applies(change, state))


def applies(change: Change, state: State | None) -> bool:
    """Whether the change can be made of a vector in this state."""
    match change.kind:
        case "put":
            return True
        case "create":
            return state is None
        case "patch" | "move" | "delete":
            return state is not None


def changed(change: Change, state: State | None) -> State | None:
    """What the change makes of a vector in this state."""
    match change.kind:
        case "create" | "put":
            return State(change.mark, change.mark)
        case "patch":
            return state and State(change.mark, state.content)
        case "move":
            return state and State(state.metadata, change.mark)
        case "delete":
            return None


def timelines(writes: Iterable[Write]) -> tuple[Timelines, list[str]]:
    """Each vector's timeline, and what is wrong with the acknowledgements; a vector of which something is wrong has
    none."""
    known: dict[tuple[str, str], list[tuple[Change, Write]]] = defaultdict(list)
    unknown: dict[tuple[str, str], list[tuple[Change, Write]]] = defaultdict(list)
    for write in writes:
        for change in write.changes:
            (known if write.acknowledged else unknown)[write.collection, change.id].append((change, write))
    found: dict[str, dict[str, Timeline]] = defaultdict(dict)
    faults = []
    for collection, vector_id in sorted(known.keys() | unknown.keys()):
        key = collection, vector_id
        try:
            found[collection][vector_id] = timeline_of(known[key], unknown[key])
        except UnaccountedError as error:
            faults.append(f"{collection}/{vector_id}: {error}")
    return found, faults
