"""The checker is content with every honest history, and finds whatever lie is planted into one."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.consistency.checker import KINDS, Kind, violations_of
from tests.consistency.history import Change, Freshness, History, Question, Read, Shown, Write
from tests.consistency.honest_store import ALIAS, COLLECTION, EVERYTHING, IDS, PARTITIONS, TARGETS, HonestStore
from tests.consistency.values import ALIASES, QUERIES, distance

OPERATIONS = 30


class Forger:
    """An honest store after some operations, and what one needs to lie about it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.store = HonestStore(self.random)
        self.history = self.store.history(OPERATIONS)

    def with_read(self, read: Read) -> History:
        return replace(self.history, reads=(*self.history.reads, read))

    def with_writes(self, *writes: Write) -> History:
        return replace(self.history, writes=writes)

    def at(
        self,
        position: int,
        question: Question = EVERYTHING,
        carried: tuple[Write | Read, ...] = (),
        claimed: int | None = None,
    ) -> Read:
        """What the question's answer was at a position, as an answer of now, or as one of `claimed`."""
        claimed = self.store.head if claimed is None else claimed
        return self.store.read(question, carried, [position] * PARTITIONS, Freshness(claimed, claimed, 0.0))

    def written(self) -> tuple[Write, Change]:
        """An acknowledged change that shows in a list: a vector came to be, or became another one, and was not deleted
        since, nor can it have been."""
        doubtful = self.doubtful()
        found = [
            (write, change)
            for write in self.history.writes
            if write.acknowledged
            for change in write.changes
            if change.kind != "delete" and change.id not in {ALIAS, *doubtful} and not self.deleted_since(change)
        ]
        assume(found)
        return self.random.choice(found)

    def last_written(self) -> tuple[Write, Change]:
        """As `written`, of a vector that nobody has changed since."""
        write, change = self.written()
        assume(self.store.state(change.id)[0] == change.version)
        return write, change

    def doubtful(self) -> set[str]:
        """The ids of vectors that are perhaps not as the log of the acknowledgements says."""
        return {change.id for write in self.history.writes if not write.acknowledged for change in write.changes}

    def positions(self) -> list[int]:
        """Of all changes that were acknowledged."""
        return [change.position for write in self.history.writes for change in write.changes]

    def deleted_since(self, change: Change) -> bool:
        later = self.store.log[change.position :]
        return any(event.id == change.id and event.state is None for event in later)


def write_not_shown(forger: Forger) -> History:
    write, change = forger.written()
    return forger.with_read(forger.at(change.position - 1, carried=(write,)))


def write_not_got(forger: Forger) -> History:
    write, change = forger.written()
    return forger.with_read(forger.at(change.position - 1, Question("get", COLLECTION, id=change.id), (write,)))


def position_before_the_write(forger: Forger) -> History:
    write, _ = forger.written()
    empty = Question("list", COLLECTION, after="z", limit=1)
    return forger.with_read(forger.at(write.covers, empty, (write,), claimed=write.covers - 1))


def write_not_in_a_cached_search(forger: Forger) -> History:
    write, change = forger.written()
    search = Question("search", COLLECTION, query=0, k=len(IDS))
    return forger.with_read(replace(forger.at(change.position - 1, search, (write,)), cached=True))


def dropped_collection_still_there(forger: Forger) -> History:
    drop = replace(forger.store.write(), changes=(), covers=forger.store.head, drops=True)
    history = forger.with_read(forger.at(forger.store.head, carried=(drop,)))
    return replace(history, writes=(*history.writes, drop))


def dropped_collection_at_a_later_position(forger: Forger) -> History:
    drop = replace(forger.store.write(), changes=(), covers=forger.store.head, drops=True)
    history = forger.with_read(forger.at(forger.store.head))
    return replace(history, writes=(*history.writes, drop))


def created_collection_not_there(forger: Forger) -> History:
    write, _ = forger.written()
    read = forger.at(write.covers, carried=(write,))
    return forger.with_read(replace(read, freshness=None, shown=(), collection_found=False))


