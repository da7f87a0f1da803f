"""Bringing back what was changed or deleted, by events that say so: the log only grows.

A vector comes back as it was at a version; everything that one request changed or deleted, as it was before that
request; a deleted collection, as a new one with a collection_id of its own. The last two take what they have to do in
pages, each a transaction of at most a page's events; whoever is interrupted goes on with the cursor of the last answer,
or begins again: what is back already appends nothing.

Embeddings come back as they were; where the collection has come to another model since, the content is embedded anew.
What has neither is left as it is, and reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

import asyncpg
from uuid_utils.compat import uuid7

from command_service.domain.collections import Collection, CollectionState, evolve
from command_service.domain.commands import CommandContext, CreateCollection, UpsertVector
from command_service.domain.refusals import (
    BatchRefusedError,
    CollectionChangedError,
    CollectionDeletedError,
    CollectionExistsError,
    CollectionNotFoundError,
    VectorNotFoundError,
    VersionMismatchError,
)
from command_service.outcomes import CollectionOutcome, VectorsOutcome
from command_service.restored_embeddings import ComingBack, bring_back
from command_service.service import CommandService, WriteTarget
from command_service.writing import UNPREPARED, by_what_it_is
from events_schema.base import RecordedEvent
from events_schema.collections import CollectionDeleted
from events_schema.registry import decode_event
from events_schema.specs import EmbeddingSpecs
from events_schema.streams import vector_stream
from events_schema.vectors import VectorDeleted
from shared.event_log import read_collection_stream
from shared.past_specs import PastSpecs
from shared.past_vectors import read_past_state

PAGE_EVENTS = 250
TRANSACTION_BYTES = 4 * 1024 * 1024

_RACES = 5

# All of the request's events are found first: the planner must not walk the whole log in the order of positions. Nobody
# has changed what was only embedded anew since.
_EVENTS_OF_REQUEST = """
WITH found AS MATERIALIZED (
    SELECT position, collection_id, aggregate_id, version FROM events
    WHERE (metadata ->> 'request_id') = $1 AND tenant = $2 AND aggregate_type = 'vector'
),
page AS (SELECT * FROM found WHERE position > $3 ORDER BY position LIMIT $4)
SELECT p.position, p.collection_id, p.aggregate_id, e.event_data ->> 'id' AS id, f.first_version, f.last_version,
       c.version AS current_version, c.event_type AS current_type, w.version AS written_version
