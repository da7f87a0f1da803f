"""Which specs are live while a collection moves from one to another, however it moves."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from events_schema.collections import CollectionCreated, CollectionReembedded, CollectionUpdated, IndexSpec
from events_schema.embedding import EmbeddingSpec
from events_schema.specs import MAX_LIVE_SPECS, EmbeddingSpecs, LiveSpec

SPECS = tuple(EmbeddingSpec(provider="openai", model=f"model-{at}", dimension=at + 1) for at in range(3))


def _created(spec: EmbeddingSpec) -> EmbeddingSpecs:
    event = CollectionCreated(
        name="a", collection_id=uuid4(), metric="cosine", type="vector", index=IndexSpec(), embedding_spec=spec
    )
    return EmbeddingSpecs.created(event)


def test_a_move_is_announced_completed_and_over() -> None:
    before, after, _ = SPECS
    announced = _created(before).after(CollectionUpdated(embedding_spec=after, other_specs=(before,)), 5)
    assert announced.live == (LiveSpec(after, since=5, complete=False), LiveSpec(before, since=0, complete=True))
    assert announced.served == before
    complete = announced.after(CollectionReembedded(embedding_spec=after), 9)
    assert (complete.served, complete.others) == (after, (before,))
    assert complete.after(CollectionUpdated(description="x"), 10) == complete
    assert complete.after(CollectionUpdated(other_specs=()), 11).live == (LiveSpec(after, since=5, complete=True),)


@dataclass
class Told:
    """What the events say of each spec, kept in the plainest way."""

    specs: EmbeddingSpecs
    since: dict[EmbeddingSpec, int]
    complete: set[EmbeddingSpec] = field(default_factory=set)


@given(st.lists(st.tuples(st.sampled_from(SPECS), st.sampled_from(["move", "complete", "over"])), max_size=20))
def test_a_spec_that_was_left_is_live_anew_and_incomplete(moves: list[tuple[EmbeddingSpec, str]]) -> None:
    told = Told(_created(SPECS[0]), {SPECS[0]: 0}, {SPECS[0]})
    for position, (spec, move) in enumerate(moves, start=2):
        live = [one.spec for one in told.specs.live]
        event: CollectionUpdated | CollectionReembedded
        match move:
            case "move" if spec != live[0] and (spec in live or not told.specs.target.complete or len(live) == 1):
                others = tuple(one for one in live if one != spec and one in told.complete)[: MAX_LIVE_SPECS - 1]
                event = CollectionUpdated(embedding_spec=spec, other_specs=others)
                told.since = {one: told.since.get(one, position) for one in (spec, *others)}
                told.complete &= told.since.keys()
            case "complete" if spec in live:
                event = CollectionReembedded(embedding_spec=spec)
                told.complete.add(spec)
            case "over" if told.specs.target.complete:
                event = CollectionUpdated(other_specs=())
                told.since = {live[0]: told.since[live[0]]}
                told.complete &= told.since.keys()
            case _:
                continue
        told.specs = told.specs.after(event, position)
        assert {one.spec: one.since for one in told.specs.live} == told.since
        assert {one.spec for one in told.specs.live if one.complete} == told.complete
        assert 0 < len(told.specs.live) <= MAX_LIVE_SPECS
        assert told.specs.served in told.complete
        assert told.specs.find(spec) is None or told.specs.find(spec) in told.specs.live
