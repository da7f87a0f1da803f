"""Runs of events: what is applied at once to one partition, and how much of the log it covers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from events_schema.base import RecordedEvent
from shared.kafka.partitions import partitions_of


@dataclass(frozen=True, slots=True)
class Layout:
    """Which log the events are of, and how they are dealt out: `feed` 0 is the log itself, as one partition."""

    log_id: UUID
    feed: int
    partition_count: int


@dataclass(frozen=True, slots=True)
class Run:
    """All events of a partition in (after, to], in order. `event_id` is that of the log's event at `to`, which may
    belong to another partition."""

    partition: int
    after: int
    events: Sequence[RecordedEvent]
    to: int
    event_id: UUID

    def beyond(self, position: int) -> Run | None:
        """What of it is new to a checkpoint; None if nothing is, or if something before it is missing."""
        if position < self.after or position >= self.to:
            return None
        if position == self.after:
            return self
        events = [event for event in self.events if event.position > position]
        return Run(self.partition, position, events, self.to, self.event_id)

    def before(self, positions: Collection[int]) -> Run | None:
        """The events before the first of these; None if there are none."""
        for index, event in enumerate(self.events):
            if event.position in positions:
                if index == 0:
                    return None
                last = self.events[index - 1]
                return Run(self.partition, self.after, self.events[:index], last.position, last.event_id)
        return self


def run_of_log(after: int, events: Sequence[RecordedEvent]) -> Run:
    """The log's next events as its only partition; there is at least one."""
    return Run(0, after, events, events[-1].position, events[-1].event_id)


def runs_of_log(
    events: Sequence[RecordedEvent], holes: Mapping[int, tuple[int, int]], partition_count: int
) -> list[Run]:
    """What the log's events mean for partitions that miss (after, to]. `events` are without gaps and begin at the
    latest behind the least `after`."""
    if not events:
        return []
    first, last = events[0].position, events[-1].position
    covered = {partition: (after, min(to, last)) for partition, (after, to) in holes.items() if after < min(to, last)}
    found: dict[int, list[RecordedEvent]] = {partition: [] for partition in covered}
    for event, partition in zip(
        events, partitions_of([event.aggregate_id for event in events], partition_count), strict=True
    ):
        if partition in covered:
            after, to = covered[partition]
            if after < event.position <= to:
                found[partition].append(event)
    return [
        Run(partition, after, found[partition], to, events[to - first].event_id)
        for partition, (after, to) in covered.items()
    ]
