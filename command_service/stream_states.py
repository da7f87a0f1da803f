"""The states of streams, as far as they are known without folding them again.

Collections are kept, because every write to their vectors needs them; the versions that were read under the
append lock say which are still current. Vectors are read by their last few events; only the few whose state
reaches further back are folded whole and kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from itertools import groupby
from typing import Any
from uuid import UUID

import asyncpg
import orjson
from cachetools import LRUCache

from command_service import event_store
from command_service.domain.collections import CollectionState
from command_service.domain.vectors import HeldEmbedding, Vector, VectorState, evolve, held, merged
from events_schema.base import RecordedEvent
from events_schema.registry import decode_event
from events_schema.specs import EmbeddingSpecs
from events_schema.vectors import VectorCreated, VectorDeleted, VectorEvent, VectorReembedded, VectorUpdated
from shared.event_log import read_stream
from shared.postgres import Connection

MAX_COLLECTIONS = 10_000
MAX_LONG_VECTORS = 10_000

_FIELDS = ("content", "metadata", "expires_at")


class StreamStates:
    """Used by one writer and, for reading collections, by the requests of its process."""

    def __init__(self) -> None:
        self._collections: LRUCache[UUID, CollectionState] = LRUCache(MAX_COLLECTIONS)
        self._long_vectors: LRUCache[UUID, VectorState] = LRUCache(MAX_LONG_VECTORS)
        self._log_id: UUID | None = None
        self._position = 0

    def see_end(self, log_id: UUID, position: int) -> bool:
        """The log as it is now, of which all is known that is. One that was restored may lack what was remembered: all
        is forgotten if it is another log, or ends earlier than it did. Whether it is."""
        is_another = self._log_id is not None and (log_id != self._log_id or position < self._position)
        if is_another:
            self._collections.clear()
            self._long_vectors.clear()
        self._log_id, self._position = log_id, position
        return is_another

    def see_appended(self, position: int) -> None:
        """The log goes up to there at least."""
        self._position = position

    def known_collection(self, stream: UUID) -> CollectionState | None:
        """The collection as it was last seen; the append checks that it still is."""
        return self._collections.get(stream)

    def remember_collections(self, states: Mapping[UUID, CollectionState]) -> None:
        """To be called with committed states only."""
        for stream, state in states.items():
            known = self._collections.get(stream)
            if known is None or known.version <= state.version:
                self._collections[stream] = state

    async def collections(self, connection: Connection, versions: Mapping[UUID, int]) -> dict[UUID, CollectionState]:
        """The states at the given versions, 0 for a stream that has no event."""
        states: dict[UUID, CollectionState] = {}
        for stream, version in versions.items():
            known = self._collections.get(stream, CollectionState())
            states[stream] = (
                known if known.version == version else await event_store.load_collection(connection, stream)
            )
        return states

    async def vectors(
        self, connection: Connection, streams: Mapping[UUID, EmbeddingSpecs | None]
    ) -> dict[UUID, VectorState]:
        """The states of those streams that have events, with every embedding under the specs given for a stream, which
        are its collection's; None: there is no such collection any more."""
        states: dict[UUID, VectorState] = {}
        rows = await event_store.read_tails(connection, list(streams))
        for stream, tail in groupby(rows, key=lambda row: row["aggregate_id"]):
            states[stream] = await self._vector(connection, stream, streams[stream], list(tail))
        return states

    async def _vector(
        self, connection: Connection, stream: UUID, specs: EmbeddingSpecs | None, tail: list[asyncpg.Record]
    ) -> VectorState:
        known = self._long_vectors.get(stream)
        if known is not None and tail[0]["version"] <= known.version + 1 and known.version <= tail[-1]["version"]:
            state = known
            for row in tail:
                if row["version"] > known.version:
                    state = evolve(
                        state,
                        _decoded(row),
                        version=row["version"],
                        position=row["position"],
                        timestamp=row["timestamp"],
                    )
            self._long_vectors[stream] = state
            return state
        whole = _fold_tail(tail, specs)
        if whole is not None:
            return whole
        state = VectorState()
        while True:
            events = await read_stream(connection, stream, after_version=state.version, limit=1000)
            for event in events:
                state = evolve(
                    state,
                    _decoded_event(event),
                    version=event.version,
                    position=event.position,
                    timestamp=event.timestamp,
                )
            if not events:
                break
        self._long_vectors[stream] = state
        return state


def _fold_tail(tail: list[asyncpg.Record], specs: EmbeddingSpecs | None) -> VectorState | None:
    """The state, if the stream's last events say all of it: they reach back to a creation or deletion, or
    between them they set every field, and the embedding under each of the specs."""
    embeddings: tuple[HeldEmbedding, ...] = ()
    updated_at: datetime | None = None
    written = 0
    fields: dict[str, Any] = {}
    last = tail[-1]
    for row in reversed(tail):
        event = _decoded(row)
        match event:
            case VectorDeleted():
                # Only as the newest: whatever follows a deletion begins with a creation, which ends the search.
                return VectorState(last["version"], last["position"], written=last["version"])
            case VectorReembedded():
                embeddings = merged(embeddings, held(event.embeddings, row["position"]))
            case VectorCreated() | VectorUpdated():
                updated_at = updated_at or row["timestamp"]
                written = written or row["version"]
                changed = event.model_fields_set
                if "embeddings" in changed:
                    embeddings = merged(embeddings, held(event.embeddings, row["position"]))
                for name in _FIELDS:
                    if name not in fields and (name in changed or isinstance(event, VectorCreated)):
                        fields[name] = getattr(event, name)
        if len(fields) < len(_FIELDS) or updated_at is None:
            continue
        if isinstance(event, VectorCreated) or _are_all(embeddings, specs, row["position"]):
            live = Vector(embeddings, **fields, updated_at=updated_at)
            return VectorState(last["version"], last["position"], live, written)
    return None


def _are_all(embeddings: tuple[HeldEmbedding, ...], specs: EmbeddingSpecs | None, read_from: int) -> bool:
    """Whether no event before the position `read_from` has an embedding that counts."""
    if specs is None:
        return True
    return all(one.since >= read_from or any(of.spec == one.spec for of in embeddings) for one in specs.live)


def _decoded(row: asyncpg.Record) -> VectorEvent:
    event: VectorEvent = decode_event(row["event_type"], row["schema_version"], orjson.loads(row["event_data"]))
    return event


def _decoded_event(event: RecordedEvent) -> VectorEvent:
    decoded: VectorEvent = decode_event(event.event_type, event.schema_version, event.event_data)
    return decoded
