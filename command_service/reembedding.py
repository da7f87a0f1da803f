"""Moves collections to another embedding model: embeds what their vectors hold by it, says when all is embedded, and
lets go of the model before once no table is written by it any more.

From the announcement on each vector that is written has an embedding of the new model. So those are looked at that were
created before, in the order of the log: one that lacks it gets it by an event, on condition of the version that was
seen. How far that has come is remembered, but only what the streams say counts. So it may be killed anywhere, and
several processes may do it, for one collection one at a time. It takes turns with other writes and other texts, and
keeps the pace of the projection.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge
from uuid_utils.compat import uuid7

from command_service import event_store, reembedding_progress
from command_service.backpressure import Backpressure
from command_service.command_bus import PASSES, CommandBus
from command_service.command_queue import OverloadedError
from command_service.domain.collections import Collection, CollectionState
from command_service.domain.commands import (
    CommandContext,
    CompleteReembedding,
    EndReembedding,
    ReembedVector,
    WriteVectors,
)
from command_service.domain.refusals import RefusalError
from command_service.expiring import projected
from command_service.outcomes import VectorsOutcome
from command_service.reembedding_progress import Tables
from command_service.stream_states import StreamStates
from events_schema.base import EventMetadata
from events_schema.embedding import EmbeddingSpec, StoredEmbedding, encode
from shared.embedding.embedder import TextEmbedder
from shared.embedding.errors import (
    ModelMismatchError,
    NoProviderError,
    ProviderUnavailableError,
    TextRefusedError,
    TooManyTextsError,
)
from shared.embedding_input import embedding_fault
from shared.postgres import Connection, Pool

ACTOR = "reembedding"
PAGE_VECTORS = 256

_TURN_SECONDS = 10.0
"""After so long it is another collection's turn."""
_TIMES_AS_LONG = 20
"""After all that cannot be embedded was looked at again, it is left alone for this many times as long."""
_REFUSED_REST_SECONDS = 60.0
"""So long at least, if the provider was asked in vain."""

_PAGE_BYTES = 4 * 1024 * 1024
_TRIES = 5
"""So often a page is looked at again because vectors of it were changed meanwhile."""

_ANNOUNCEMENTS = """
SELECT position, tenant, aggregate_id, collection_id FROM events
WHERE aggregate_type = 'collection' AND position > $1 AND event_type = 'CollectionUpdated'
  AND event_data ? 'embedding_spec'
ORDER BY position LIMIT 1000
"""

_TRY_LOCK = "SELECT pg_try_advisory_xact_lock(7120034, hashtext($1))"

_CREATED = """
SELECT position, aggregate_id AS stream, event_data ->> 'id' AS id FROM events
WHERE collection_id = $1 AND event_type = 'VectorCreated' AND position > $2 AND position <= $3
ORDER BY position LIMIT $4
"""

_BLOCKED = """
SELECT e.position, e.aggregate_id AS stream, b.vector_id AS id
FROM reembeddings_blocked b JOIN events e USING (position)
WHERE b.collection_id = $1 AND b.position > $2 ORDER BY b.position LIMIT $3
"""

_CANNOT_EMBED = (NoProviderError, ModelMismatchError, ProviderUnavailableError, TooManyTextsError)

_log = structlog.get_logger("reembedding")


@dataclass(frozen=True, slots=True)
class _Move:
    tenant: str
    stream: UUID
    collection_id: UUID


@dataclass(frozen=True, slots=True)
class _Created:
    """A vector as it was created before the move began, at this position."""

    position: int
    stream: UUID
    id: str


@dataclass(slots=True)
class _Looked:
    """What a page came to: how many of its vectors have the embedding now, and which cannot have it and why, None where
    they have no content. `last`: the position of the last event that it appended."""

    embedded: int = 0
    blocked: dict[_Created, str | None] = field(default_factory=dict)
    appended: int = 0
    last: int | None = None
    seconds: float = 0.0
    """Of appending."""


@dataclass(slots=True)
class _Again:
    """How far what could not be embedded was looked at again, in the move that began at position `since`: up to
    position `after`, 0 as long as there is something that nobody has looked at. It may take several turns."""

    since: int
    after: int = 0
    seconds: float = 0.0
    refused: bool = False


