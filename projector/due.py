"""What is due for a collection, so that its tables become what it is to be."""

from __future__ import annotations

from dataclasses import dataclass, replace

from projector.generations import Generation, Shape
from projector.indexes import OUTGROWN


@dataclass(frozen=True, slots=True)
class Limits:
    """From how many rows on an index is made."""

    ivfflat_min_rows: int


@dataclass(frozen=True, slots=True)
class Facts:
    """`unfinished` is a generation that the upkeep has begun, `failed` one that it had to give up a while ago at most.
    `rows` are counted up to the least number that an index is made from; of an index that is there they are what the
    database estimates. Of month partitions they are those of the fullest that has no index; `partition_is_due`: one has
    the rows for an IVFFlat index and has none, or has outgrown the one it has. `differing` is a generation that is
    written to and whose indexes over metadata are not those that are declared. `version` is that of the projection, as
    this process knows it."""

    wanted: Shape
    version: int
    active: Generation
    unfinished: Generation | None
    failed: Generation | None
    rows: int
    partition_is_due: bool = False
    differing: Generation | None = None


@dataclass(frozen=True, slots=True)
class Nothing:
    pass


@dataclass(frozen=True, slots=True)
class MakeIndex:
    """Over the active generation, in place."""

    generation: Generation


@dataclass(frozen=True, slots=True)
class Rename:
    """The active generation's tables are what is wanted; only how they are to be searched changes."""

    generation: Generation
    shape: Shape


@dataclass(frozen=True, slots=True)
class Replace:
    """By a generation of this shape, folded from the log. `checked`: it is held against the log before searches read
    it."""

    shape: Shape
    search_index: bool
    checked: bool = False


@dataclass(frozen=True, slots=True)
class Discard:
    """A generation that was begun for what is not wanted any more."""

    generation: Generation


@dataclass(frozen=True, slots=True)
class IndexMetadata:
    """As its collection declares it, in place."""

    generation: Generation


Due = Nothing | MakeIndex | Rename | Replace | Discard | IndexMetadata


def decide(facts: Facts, limits: Limits) -> Due:
    """Tables that are to be replaced get their indexes over metadata when they are made, so those come last."""
    due = _of_the_tables(facts, limits)
    if isinstance(due, Nothing) and facts.differing is not None:
        return IndexMetadata(facts.differing)
    return due


def _of_the_tables(facts: Facts, limits: Limits) -> Due:
    there = [facts.active, *([facts.unfinished] if facts.unfinished else [])]
    if any(one.projection_version > facts.version for one in there):
        return Nothing()  # A newer projector is at work, and this one is about to go.
    wanted = (facts.wanted, facts.version)
    if facts.unfinished is not None and (facts.unfinished.shape, facts.unfinished.projection_version) != wanted:
        return Discard(facts.unfinished)
    if facts.failed is not None and (facts.failed.shape, facts.failed.projection_version) == wanted:
        return Nothing()
    enough = _has_enough_rows(facts, limits)
    active = facts.active
    is_outdated = active.projection_version < facts.version
    if facts.unfinished is not None or is_outdated:
        return Replace(facts.wanted, enough, checked=is_outdated)
    if active.shape != facts.wanted:
        if _differs_in_name_only(active, facts.wanted):
            return Rename(active, facts.wanted)
        return Replace(facts.wanted, enough)
    if not active.indexed:
        return MakeIndex(active) if enough else Nothing()
    if active.shape.month_partitions:
        return MakeIndex(active) if facts.partition_is_due else Nothing()
    return Replace(facts.wanted, search_index=True) if _is_outgrown(facts) else Nothing()


def may_wait(due: Due, facts: Facts) -> bool:
    """Whether it is an index for the rows that have come, which may as well wait for those that are still to come. What
    somebody asked for does not wait."""
    match due:
        case MakeIndex():
            return True
        case Replace(shape):
            is_outdated = facts.active.projection_version < facts.version
            return facts.unfinished is None and shape == facts.active.shape and not is_outdated
        case Nothing() | Rename() | Discard() | IndexMetadata():
            return False


def _has_enough_rows(facts: Facts, limits: Limits) -> bool:
    match facts.wanted.index.kind:
        case "hnsw":
            return True
        case "ivfflat":
            return facts.rows >= limits.ivfflat_min_rows
        case "none":
            return False


def _differs_in_name_only(active: Generation, wanted: Shape) -> bool:
    """Without an index, metric and index are only what searches are told. What cosine cannot compare is looked for
    when the log is folded anew."""
    if active.indexed:
        return False
    if wanted.metric == "cosine" and active.shape.metric != "cosine":
        return False
    return replace(active.shape, metric=wanted.metric, index=wanted.index) == wanted


def _is_outgrown(facts: Facts) -> bool:
    made_for = facts.active.indexed_rows
    is_ivfflat = facts.active.shape.index.kind == "ivfflat"
    return is_ivfflat and made_for is not None and facts.rows >= OUTGROWN * max(made_for, 1)
