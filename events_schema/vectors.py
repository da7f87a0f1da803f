"""What happens to vectors. A vector's stream is uuid5(collection_id, id)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import AwareDatetime, Field

from events_schema.base import Event
from events_schema.embedding import StoredEmbedding


class VectorCreated(Event):
    """Also the first event after a deletion: the version goes on, nothing of the old content does."""

    event_type: ClassVar[str] = "VectorCreated"

    id: str
    embeddings: tuple[StoredEmbedding, ...]
    content: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    expires_at: AwareDatetime | None = Field(
        default=None, description="From this instant on nobody sees it; some time later an event deletes it."
    )


class VectorUpdated(Event):
    """Holds only what changed, each field with its whole new value; of the embeddings, those under the specs that
    changed."""

    event_type: ClassVar[str] = "VectorUpdated"

    id: str
    embeddings: tuple[StoredEmbedding, ...] = ()
    content: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    expires_at: AwareDatetime | None = Field(default=None, description="As at the creation; null: it no longer does.")


class VectorReembedded(Event):
    """Its content has embeddings under further specs. Nothing else changes, nor is it written anew: a retention goes on
    counting."""

    event_type: ClassVar[str] = "VectorReembedded"

    id: str
    embeddings: tuple[StoredEmbedding, ...] = Field(min_length=1)


class VectorDeleted(Event):
    event_type: ClassVar[str] = "VectorDeleted"

    id: str
    reason: Literal["expired"] | None = Field(default=None, description="Why, where nobody asked for it.")


VectorEvent = VectorCreated | VectorUpdated | VectorReembedded | VectorDeleted