class Reembedding:
    def __init__(
        self,
        bus: CommandBus,
        embedder: TextEmbedder,
        backpressure: Backpressure,
        interval_seconds: float,
        registry: CollectorRegistry,
    ) -> None:
        self._bus = bus
        self._embedder = embedder
        self._backpressure = backpressure
        self._interval_seconds = interval_seconds
        self._states = StreamStates()
        self._seen = 0
        self._moves: set[_Move] = set()
        self._rests: dict[_Move, tuple[int, float]] = {}
        """What is left alone, if it is still the move that began at this position, until this time."""
        self._again: dict[_Move, _Again] = {}
        self._embedded = Counter(
            "aindusdb_reembedded_vectors_total",
            "Vectors whose content was embedded by the model that their collection moves to.",
            registry=registry,
        )
        self._remaining = Gauge(
            "aindusdb_reembedding_vectors",
            "Vectors at most that lack an embedding of the model that their collection moves to.",
            registry=registry,
        )

    async def run(self, events: Pool, read: Pool | None) -> None:
        """Until it is cancelled. What fails is tried again after the interval. Without the read database the model
        before is never let go of."""
        goes_on = False
        while True:
            await asyncio.sleep(0 if goes_on else self._interval_seconds)
            goes_on = False
            try:
                goes_on = await self.sweep(events, read)
            except PASSES as error:
                _log.warning("collections do not move on for now", error=repr(error))
            except Exception:
                _log.exception("collections do not move on for now")

    async def sweep(self, events: Pool, read: Pool | None) -> bool:
        """Takes each collection that moves on, for a while. Whether one can be taken further at once."""
        async with events.acquire() as connection:
            end = await event_store.read_log_end(connection, [])
            if self._states.see_end(end.log_id, end.position):
                self._seen = 0
                self._moves.clear()
                self._rests.clear()
                self._again.clear()
            while rows := await connection.fetch(_ANNOUNCEMENTS, self._seen):
                self._moves |= {_Move(row["tenant"], row["aggregate_id"], row["collection_id"]) for row in rows}
                self._seen = rows[-1]["position"]
        goes_on = False
        for move in list(self._moves):
            try:
                goes_on |= await self._advance(events, read, move)
            except (RefusalError, OverloadedError) as error:
                _log.info("the collection is looked at again", collection_id=str(move.collection_id), error=str(error))
            except PASSES as error:
                # Mostly of the read database, which a collection needs only for its move's end.
                _log.warning(
                    "a collection does not move on for now", collection_id=str(move.collection_id), error=repr(error)
                )
        async with events.acquire() as connection:
            found = [await reembedding_progress.find(connection, one.collection_id) for one in self._moves]
        self._remaining.set(sum(one.remaining or 0 for one in found if one is not None))
        return goes_on

    async def _advance(self, events: Pool, read: Pool | None, move: _Move) -> bool:
        """Whether there is more to be done at once."""
        began = time.monotonic()
        while time.monotonic() < began + _TURN_SECONDS:
            started = time.monotonic()
            async with events.acquire() as connection, connection.transaction(isolation="read_committed"):
                if not await connection.fetchval(_TRY_LOCK, str(move.collection_id)):
                    return False
                state = await event_store.load_collection(connection, move.stream)
                live = state.live
                if live is None or live.collection_id != move.collection_id or not live.specs.others:
                    await self._forget(connection, move)
                    return False
                if live.specs.target.complete:
                    await self._end(read, move, state, live)
                    return False
                since = live.specs.target.since
                resting, until = self._rests.get(move, (0, 0.0))
                if since == resting and started < until:
                    return False
                again = self._again.get(move)
                if again is None or again.since != since:
                    again = self._again[move] = _Again(since)
                page = await self._page(connection, move, live, again.after)
            if page is None:
                del self._again[move]
                if again.after:
                    rest = max(_TIMES_AS_LONG * again.seconds, _REFUSED_REST_SECONDS if again.refused else 0.0)
                    self._rests[move] = (since, time.monotonic() + rest)
                return False
            again.after, looked = page
            self._embedded.inc(looked.appended)
            await self._rest(read, looked)
            if again.after:
                again.seconds += time.monotonic() - started
                again.refused |= any(why is not None for why in looked.blocked.values())
        return True

    async def _forget(self, connection: Connection, move: _Move) -> None:
        self._moves.discard(move)
        self._rests.pop(move, None)
        self._again.pop(move, None)
        await reembedding_progress.forget(connection, move.collection_id)

    async def _page(
        self, connection: Connection, move: _Move, live: Collection, after_blocked: int
    ) -> tuple[int, _Looked] | None:
        """Looks at the next vectors: first at those that nobody has looked at, then again at those that could not be
        embedded. None: there are no more for now, or they cannot be embedded for now."""
        target, of = live.specs.target, live.collection_id
        progress = await reembedding_progress.find(connection, of)
        if progress is None or progress.since != target.since:
            await reembedding_progress.begin(connection, of, target.since)
            place = 0
        else:
            place = progress.place
        most = _page_vectors(target.spec)
        first = [_Created(**row) for row in await connection.fetch(_CREATED, of, place, target.since, most)]
        again = [] if first else [_Created(**row) for row in await connection.fetch(_BLOCKED, of, after_blocked, most)]
        try:
            looked = await self._look(connection, move, live, first or again)
        except _CANNOT_EMBED as error:
            _log.warning("contents cannot be embedded by the new model for now", collection=live.name, error=str(error))
            await reembedding_progress.hold_up(connection, of, str(error))
            return None
        if looked.blocked:
            rows = [(one.position, one.id, why) for one, why in looked.blocked.items()]
            await reembedding_progress.block(connection, of, rows)
        if first:
            end = first[-1].position if len(first) == most else target.since
            await reembedding_progress.go_on(connection, of, end, looked_at=len(first), embedded=looked.embedded)
            return 0, looked
        freed = [one for one in again if one not in looked.blocked]
        await reembedding_progress.unblock(connection, of, [one.position for one in freed])
        await reembedding_progress.go_on(connection, of, target.since, looked_at=0, embedded=looked.embedded)
        if again:
            return again[-1].position, looked
        if not await reembedding_progress.any_blocked(connection, of):
            await self._bus.execute(CompleteReembedding(_context(move), live.name, of, target.spec, target.since))
            _log.info("every vector has an embedding of the new model", collection=live.name, model=target.spec.model)
        return None

    async def _look(
        self, connection: Connection, move: _Move, live: Collection, created: Sequence[_Created]
    ) -> _Looked:
        looked = _Looked()
        pending = {one.stream: one for one in created}
        for _ in range(_TRIES):
            states = await self._states.vectors(connection, dict.fromkeys(pending, live.specs))
            texts: dict[_Created, tuple[str, int]] = {}
            for stream, one in pending.items():
                vector = states[stream].live
                if vector is None:
                    continue
                if not vector.lacks(live.specs.target):
                    looked.embedded += 1
                elif vector.content is None or not vector.content.strip():
                    looked.blocked[one] = None
                else:
                    texts[one] = (vector.content, states[stream].version)
            if not texts:
                return looked
            operations = await self._operations(move.tenant, live, texts, looked)
            await self._append(move, live, operations, looked)
            # They are looked at again: one may have been changed meanwhile.
            pending = {one.stream: one for one in texts if one not in looked.blocked}
        looked.blocked |= dict.fromkeys(pending.values(), "it keeps being changed")
        return looked

    async def _operations(
        self, tenant: str, live: Collection, texts: dict[_Created, tuple[str, int]], looked: _Looked
    ) -> list[ReembedVector]:
        """
        Raises:
            NoProviderError, ModelMismatchError, ProviderUnavailableError, TooManyTextsError
        """
        spec = live.specs.target.spec
        contents = [content for content, _ in texts.values()]
        embedded = await self._embedder.embed_each(tenant, contents, spec, "content")
        operations: list[ReembedVector] = []
        for (one, (_, version)), embedding in zip(texts.items(), embedded, strict=True):
            if isinstance(embedding, TextRefusedError):
                looked.blocked[one] = str(embedding)
            elif (fault := embedding_fault(embedding.numbers, live.metric, live.type)) is not None:
                looked.blocked[one] = f"of the model's embedding: {fault.rule}"
            else:
                stored = StoredEmbedding(spec=spec, data=encode(embedding.numbers))
                operations.append(ReembedVector(one.id, (stored,), version))
        return operations

    async def _append(
        self, move: _Move, live: Collection, operations: Sequence[ReembedVector], looked: _Looked
    ) -> None:
        if not operations:
            return
        began = time.monotonic()
        outcome = await self._bus.execute(
            WriteVectors(
                context=_context(move),
                collection=live.name,
                collection_id=live.collection_id,
                operations=tuple(operations),
                size_bytes=sum(256 + len(one.embeddings[0].data) for one in operations),
                checked=live.checked,
            )
        )
        assert isinstance(outcome, VectorsOutcome)
        looked.seconds += time.monotonic() - began
        looked.last = outcome.last_position
        looked.appended += sum(operation.result == "updated" for operation in outcome.operations)

    async def _rest(self, read: Pool | None, looked: _Looked) -> None:
        if looked.last is None:
            return
        await self._backpressure.keep_pace(looked.appended)
        if read is not None:
            async with read.acquire() as connection:
                await projected(connection, looked.last)
        await asyncio.sleep(looked.seconds)

    async def _end(self, read: Pool | None, move: _Move, state: CollectionState, live: Collection) -> None:
        if read is None:
            return
        async with read.acquire() as connection:
            tables = await Tables.read(connection, state, live)
        if tables.searched and not tables.others:
            spec = live.specs.target.spec
            await self._bus.execute(EndReembedding(_context(move), live.name, live.collection_id, spec))
            _log.info("the collection has come to its model", collection=live.name, model=spec.model)


def _page_vectors(spec: EmbeddingSpec) -> int:
    """As many as make events of about so many bytes."""
    return max(1, min(PAGE_VECTORS, _PAGE_BYTES // (spec.dimension * 16 // 3)))


def _context(move: _Move) -> CommandContext:
    return CommandContext(move.tenant, EventMetadata(actor=ACTOR, request_id=str(uuid7())))
