"""Which snapshot holds a collection as it was at a position, at a time, or by the snapshot's own name.

What a collection holds changes only with the events of its vectors, and what it is searched by with those of its specs.
So a snapshot answers for every position from the last of these events that it holds up to the next one, also for those
that it was not made for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from query_service.catalogue import LiveCollection
from query_service.errors import OutsideTheLogError, SnapshotNotFoundError
from query_service.event_reader import EventReader, Stretch
from query_service.snapshots import CollectionSnapshot
from shared.freshness import Demand


@dataclass(frozen=True, slots=True)
class Moment:
    """One of the three is given. `time` bears a time zone; it names the last event that is not later."""

    position: int | None = None
    time: datetime | None = None
    snapshot: str | None = None

    @property
    def pointer(self) -> str:
        """Its address in a request's body."""
        return f"/as_of/{'position' if self.position is not None else 'time' if self.time is not None else 'snapshot'}"

    def __str__(self) -> str:
        if self.snapshot is not None:
            return f"snapshot {self.snapshot}"
        return f"position {self.position}" if self.time is None else f"time {self.time.isoformat()}"


class AsOf:
    """What one request asks of the past, for whichever collection its name turns out to mean."""

    def __init__(self, events: EventReader, moment: Moment, demand: Demand) -> None:
        self._events = events
        self._moment = moment
        self._demand = demand
        self._stretches: dict[UUID, Stretch] = {}

    async def among(self, collection: LiveCollection, there: Sequence[CollectionSnapshot]) -> CollectionSnapshot:
        """The snapshot that answers; it may not be ready.

        Raises:
            SnapshotNotFoundError
            OutsideTheLogError: the collection was not there then, or that is yet to come.
            NotFreshEnoughError, ForeignTokenError, EventLogUnavailableError
        """
        if self._moment.snapshot is not None:
            named = {one.moment.snapshot: one for one in there}
            if self._moment.snapshot not in named:
                raise SnapshotNotFoundError(collection.name, self._moment.snapshot, None)
            return named[self._moment.snapshot]
        for one in there:
            # Of the very position: the log need not be asked.
            if one.moment.position == self._moment.position:
                return one
        stretch = await self.stretch(collection)
        fitting = [one for one in there if stretch.first <= one.moment.position <= stretch.last]
        if not fitting:
            raise SnapshotNotFoundError(collection.name, None, stretch.position)
        found = min(fitting, key=lambda one: one.state != "ready")
        return replace(found, moment=replace(found.moment, time=stretch.time))

    async def stretch(self, collection: LiveCollection) -> Stretch:
        """Where in the log the moment lies, which is none of a snapshot's name.

        Raises:
            OutsideTheLogError, NotFreshEnoughError, ForeignTokenError, EventLogUnavailableError
        """
        known = self._stretches.get(collection.collection_id)
        if known is None:
            moment = self._moment
            given = moment.position if moment.time is None else moment.time
            assert given is not None
            known = await self._events.stretch(collection.collection_id, given, self._demand)
            _expect_within(known, collection, moment)
            self._stretches[collection.collection_id] = known
        return known


def _expect_within(stretch: Stretch, collection: LiveCollection, moment: Moment) -> None:
    asked = f"position {moment.position}" if moment.time is None else moment.time.isoformat()
    if stretch.is_to_come:
        what = "the time is yet to come" if moment.time else f"the log ends at position {stretch.head}"
        raise OutsideTheLogError(moment.pointer, what, {"head": stretch.head})
    if stretch.created is None or stretch.position < stretch.created:
        created = "" if stretch.created is None else f"; it was created at position {stretch.created}"
        raise OutsideTheLogError(
            moment.pointer,
            f"at {asked} there was no collection {collection.name!r} yet{created}",
            {} if stretch.created is None else {"created": stretch.created},
        )


def described(collection: LiveCollection) -> Mapping[str, Any]:
    """The member `as_of` of an answer from a snapshot; none of one from the present."""
    past = collection.past
    if past is None:
        return {}
    return {"as_of": {"position": past.position, "time": past.time, "snapshot": past.snapshot}}
