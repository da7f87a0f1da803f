"""Passing over an event that a projection cannot apply: what may be decided."""

from __future__ import annotations

from dataclasses import dataclass

from command_service.domain.refusals import NotSkippableError
from events_schema.base import RecordedEvent
from events_schema.collections import CollectionDeleted
from events_schema.skips import ProjectionSkipDecided


@dataclass(frozen=True, slots=True)
class SkipEvent:
    """`event` is parked, and `reason` says why it is to be passed over."""

    event: RecordedEvent
    reason: str


def decide(command: SkipEvent, *, version: int) -> ProjectionSkipDecided | None:
    """The decision; None if it was taken before: `version` is that of its stream.

    Raises:
        NotSkippableError
    """
    event = command.event
    if version:
        return None
    if event.event_type == CollectionDeleted.event_type:
        raise NotSkippableError(
            event.position, "without its deletion the collection would go on under a name that others may bear"
        )
    if event.aggregate_type == "skip":
        raise NotSkippableError(event.position, "it is a decision to pass over another event")
    return ProjectionSkipDecided(
        skipped_event_id=event.event_id,
        skipped_position=event.position,
        skipped_aggregate_id=event.aggregate_id,
        skipped_event_type=event.event_type,
        reason=command.reason,
    )
