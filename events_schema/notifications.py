"""What the projector tells the world after each batch. No fact of its own: the log has them all."""

from __future__ import annotations

from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

CHANGES_CHANNEL = "aindusdb.changes"
"""The Redis channel (PUBLISH) of change notifications."""

_CLOSED = ConfigDict(frozen=True, extra="forbid")


class CollectionChange(BaseModel):
    model_config = _CLOSED

    collection_id: UUID
    tenant: str
    first_position: int = Field(ge=1, description="The first of the events that this notification is about.")
    last_position: int = Field(ge=1, description="The last of them.")
    kinds: tuple[str, ...] = Field(description="The event types that occurred, in order of name.")


class ChangeNotification(BaseModel):
    """The read model shows these changes from `position` on. A hint: it may be lost, and never comes twice."""

    model_config = _CLOSED

    log_id: UUID
    position: int = Field(ge=1, description="The greatest position among the changes.")
    collections: tuple[CollectionChange, ...]