FROM page p JOIN events e USING (position)
CROSS JOIN LATERAL (
    SELECT min(version) AS first_version, max(version) AS last_version FROM found WHERE aggregate_id = p.aggregate_id
) f
CROSS JOIN LATERAL (
    SELECT version, event_type FROM events WHERE aggregate_id = p.aggregate_id ORDER BY version DESC LIMIT 1
) c
CROSS JOIN LATERAL (
    SELECT version FROM events WHERE aggregate_id = p.aggregate_id AND event_type <> 'VectorReembedded'
    ORDER BY version DESC LIMIT 1
) w
ORDER BY p.position
"""

# A vector that was created several times is met once for each; its last event says what there was in the end.
_VECTORS_OF_COLLECTION = """
WITH page AS (
    SELECT position, aggregate_id FROM events
    WHERE collection_id = $1 AND event_type = 'VectorCreated' AND position > $2 ORDER BY position LIMIT $3
)
SELECT p.position, p.aggregate_id, l.version, l.event_type FROM page p
CROSS JOIN LATERAL (
    SELECT version, event_type FROM events WHERE aggregate_id = p.aggregate_id ORDER BY version DESC LIMIT 1
) l
ORDER BY p.position
"""

Reason = Literal["created", "changed_since", "collection_deleted", "no_embedding"]


@dataclass(frozen=True, slots=True)
class Skipped:
    """A vector that was left as it is: the request created it, somebody changed it since, its collection is gone, or
    it has no embedding that the collection can hold by now, nor a content that can be embedded."""

    collection_id: UUID
    id: str
    reason: Reason


@dataclass(slots=True)
class Restored:
    """What one page came to. `after` is the position behind which the next one begins; None: that was the last."""

    restored: int = 0
    unchanged: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    outcomes: list[VectorsOutcome | CollectionOutcome] = field(default_factory=list)
    after: int | None = None


class Restoring:
    def __init__(self, service: CommandService) -> None:
        self._service = service

    async def vector(
        self, context: CommandContext, collection: Collection, vector_id: str, version: int, if_version: int | None
    ) -> UpsertVector:
        """The operation that puts the vector back to what it was at a version.

        Raises:
            VectorNotFoundError: it had no such version, or was deleted with it.
            SpecChangedError: its embedding then was of another model, and its content cannot be embedded.
            NoPlaceError: its embedding is none for what the collection has become.
            ProviderUnavailableError, TooManyTextsError
        """
        stream = vector_stream(collection.collection_id, vector_id)
        async with self._service.events() as connection:
            state = await read_past_state(connection, stream, context.tenant, version)
            past = await read_collection_stream(connection, collection.collection_id)
        if state is None:
            raise VectorNotFoundError(vector_id)
        coming = ComingBack(state, if_version)
        [operation] = await bring_back(self._service, context.tenant, collection, past, [coming])
        if not isinstance(operation, UpsertVector):
            raise operation
        return operation

    async def request(self, context: CommandContext, request_id: str, after: int, *, force: bool) -> Restored:
        """A page of what the request changed or deleted. `force`: also what was changed since."""
        context = _caused_by(context, request_id)
        rows = await self._rows(context, request_id, after)
        page = Restored(after=rows[-1]["position"] if len(rows) == PAGE_EVENTS else None)
        for collection_id in dict.fromkeys(row["collection_id"] for row in rows):
            done: set[str] = set()
            races = 0
            while True:
                # Of each vector the last of its events.
                left = {
                    row["id"]: row for row in rows if row["collection_id"] == collection_id and row["id"] not in done
                }
                before = len(done)
                if await self._restore_rows(context, collection_id, list(left.values()), page, done, force=force):
                    break
                races = races + 1 if len(done) == before else 0
                if races == _RACES:
                    raise VectorsKeepChangingError(request_id)
                rows = await self._rows(context, request_id, after)
        return page

    async def _rows(self, context: CommandContext, request_id: str, after: int) -> list[asyncpg.Record]:
        async with self._service.events() as connection:
            return await connection.fetch(_EVENTS_OF_REQUEST, request_id, context.tenant, after, PAGE_EVENTS)

    async def _restore_rows(
        self,
        context: CommandContext,
        collection_id: UUID,
        rows: Sequence[asyncpg.Record],
        page: Restored,
        done: set[str],
        *,
        force: bool,
    ) -> bool:
        """`done` gets the ids of those that are. False: something changed meanwhile, so the rest is to be looked at
        again."""
        collection, past = await self._live(context.tenant, collection_id)
        coming: list[ComingBack] = []
        skipped: list[Skipped] = []
        for row in rows:
            reason = _reason_to_skip(collection, row, force=force)
            state = None
            if reason is None:
                async with self._service.events() as connection:
                    state = await read_past_state(
                        connection, row["aggregate_id"], context.tenant, row["first_version"] - 1
                    )
                reason = "created" if state is None else None
            if reason is not None:
                skipped.append(Skipped(collection_id, row["id"], reason))
                continue
            assert state is not None
            if force:
                coming.append(ComingBack(state))
            elif row["current_type"] == VectorDeleted.event_type:
                coming.append(ComingBack(state, if_version=0))
            else:
                coming.append(ComingBack(state, if_written=row["current_version"]))
        if coming:
            assert collection is not None
            target = WriteTarget(collection)
            try:
                await self._bring_back(context, target, past, coming, page, done)
            except UNPREPARED:
                if not await self._service.is_outdated(context.tenant, target):
                    raise
                return False
            except (BatchRefusedError, CollectionChangedError, CollectionDeletedError):
                return False
        page.skipped += skipped
        return True

    async def collection(
        self, context: CommandContext, name: str, collection_id: UUID, after: int
    ) -> tuple[Collection, Restored]:
        """A page of a deleted collection's vectors into the collection that takes its place, made with the first one.

        Raises:
            CollectionNotFoundError: the tenant never had a collection with this id, or it is not deleted.
            CollectionExistsError: another collection bears the name.
        """
        async with self._service.events() as connection:
            past = await read_collection_stream(connection, collection_id)
            if not past or past[0].tenant != context.tenant or past[-1].event_type != CollectionDeleted.event_type:
                raise CollectionNotFoundError(str(collection_id))
            rows = await connection.fetch(_VECTORS_OF_COLLECTION, collection_id, after, PAGE_EVENTS)
            alive = {row["aggregate_id"]: row for row in rows if row["event_type"] != VectorDeleted.event_type}
            coming = [
                ComingBack(state)
                for stream, row in alive.items()
                if (state := await read_past_state(connection, stream, context.tenant, row["version"])) is not None
            ]
        context = _caused_by(context, str(past[-1].event_id))
        page = Restored(after=rows[-1]["position"] if len(rows) == PAGE_EVENTS else None)
        done: set[str] = set()

        async def find_target() -> WriteTarget:
            return WriteTarget(await self._successor(context, name, collection_id, past, page))

        async def fill(target: WriteTarget) -> Collection:
            await self._bring_back(context, target, past, coming, page, done)
            return target.collection

        return await by_what_it_is(self._service, context, find_target, fill), page

    async def _successor(
        self, context: CommandContext, name: str, collection_id: UUID, past: Sequence[RecordedEvent], page: Restored
    ) -> Collection:
        present = await self._service.resolve(context.tenant, name)
        if present is None:
            was = _last_definition(past)
            creation = CreateCollection(
                context=context,
                name=name,
                collection_id=uuid7(),
                metric=was.metric,
                type=was.type,
                index=was.index,
                embedding_spec=_last_specs(past).served,
                description=was.description,
                month_partitions=was.month_partitions,
                metadata_indexes=was.metadata_indexes,
                restores=collection_id,
                retention_seconds=was.retention_seconds,
            )
            page.outcomes.append(await self._service.change_collection(creation))
            present = await self._service.resolve(context.tenant, name)
        if present is None or present.collection.restores != collection_id:
            raise CollectionExistsError(name)
        return present.collection

    async def _live(self, tenant: str, collection_id: UUID) -> tuple[Collection | None, Sequence[RecordedEvent]]:
        """The collection, None if it is deleted, and its events."""
        async with self._service.events() as connection:
            past = await read_collection_stream(connection, collection_id)
        if not past or past[0].tenant != tenant:
            return None, past
        found = await self._service.resolve(tenant, past[0].event_data["name"])
        is_there = found is not None and found.collection.collection_id == collection_id
        return found.collection if found is not None and is_there else None, past

    async def _bring_back(
        self,
        context: CommandContext,
        target: WriteTarget,
        past: Sequence[RecordedEvent],
        coming: Sequence[ComingBack],
        page: Restored,
        done: set[str],
    ) -> None:
        """`past` are the events of the collection that the vectors are from; those that `done` names are back, and
        those that come back are added to it, as are those that nobody sees any more."""
        left = [one for one in coming if one.state.id not in done]
        if not left:
            return
        brought = await bring_back(self._service, context.tenant, target.collection, past, left)
        for part in _within([one for one in brought if isinstance(one, UpsertVector)], TRANSACTION_BYTES):
            try:
                outcome = await self._service.write(context, target, part)
            except BatchRefusedError as refused:
                gone = list(_gone(part, refused))
                page.skipped += [Skipped(past[0].collection_id, vector_id, "changed_since") for vector_id in gone]
                done.update(gone)
                raise
            unchanged = sum(operation.result == "unchanged" for operation in outcome.operations)
            page.unchanged += unchanged
            page.restored += len(outcome.operations) - unchanged
            page.outcomes.append(outcome)
            done.update(operation.id for operation in outcome.operations)
        page.skipped += [
            Skipped(past[0].collection_id, one.state.id, "no_embedding")
            for one, operation in zip(left, brought, strict=True)
            if not isinstance(operation, UpsertVector)
        ]


class VectorsKeepChangingError(Exception):
    """Vectors of the page were changed by others each time that it was tried. Try again."""

    def __init__(self, request_id: str) -> None:
        super().__init__(f"vectors of the request {request_id!r} keep being changed; try again")


def _reason_to_skip(collection: Collection | None, row: asyncpg.Record, *, force: bool) -> Reason | None:
    if collection is None:
        return "collection_deleted"
    if row["first_version"] == 1:
        return "created"
    return None if force or row["written_version"] == row["last_version"] else "changed_since"


def _gone(operations: Sequence[UpsertVector], refused: BatchRefusedError) -> Iterator[str]:
    """What was there when it was looked for, and has expired, whether an event says so yet or not."""
    for index, refusal in refused.refusals:
        was_there = operations[index].if_written is not None
        if was_there and isinstance(refusal, VersionMismatchError) and refusal.current == 0:
            yield operations[index].id


def _last_definition(past: Sequence[RecordedEvent]) -> Collection:
    """What the collection was before its deletion, the last of these events."""
    state = CollectionState()
    for event in past[:-1]:
        decoded = decode_event(event.event_type, event.schema_version, event.event_data)
        state = evolve(state, decoded, version=event.version, position=event.position, timestamp=event.timestamp)
    assert state.live is not None
    return state.live


def _last_specs(past: Sequence[RecordedEvent]) -> EmbeddingSpecs:
    """What the collection had at its deletion, the last of these events."""
    specs = PastSpecs(past).at(past[-1].position)
    assert specs is not None
    return specs


def _within(operations: Sequence[UpsertVector], most_bytes: int) -> Iterator[list[UpsertVector]]:
    """The operations in order, in parts of about so many bytes of events, each of at least one."""
    part: list[UpsertVector] = []
    size = 0
    for operation in operations:
        if part and size + len(operation.event.serialised) > most_bytes:
            yield part
            part, size = [], 0
        part.append(operation)
        size += len(operation.event.serialised)
    if part:
        yield part


def _caused_by(context: CommandContext, cause: str) -> CommandContext:
    """Without an idempotency key: that would replay the first transaction's outcome for all others. None is needed."""
    return CommandContext(context.tenant, context.metadata.model_copy(update={"causation_id": cause}))
