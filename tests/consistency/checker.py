"""The rules that histories are held against. Pure: a history in, the violations out."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

from tests.consistency.acknowledgements import contradictions
from tests.consistency.answers import Answer, DistanceTo, origins, torn, wrong_answer
from tests.consistency.hindsight import Hindsight
from tests.consistency.history import History, Read, Write
from tests.consistency.timelines import UNKNOWN, Timeline, timelines
from tests.consistency.values import distance

Kind = Literal[
    "read_your_writes",
    "monotonic_reads",
    "token_on_cached",
    "phantom",
    "freshness",
    "staleness",
    "wrong_answer",
    "acknowledgements",
    "final_state",
    "unexpected",
]
KINDS: tuple[Kind, ...] = get_args(Kind)

ALL_THAT_WAS_ACKNOWLEDGED = 2.0**63
DEFAULT_STALENESS_MS = 20.0
"""How much older than its request an answer may be where the read names no `max_staleness_ms`."""
CLOCK_TOLERANCE_MS = 1.0
LONGEST_LAG_SECONDS = 10.0
"""No server that could vouch for an answer is ever held back for so long."""


@dataclass(frozen=True, slots=True)
class Violation:
    """`operation` is the number of the read or write, 0 if it is none of a single one."""

    kind: Kind
    operation: int
    detail: str


def violations_of(history: History) -> list[Violation]:
    """All that no client should have been told.

    - `read_your_writes`: a read that carried a write's token showed neither that write nor a later one.
    - `monotonic_reads`: a read that carried an earlier answer's token showed an older state than that answer.
    - `token_on_cached`: either of these, of an answer that came from a cache.
    - `phantom`: a value that nobody had written.
    - `freshness`: an acknowledged event up to `freshness.position` (or up to a token that the read carried) is missing,
      or one is there that the answer's token does not cover; a batch shows one vector in two versions.
    - `staleness`: what vouches for the answer is older than the read accepted, or cannot be as young as it says.
    - `wrong_answer`: it is no answer to the question, whatever had been written.
    - `acknowledgements`: they cannot all be true of one log.
    - `final_state`: in the end it is not what the acknowledged writes make; those with unknown outcomes go either way.
    - `unexpected`: an answer that no client may get.
    """
    return list(_Checker(history).violations())


class _Checker:
    def __init__(self, history: History) -> None:
        self._history = history
        self._operations = history.operations()
        self._timelines, self._unaccounted = timelines(history.writes)
        self._hindsight = Hindsight(history)
        self._drops = {write.collection: write for write in history.writes if write.drops}

    def violations(self) -> Iterator[Violation]:
        for fault in self._unaccounted:
            yield Violation("acknowledgements", 0, fault)
        for number, fault in contradictions(self._history.writes):
            yield Violation("acknowledgements", number, fault)
        for read in (*self._history.reads, *self._history.final):
            yield from self._of_read(read)
        for number, reads in self._batches().items():
            if difference := torn(reads):
                yield Violation("freshness", number, f"one snapshot, and {difference}")
        for read in self._history.final:
            for fault in self._unlike(self._answer(read), ALL_THAT_WAS_ACKNOWLEDGED, math.inf):
                yield Violation("final_state", read.number, fault)
        for sentence in self._history.unexpected:
            yield Violation("unexpected", 0, sentence)

    def _batches(self) -> Mapping[int, Sequence[Read]]:
        batches: dict[int, list[Read]] = defaultdict(list)
        for read in self._history.reads:
            if read.batch:
                batches[read.batch].append(read)
        return batches

    def _of_read(self, read: Read) -> Iterator[Violation]:
        answer, known = self._answer(read), self._known(read)
        for fault in wrong_answer(read):
            yield Violation("wrong_answer", read.number, f"{read.question}: {fault}")
        for shown in read.shown:
            timeline = known.get(shown.id, UNKNOWN)
            written = timeline.knows if read.question.kind == "history" else timeline.holds
            if not written(shown, read.completed):
                yield Violation("phantom", read.number, f"{read.question}: {shown}")
        if read.question.like and not read.found_nothing and not self._origins(read):
            yield Violation("freshness", read.number, f"{read.question}: like none of its versions of then")
        drop = self._drops.get(read.question.collection)
        if drop and drop.acknowledged and read.freshness and read.freshness.position >= drop.covers:
            yield Violation("freshness", read.number, f"{read.question}: the collection was dropped at {drop.covers}")
        for number in read.carried:
            yield from self._of_token(answer, self._operations[number])
        freshness = read.freshness
        position, covers = (freshness.position, freshness.covers) if freshness else (0, math.inf)
        for fault in self._unlike(answer, max(position, read.demanded), covers):
            yield Violation("freshness", read.number, f"{read.question}: {fault}")
        accepted_ms = DEFAULT_STALENESS_MS if read.max_staleness_ms is None else read.max_staleness_ms
        took_ms = (read.completed - read.invoked) * 1000
        if freshness and freshness.age_ms > accepted_ms + took_ms + CLOCK_TOLERANCE_MS:
            yield Violation("staleness", read.number, f"{freshness.age_ms} ms in {took_ms:.1f}, accepted {accepted_ms}")
        if freshness and (lag := self._hindsight.lag_seconds(read)) > LONGEST_LAG_SECONDS:
            yield Violation("staleness", read.number, f"it lacks what others had been shown {lag:.1f} seconds before")

    def _of_token(self, answer: Answer, carried: Write | Read) -> Iterator[Violation]:
        """Each carried token by itself: whoever gave it has promised something."""
        kind: Kind
        if isinstance(carried, Write):
            kind, faults = "read_your_writes", self._since_write(answer, carried)
        else:
            kind, faults = "monotonic_reads", self._since_read(answer, carried)
        for fault in faults:
            yield Violation(
                "token_on_cached" if answer.read.cached else kind,
                answer.read.number,
                f"{answer.read.question}: {fault}, with the token of {carried.number}",
            )

    def _since_write(self, answer: Answer, write: Write) -> Iterator[str]:
        read = answer.read
        if read.freshness and read.freshness.position < write.covers:
            yield f"it is at {read.freshness.position} instead of {write.covers}"
        if write.collection != read.question.collection:
            return
        drop = self._drops.get(write.collection)
        gone = drop is not None and drop.invoked < read.completed
        if read.collection_found if write.drops else not (read.collection_found or gone):
            yield f"the collection is {'still' if write.drops else 'not'} there"
        for change in write.changes:
            yield from self._older(answer, change.id, change.version)

    def _since_read(self, answer: Answer, earlier: Read) -> Iterator[str]:
        read = answer.read
        if read.freshness and earlier.freshness and read.freshness.position < earlier.freshness.covers:
            yield f"it is at {read.freshness.position} instead of {earlier.freshness.covers}"
        if read.question.collection == earlier.question.collection:
            for vector_id, version in {shown.id: shown.version for shown in earlier.shown}.items():
                if earlier.question.kind != "past":
                    yield from self._older(answer, vector_id, version)

    def _older(self, answer: Answer, vector_id: str, version: int) -> Iterator[str]:
        timeline = self._known(answer.read).get(vector_id)
        if timeline is not None and version < len(timeline.versions) and answer.concerns(vector_id):
            fault = answer.fault(vector_id, timeline, version, math.inf)
            if fault:
                yield fault

    def _unlike(self, answer: Answer, floor: float, ceiling: float) -> Iterator[str]:
        """How the answer differs from whatever there was between these positions."""
        known = self._known(answer.read)
        between = f"at {floor:.0f} to {ceiling:.0f}"
        if answer.read.question.kind == "count" and answer.read.collection_found:
            fault = answer.miscount(known, floor, ceiling)
            if fault:
                yield f"{fault} {between}"
        for vector_id, timeline in known.items():
            if answer.concerns(vector_id):
                fault = answer.fault(vector_id, timeline, timeline.at(floor), ceiling)
                if fault:
                    yield f"{fault} {between}"

    def _answer(self, read: Read) -> Answer:
        origins = self._origins(read) if read.question.like and not read.found_nothing else []
        return Answer(read, origins[0] if origins else partial(distance, read.question.query))

    def _origins(self, read: Read) -> list[DistanceTo]:
        timeline = self._known(read).get(read.question.like)
        return [] if timeline is None else origins(read, timeline)

    def _known(self, read: Read) -> Mapping[str, Timeline]:
        return self._timelines.get(read.question.collection, {})
