"""Which embedding specs a collection had at each position, as its own events in the log say.

The log's account, for those who cannot go by the catalogue: that is of one moment, and of several partitions the
collection's own may be ahead of its vectors' or behind them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from events_schema.base import RecordedEvent
from events_schema.collections import CollectionCreated, CollectionReembedded, CollectionUpdated
from events_schema.embedding import EmbeddingSpec
from events_schema.registry import decode_event
from events_schema.specs import EmbeddingSpecs
from events_schema.upcasters import UnreadableEventError
from projector.errors import UnprojectableEventError
from projector.event_log import EventLog


def is_served(specs: EmbeddingSpecs) -> bool:
    """Whether there is one that tables can hold."""
    return any(one.complete for one in specs.live)


@dataclass(frozen=True, slots=True)
class SpecHistory:
    """From each of `positions` on, in order, those of `specs` at the same place."""

    positions: tuple[int, ...]
    specs: tuple[EmbeddingSpecs, ...]

    @classmethod
    def of(cls, stream: Iterable[RecordedEvent]) -> SpecHistory:
        """An event that cannot be applied ends it: whatever follows is parked with it."""
        positions: list[int] = []
        specs: list[EmbeddingSpecs] = []
        for recorded in stream:
            try:
                event = decode_event(recorded.event_type, recorded.schema_version, recorded.event_data)
            except UnreadableEventError:
                break
            if isinstance(event, CollectionCreated):
                after = EmbeddingSpecs.created(event)
            elif isinstance(event, CollectionUpdated | CollectionReembedded) and specs:
                after = specs[-1].after(event, recorded.position)
            else:
                continue
            if not is_served(after):
                break
            positions.append(recorded.position)
            specs.append(after)
        return cls(tuple(positions), tuple(specs))

    def at(self, position: int) -> EmbeddingSpecs:
        """What there was before the collection's creation is what it was created with."""
        return self.specs[max(0, bisect_right(self.positions, position) - 1)]

    def left_at(self, spec: EmbeddingSpec, since: int) -> int | None:
        """Where the spec ended that was live since then; None if it still is."""
        was_live = False
        for position, specs in zip(self.positions, self.specs, strict=True):
            live = specs.find(spec)
            is_live = live is not None and live.since == since
            if was_live and not is_live:
                return position
            was_live = is_live
        return None

    def completed_at(self, spec: EmbeddingSpec, since: int) -> int | None:
        """From where on every vector has an embedding under the spec that is live since then; None: not yet."""
        for position, specs in zip(self.positions, self.specs, strict=True):
            live = specs.find(spec)
            if live is not None and live.since == since and live.complete:
                return position
        return None


async def read_history(log: EventLog, collection_id: UUID) -> SpecHistory:
    """
    Raises:
        UnprojectableEventError: the log has no such collection, or its creation is passed over.
    """
    stream = await log.collection_stream(collection_id)
    history = SpecHistory.of((await log.skips()).left_out(stream))
    if not history.specs:
        raise UnprojectableEventError(f"the event log has no collection {collection_id}")
    return history