def older_than_an_earlier_answer(forger: Forger) -> History:
    _, change = forger.written()
    earlier = forger.at(change.position)
    later = forger.at(change.position - 1, carried=(earlier,))
    return replace(forger.history, reads=(*forger.history.reads, earlier, later))


def position_goes_back(forger: Forger) -> History:
    earlier = forger.at(forger.store.head, Question("count", "another"))
    later = forger.at(forger.store.head, Question("count", "another"), (earlier,), claimed=forger.store.head - 1)
    return replace(forger.history, reads=(*forger.history.reads, earlier, later))


def older_cached_than_an_earlier_answer(forger: Forger) -> History:
    history = older_than_an_earlier_answer(forger)
    return replace(history, reads=(*history.reads[:-1], replace(history.reads[-1], cached=True)))


def _reshown(forger: Forger, change: Callable[[Shown], Shown]) -> History:
    read = forger.at(forger.store.head)
    certain = [place for place, shown in enumerate(read.shown) if shown.id not in forger.doubtful()]
    assume(certain)
    place = forger.random.choice(certain)
    changed = (*read.shown[:place], change(read.shown[place]), *read.shown[place + 1 :])
    return forger.with_read(replace(read, shown=changed))


def value_that_nobody_wrote(forger: Forger) -> History:
    return _reshown(forger, lambda shown: shown._replace(content=1_000_000))


def value_of_another_version(forger: Forger) -> History:
    return _reshown(forger, lambda shown: shown._replace(version=shown.version + 1))


def metadata_of_another_version(forger: Forger) -> History:
    marks = [change.mark for write in forger.history.writes for change in write.changes]

    def other(shown: Shown) -> Shown:
        others = [mark for mark in marks if mark != shown.metadata]
        assume(others)
        return shown._replace(metadata=forger.random.choice(others))

    return _reshown(forger, other)


def event_that_nobody_caused(forger: Forger) -> History:
    _, change = forger.written()
    read = forger.at(forger.store.head, Question("history", COLLECTION, id=change.id, limit=1_000))
    invented = Shown(change.id, len(read.shown) + 1, forger.store.head + 1)
    return forger.with_read(replace(read, shown=(*read.shown, invented)))


def value_at_another_position(forger: Forger) -> History:
    return _reshown(forger, lambda shown: shown._replace(position=forger.store.head + 1))


def value_of_the_future(forger: Forger) -> History:
    write, change = forger.written()
    read = replace(forger.at(change.position), completed=write.invoked - 1, invoked=write.invoked - 2)
    return forger.with_read(read)


def event_missing(forger: Forger) -> History:
    _, change = forger.written()
    return forger.with_read(forger.at(change.position - 1))


def switch_not_followed(forger: Forger) -> History:
    store = forger.store
    switches = [store.switch(target) for target in TARGETS[:2]]
    read = forger.at(switches[1].covers - 1, Question("resolve", ALIASES, id=ALIAS), (switches[1],))
    return replace(forger.history, writes=store.writes, reads=(*forger.history.reads, read))


def switch_missing(forger: Forger) -> History:
    history = switch_not_followed(forger)
    return replace(history, reads=(*history.reads[:-1], replace(history.reads[-1], carried=())))


def match_of_what_was_written_missing(forger: Forger) -> History:
    write, change = forger.last_written()
    question = Question("match", COLLECTION, id=change.id, version=change.version)
    read = forger.at(change.position - 1, question, (write,))
    return forger.with_read(replace(read, count=0))


def match_of_what_is_over(forger: Forger) -> History:
    _, change = forger.written()
    question = Question("match", COLLECTION, id=change.id, version=change.version - 1)
    return forger.with_read(replace(forger.at(change.position - 1, question), demanded=change.position, count=1))


def batch_of_two_snapshots(forger: Forger) -> History:
    _, change = forger.written()
    assume(change.version > 1)
    now, before = forger.at(forger.store.head), forger.at(change.position - 1)
    assume(any(shown.id == change.id for shown in before.shown))
    batch = tuple(replace(read, batch=now.number) for read in (now, before))
    return replace(forger.history, reads=(*forger.history.reads, *batch))


