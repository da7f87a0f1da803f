"""What is decided about events that a projection cannot apply. A decision is a stream of its own; see `skip_stream`."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from pydantic import Field

from events_schema.base import Event


class ProjectionSkipDecided(Event):
    """Every projection passes over an event, from its beginning on: as if it had never been there. It stays in the log
    and in the history. In the log the decision is of the collection that the event is of; who took it is the `actor` of
    its metadata."""

    event_type: ClassVar[str] = "ProjectionSkipDecided"

    skipped_event_id: UUID
    skipped_position: int = Field(ge=1)
    skipped_aggregate_id: UUID
    skipped_event_type: str
    reason: str = Field(description="Why, in the words of whoever decided it.")


SkipEvent = ProjectionSkipDecided
