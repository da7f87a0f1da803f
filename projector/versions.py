"""Versions of the projection: what a collection's events make of its rows.

A new one is called for when the same events are to make other rows, or rows of tables that are laid out otherwise. Each
generation bears the version that it was made by, and is written by that version for as long as it is there, so searches
go on over the old ones. A projector that knows a newer one folds the log into new generations beside them; see `due`.

So a release that brings a version still knows the one before, and the next release may drop that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from events_schema.base import RecordedEvent
from projector.errors import UnaccountedSpecError, UnknownProjectionVersionError
from projector.event_log import EventLog
from projector.generations import Generation
from projector.spec_history import SpecHistory, read_history
from projector.vectors import Under, VectorEffect, fold_vectors

Fold = Callable[[Iterable[RecordedEvent], Under], dict[str, VectorEffect]]

FOLDS: dict[int, Fold] = {1: fold_vectors}
"""By version."""


def current_version() -> int:
    """Of the generations that are made from now on."""
    return max(FOLDS)


def expect_known(generation: Generation) -> Fold:
    """
    Raises:
        UnknownProjectionVersionError
    """
    fold = FOLDS.get(generation.projection_version)
    if fold is None:
        raise UnknownProjectionVersionError(generation.records, generation.projection_version, sorted(FOLDS))
    return fold


def folded(
    generation: Generation,
    events: Iterable[RecordedEvent],
    history: SpecHistory | None = None,
    *,
    is_live: bool = False,
) -> dict[str, VectorEffect]:
    """The final effect of a collection's events on each vector of the generation, by id. `events` are in order of
    position; `is_live`: searches read what they make.

    Raises:
        UnaccountedSpecError: it takes the history.
        UnreadableEventError, UnprojectableEventError: one of them is at fault.
        UnknownProjectionVersionError
    """
    shape = generation.shape
    return expect_known(generation)(events, Under(shape.spec, shape.spec_since, history, is_live))


async def folded_by_log(
    generation: Generation, events: Sequence[RecordedEvent], log: EventLog, *, is_live: bool = False
) -> dict[str, VectorEffect]:
    """`folded`, with the collection's history where it takes that: hardly ever, for it is read anew each time.

    Raises:
        UnreadableEventError, UnprojectableEventError: one of them is at fault.
        UnknownProjectionVersionError
    """
    try:
        return folded(generation, events, is_live=is_live)
    except UnaccountedSpecError:
        history = await read_history(log, generation.collection_id)
        return folded(generation, events, history, is_live=is_live)