def event_missing_from_an_exact_search(forger: Forger) -> History:
    question = Question("search", COLLECTION, query=forger.random.randrange(QUERIES), k=1, exact=True)
    shown = forger.at(forger.store.head, question).shown
    assume(shown)
    change = next(event for event in forger.store.log if (event.id, event.version) == (shown[0].id, shown[0].version))
    read = forger.at(change.position - 1, question)
    assume(not {shown[0].id, *(hit.id for hit in read.shown)} & forger.doubtful())
    return forger.with_read(read)


def like_what_it_never_was(forger: Forger) -> History:
    _, change = forger.written()
    read = forger.at(forger.store.head, Question("search", COLLECTION, like=change.id, k=len(IDS)))
    assume(read.shown)
    elsewhere = [hit._replace(distance=distance(0, hit.content or 0)) for hit in read.shown]
    return forger.with_read(replace(read, shown=tuple(sorted(elsewhere, key=lambda hit: hit.distance))))


def like_what_is_said_not_to_be_there(forger: Forger) -> History:
    _, change = forger.written()
    read = forger.at(forger.store.head, Question("search", COLLECTION, like=change.id, k=len(IDS)), claimed=0)
    carrying = replace(read, freshness=None, shown=(), demanded=forger.store.head)
    return forger.with_read(carrying)


def history_without_the_last_event(forger: Forger) -> History:
    _, change = forger.written()
    read = forger.at(change.position - 1, Question("history", COLLECTION, id=change.id, limit=1_000))
    assume(read.shown)
    return forger.with_read(read)


def no_history_of_what_was_written(forger: Forger) -> History:
    _, change = forger.written()
    read = forger.at(0, Question("history", COLLECTION, id=change.id, limit=1_000))
    return forger.with_read(replace(read, demanded=forger.store.head))


def past_version_not_there(forger: Forger) -> History:
    _, change = forger.written()
    read = forger.at(0, Question("past", COLLECTION, id=change.id, version=change.version))
    return forger.with_read(replace(read, demanded=forger.store.head))


def deleted_vector_shown(forger: Forger) -> History:
    deletions = [
        change
        for write in forger.history.writes
        if write.acknowledged
        for change in write.changes
        if change.kind == "delete"
    ]
    assume(deletions)
    return forger.with_read(forger.at(forger.random.choice(deletions).position - 1))


def event_beyond_the_token(forger: Forger) -> History:
    _, change = forger.written()
    assume(change.position > 1)
    return forger.with_read(forger.at(change.position, claimed=change.position - 1))


def count_too_high(forger: Forger) -> History:
    read = forger.at(forger.store.head, Question("count", COLLECTION))
    return forger.with_read(replace(read, count=len(IDS) + 1))


def count_too_low(forger: Forger) -> History:
    forger.written()
    read = forger.at(forger.store.head, Question("count", COLLECTION))
    return forger.with_read(replace(read, count=0))


def answer_too_old(forger: Forger) -> History:
    read = forger.at(forger.store.head)
    took_ms = (read.completed - read.invoked) * 1000
    old = Freshness(forger.store.head, forger.store.head, age_ms=took_ms + 60)
    return forger.with_read(replace(read, freshness=old, max_staleness_ms=50))


def answer_that_nobody_can_have_vouched_for(forger: Forger) -> History:
    _, change = forger.written()
    others = forger.at(forger.store.head)
    read = forger.at(change.position - 1, claimed=change.position - 1)
    late = replace(read, invoked=read.invoked + 1_000, completed=read.completed + 1_000)
    return replace(forger.history, reads=(*forger.history.reads, others, late))


def _rehit(forger: Forger, change: Callable[[tuple[Shown, ...]], tuple[Shown, ...]], **asked: Any) -> History:
    read = forger.at(forger.store.head, Question("search", COLLECTION, query=1, k=len(IDS)))
    assume(len(read.shown) > 1)
    question = replace(read.question, **asked)
    return forger.with_read(replace(read, question=question, shown=change(read.shown)))


def hits_of_another_query(forger: Forger) -> History:
    return _rehit(forger, lambda hits: hits, query=2)


def hits_of_another_group(forger: Forger) -> History:
    history = _rehit(forger, lambda hits: hits, group=0)
    assume(any((hit.metadata or 0) % 3 for hit in history.reads[-1].shown))
    return history


