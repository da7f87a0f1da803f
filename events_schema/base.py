"""The shape every event has: what happened (`Event`) and where it stands in the log (`RecordedEvent`)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, ClassVar, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

AggregateType = Literal["collection", "vector", "alias", "skip"]


class Event(BaseModel):
    """A fact in the past tense. `event_type` is its name in the log and never changes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    event_type: ClassVar[str]
    schema_version: ClassVar[int] = 1

    def event_data(self) -> dict[str, Any]:
        """The JSON object that is stored: only the fields that the event sets.

        An absent field means "not changed"; a null is a value.
        """
        return self.model_dump(mode="json", exclude_unset=True)

    @cached_property
    def serialised(self) -> str:
        """`event_data` as JSON text; made once."""
        return self.model_dump_json(exclude_unset=True)


class EventMetadata(BaseModel):
    """Who caused the event, through which request, and under which trace."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    actor: str
    request_id: str
    correlation_id: str | None = None
    causation_id: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """One row of the event log.

    `position` counts all events from 1 without gaps, in commit order; `version` counts the events of the
    aggregate from 1. `event_data` and `metadata` are the stored JSON objects, not yet upcast.
    """

    position: int
    event_id: UUID
    tenant: str
    collection_id: UUID
    aggregate_id: UUID
    aggregate_type: AggregateType
    version: int
    event_type: str
    schema_version: int
    event_data: dict[str, Any]
    metadata: dict[str, Any]
    timestamp: datetime
