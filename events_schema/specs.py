"""Which specs a collection's writes bring embeddings under, and which of them its searches can go by.

A collection moves from one spec to another while both are live: every write brings an embedding under each, the vectors
that were there are embedded anew, and once all of them are, the new spec is complete. Then tables can be made by it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from events_schema.collections import CollectionCreated, CollectionReembedded, CollectionUpdated
from events_schema.embedding import EmbeddingSpec

MAX_LIVE_SPECS = 2


@dataclass(frozen=True, slots=True)
class LiveSpec:
    """`since` is the position of the event that made it live, 0 for a collection's first: an embedding under it that
    was written before says nothing, for the collection had left it meanwhile. `complete`: every vector has one."""

    spec: EmbeddingSpec
    since: int
    complete: bool


@dataclass(frozen=True, slots=True)
class EmbeddingSpecs:
    """Of a collection at one position of the log; `live[0]` is the one that it is moving to, or has come to."""

    live: tuple[LiveSpec, ...]

    @classmethod
    def created(cls, event: CollectionCreated) -> Self:
        return cls((LiveSpec(event.embedding_spec, since=0, complete=True),))

    @property
    def target(self) -> LiveSpec:
        return self.live[0]

    @property
    def others(self) -> tuple[EmbeddingSpec, ...]:
        return tuple(one.spec for one in self.live[1:])

    @property
    def served(self) -> EmbeddingSpec:
        """What tables are to hold: the first that is complete."""
        return next(one.spec for one in self.live if one.complete)

    @property
    def specs(self) -> tuple[EmbeddingSpec, ...]:
        """The live ones, the target first."""
        return tuple(one.spec for one in self.live)

    def find(self, spec: EmbeddingSpec) -> LiveSpec | None:
        # Comparing models field by field takes longer than all the rest, and mostly it is the same object.
        return next((one for one in self.live if one.spec is spec or one.spec == spec), None)

    def after(self, event: CollectionUpdated | CollectionReembedded, position: int) -> Self:
        """As they are once the event at this position has happened."""
        if isinstance(event, CollectionReembedded):
            completed = tuple(
                replace(one, complete=True) if one.spec == event.embedding_spec else one for one in self.live
            )
            return type(self)(completed)
        target = self.target.spec if event.embedding_spec is None else event.embedding_spec
        others = self.others if event.other_specs is None else event.other_specs
        wanted = dict.fromkeys((target, *others))
        return type(self)(tuple(self.find(spec) or LiveSpec(spec, position, complete=False) for spec in wanted))