def more_hits_than_asked_for(forger: Forger) -> History:
    return _rehit(forger, lambda hits: hits, k=1)


def hits_out_of_order(forger: Forger) -> History:
    return _rehit(forger, lambda hits: hits[::-1])


def hit_twice(forger: Forger) -> History:
    return _rehit(forger, lambda hits: (hits[0], *hits))


def another_version_than_asked_for(forger: Forger) -> History:
    _, change = forger.written()
    read = forger.at(forger.store.head, Question("past", COLLECTION, id=change.id, version=change.version))
    return forger.with_read(replace(read, question=replace(read.question, version=change.version + 1)))


def history_with_a_gap(forger: Forger) -> History:
    _, change = forger.written()
    read = forger.at(forger.store.head, Question("history", COLLECTION, id=change.id, limit=1_000))
    assume(len(read.shown) > 1)
    return forger.with_read(replace(read, shown=read.shown[1:]))


def page_of_another_list(forger: Forger) -> History:
    read = forger.at(forger.store.head)
    assume(read.shown)
    return forger.with_read(replace(read, question=replace(EVERYTHING, after=read.shown[0].id)))


def page_in_another_order(forger: Forger) -> History:
    read = forger.at(forger.store.head)
    assume(len(read.shown) > 1)
    return forger.with_read(replace(read, question=replace(EVERYTHING, descending=True)))


def page_of_another_group(forger: Forger) -> History:
    read = forger.at(forger.store.head)
    assume(any((one.metadata or 0) % 3 for one in read.shown))
    return forger.with_read(replace(read, question=replace(EVERYTHING, scrolled=True, group=0)))


def several_vectors_of_one_id(forger: Forger) -> History:
    _, change = forger.written()
    question = Question("match", COLLECTION, id=change.id, version=change.version)
    return forger.with_read(replace(forger.at(forger.store.head, question), count=2))


def another_vector(forger: Forger) -> History:
    _, change = forger.written()
    read = forger.at(forger.store.head, Question("get", COLLECTION, id=change.id))
    other = next(vector_id for vector_id in IDS if vector_id != change.id)
    return forger.with_read(replace(read, question=replace(read.question, id=other)))


def _rewritten(forger: Forger, write: Write, **changed: Any) -> History:
    forged = replace(write, **changed)
    return forger.with_writes(*(forged if one is write else one for one in forger.history.writes))


def _with_change(write: Write, written: Change, **changed: Any) -> tuple[Change, ...]:
    return tuple(replace(one, **changed) if one is written else one for one in write.changes)


def version_acknowledged_twice(forger: Forger) -> History:
    write, written = forger.written()
    again = replace(write, number=10_000, changes=(replace(written, position=written.position),))
    return forger.with_writes(*forger.history.writes, again)


def position_acknowledged_twice(forger: Forger) -> History:
    write, written = forger.written()
    other = replace(written, id="elsewhere", kind="put", version=1)
    return forger.with_writes(*forger.history.writes, replace(write, number=10_000, changes=(other,)))


def creation_of_what_is_there(forger: Forger) -> History:
    write, written = forger.written()
    assume(written.version > 1)
    assume(forger.store.state(written.id, written.position - 1)[1] is not None)
    return _rewritten(forger, write, changes=_with_change(write, written, kind="create"))


def version_that_nobody_made(forger: Forger) -> History:
    write, written = forger.written()
    return _rewritten(forger, write, changes=_with_change(write, written, version=written.version + 20))


def token_that_does_not_cover_the_write(forger: Forger) -> History:
    write, _ = forger.written()
    assume(max(change.position for change in write.changes) > 1)
    return _rewritten(forger, write, covers=max(change.position for change in write.changes) - 1)


def batch_torn_apart(forger: Forger) -> History:
    write, _ = forger.written()
    far = forger.store.head + 10
    elsewhere = Change("elsewhere", "put", 999_999, version=1, position=far)
    return _rewritten(forger, write, covers=far, changes=(*write.changes, elsewhere))


