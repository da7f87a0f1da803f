"""Which specs a collection had at positions of the log, from its own events."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from events_schema.base import RecordedEvent
from events_schema.collections import CollectionCreated, CollectionReembedded, CollectionUpdated
from events_schema.registry import decode_event
from events_schema.specs import EmbeddingSpecs


class PastSpecs:
    """Of the collection that has these events, in order.

    Raises:
        UnreadableEventError
    """

    def __init__(self, stream: Iterable[RecordedEvent]) -> None:
        self._positions: list[int] = []
        self._specs: list[EmbeddingSpecs | None] = []
        specs: EmbeddingSpecs | None = None
        for recorded in stream:
            specs = specs_after(specs, recorded)
            self._positions.append(recorded.position)
            self._specs.append(specs)

    def at(self, position: int) -> EmbeddingSpecs | None:
        """None: it was not there yet."""
        number = bisect_right(self._positions, position)
        return self._specs[number - 1] if number else None


def specs_after(specs: EmbeddingSpecs | None, recorded: RecordedEvent) -> EmbeddingSpecs | None:
    """As they are once the collection's next event has happened; None: it is not there yet.

    Raises:
        UnreadableEventError
    """
    event = decode_event(recorded.event_type, recorded.schema_version, recorded.event_data)
    if isinstance(event, CollectionCreated):
        return EmbeddingSpecs.created(event)
    if specs is not None and isinstance(event, CollectionUpdated | CollectionReembedded):
        return specs.after(event, recorded.position)
    return specs
