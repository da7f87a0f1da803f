"""Versions of the projection: what a collection's events make of its rows.

A new one is called for when the same events are to make other rows, or rows of tables that are laid out otherwise. Each
generation bears the version that it was made by, and is written by that version for as long as it is there, so searches
go on over the old ones. A projector that knows a newer one folds the log into new generations beside them; see `due`.

So a release that brings a version still knows the one before, and the next release may drop that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from events_schema.base import RecordedEvent
from events_schema.embedding import EmbeddingSpec
from projector.errors import UnknownProjectionVersionError
from projector.generations import Generation
from projector.vectors import VectorEffect, fold_vectors

Fold = Callable[[Iterable[RecordedEvent], EmbeddingSpec], dict[str, VectorEffect]]

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


def folded(generation: Generation, events: Iterable[RecordedEvent]) -> dict[str, VectorEffect]:
    """The final effect of a collection's events on each vector of the generation, by id. `events` are in order of
    position.

    Raises:
        UnreadableEventError, UnprojectableEventError: one of them is at fault.
        UnknownProjectionVersionError
    """
    return expect_known(generation)(events, generation.shape.spec)