def answered_before_it_began(forger: Forger) -> History:
    write, _ = forger.written()
    assume(max(change.position for change in write.changes) < max(forger.positions()))
    late = max(one.completed for one in forger.history.writes) + 1
    return _rewritten(forger, write, invoked=late, completed=late + 1)


def last_write_lost(forger: Forger) -> History:
    _, change = forger.written()
    final = forger.at(change.position - 1, claimed=change.position - 1)
    return replace(forger.history, final=(final,))


def answer_that_no_client_may_get(forger: Forger) -> History:
    return replace(forger.history, unexpected=("500 internal-error",))


PLANTED: list[tuple[Kind, Callable[[Forger], History]]] = [
    ("read_your_writes", write_not_shown),
    ("read_your_writes", write_not_got),
    ("read_your_writes", switch_not_followed),
    ("read_your_writes", match_of_what_was_written_missing),
    ("read_your_writes", position_before_the_write),
    ("read_your_writes", dropped_collection_still_there),
    ("read_your_writes", created_collection_not_there),
    ("monotonic_reads", older_than_an_earlier_answer),
    ("monotonic_reads", position_goes_back),
    ("token_on_cached", write_not_in_a_cached_search),
    ("token_on_cached", older_cached_than_an_earlier_answer),
    ("phantom", value_that_nobody_wrote),
    ("phantom", value_of_another_version),
    ("phantom", metadata_of_another_version),
    ("phantom", event_that_nobody_caused),
    ("phantom", value_at_another_position),
    ("phantom", value_of_the_future),
    ("freshness", dropped_collection_at_a_later_position),
    ("freshness", event_missing),
    ("freshness", switch_missing),
    ("freshness", match_of_what_is_over),
    ("freshness", batch_of_two_snapshots),
    ("freshness", event_missing_from_an_exact_search),
    ("freshness", like_what_it_never_was),
    ("freshness", like_what_is_said_not_to_be_there),
    ("freshness", history_without_the_last_event),
    ("freshness", no_history_of_what_was_written),
    ("freshness", past_version_not_there),
    ("freshness", deleted_vector_shown),
    ("freshness", event_beyond_the_token),
    ("freshness", count_too_high),
    ("freshness", count_too_low),
    ("staleness", answer_too_old),
    ("staleness", answer_that_nobody_can_have_vouched_for),
    ("wrong_answer", hits_of_another_query),
    ("wrong_answer", hits_of_another_group),
    ("wrong_answer", more_hits_than_asked_for),
    ("wrong_answer", hits_out_of_order),
    ("wrong_answer", hit_twice),
    ("wrong_answer", another_version_than_asked_for),
    ("wrong_answer", history_with_a_gap),
    ("wrong_answer", page_of_another_list),
    ("wrong_answer", another_vector),
    ("wrong_answer", page_in_another_order),
    ("wrong_answer", page_of_another_group),
    ("wrong_answer", several_vectors_of_one_id),
    ("acknowledgements", version_acknowledged_twice),
    ("acknowledgements", position_acknowledged_twice),
    ("acknowledgements", creation_of_what_is_there),
    ("acknowledgements", version_that_nobody_made),
    ("acknowledgements", token_that_does_not_cover_the_write),
    ("acknowledgements", batch_torn_apart),
    ("acknowledgements", answered_before_it_began),
    ("final_state", last_write_lost),
    ("unexpected", answer_that_no_client_may_get),
]

_seeds = st.integers(0, 2**32)


@given(_seeds)
@settings(max_examples=300, deadline=None)
def test_an_honest_history_has_no_violation(seed: int) -> None:
    assert violations_of(Forger(seed).history) == []


@pytest.mark.parametrize(("kind", "lie"), PLANTED, ids=[lie.__name__ for _, lie in PLANTED])
@given(seed=_seeds)
@settings(max_examples=40, deadline=None)
def test_every_planted_lie_is_found(kind: Kind, lie: Callable[[Forger], History], seed: int) -> None:
    found = {violation.kind for violation in violations_of(lie(Forger(seed)))}
    assert kind in found


def test_every_kind_of_violation_is_planted() -> None:
    assert {kind for kind, _ in PLANTED} == set(KINDS)
