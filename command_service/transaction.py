"""One group commit: decides many commands in memory, in order, against what the lock's holder read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from uuid_utils.compat import uuid7

from command_service import event_store
from command_service.command_queue import Pending
from command_service.domain import aliases, collections, vectors
from command_service.domain.collections import CollectionState
from command_service.domain.commands import (
    AliasCommand,
    CollectionCommand,
    Command,
    CommandContext,
    CompleteReembedding,
    CreateCollection,
    CreateVector,
    DeleteCollection,
    EndReembedding,
    PatchVector,
    RemoveAlias,
    SetAlias,
    UpdateCollection,
    UpsertVector,
    VectorOperation,
    WriteVectors,
)
from command_service.domain.refusals import (
    BatchRefusedError,
    CollectionChangedError,
    CollectionDeletedError,
    IdempotencyKeyReusedError,
    MetadataTooLargeError,
    RefusalError,
    VectorNotFoundError,
    VersionMismatchError,
)
from command_service.domain.vectors import VectorState
from command_service.event_store import LogEnd, NewEvent, StoredKey
from command_service.outcomes import (
    OUTCOME,
    AliasOutcome,
    CollectionOutcome,
    OperationOutcome,
    Outcome,
    Result,
    SkippedOutcome,
    SkipReason,
    VectorsOutcome,
)
from command_service.stream_states import StreamStates
from events_schema.aliases import AliasEvent
from events_schema.base import AggregateType, Event
from events_schema.collections import CollectionEvent
from events_schema.specs import EmbeddingSpecs
from events_schema.streams import collection_stream
from events_schema.vectors import VectorCreated, VectorDeleted, VectorEvent, VectorReembedded, VectorUpdated
from shared.postgres import Connection

MAX_REPORTED_REFUSALS = 100

_SKIP_REASONS: Mapping[type[RefusalError], SkipReason] = {
    VersionMismatchError: "changed_meanwhile",
    VectorNotFoundError: "changed_meanwhile",
    MetadataTooLargeError: "metadata_too_large",
}


@dataclass(slots=True)
class Decided:
    """What a transaction's commands came to, in their order, and what has to be written for it."""

    answers: list[Outcome | RefusalError] = field(default_factory=list)
    events: list[NewEvent] = field(default_factory=list)
    keys: list[StoredKey] = field(default_factory=list)
    collections: dict[UUID, CollectionState] = field(default_factory=dict)


async def decide_all(
    connection: Connection, pending: Sequence[Pending], states: StreamStates, retention: timedelta
) -> Decided:
    """Reads what the commands need and decides them. The caller holds the append lock, appends and commits."""
    commands = [one.command for one in pending]
    named = {(one.context.tenant, name) for one in commands for name in _names(one)}
    streams = [collection_stream(tenant, name) for tenant, name in named]
    end = await event_store.read_log_end(connection, streams)
    states.see_end(end.log_id, end.position)
    wanted_keys = {
        (one.context.tenant, one.context.idempotency.key) for one in commands if one.context.idempotency is not None
    }
    keys = await event_store.find_keys(connection, list(wanted_keys), retention) if wanted_keys else {}
    collection_states = await states.collections(connection, dict(zip(streams, end.versions, strict=True)))
    vector_streams = {
        stream: specs
        for one in commands
        if isinstance(one, WriteVectors)
        for specs in (_specs(one, collection_states),)
        for stream in one.streams
    }
    vector_states = await states.vectors(connection, vector_streams) if vector_streams else {}
    doomed = [one for one in commands if isinstance(one, DeleteCollection)]
    known_aliases = await _aliases(connection, doomed, collection_states) if doomed else {}
    decision = _Decision(end, collection_states, known_aliases, vector_states, keys)
    for command in commands:
        decision.add(command)
    return decision.decided


def _specs(command: WriteVectors, states: Mapping[UUID, CollectionState]) -> EmbeddingSpecs | None:
    live = states[collection_stream(command.context.tenant, command.collection)].live
    return None if live is None else live.specs


def _names(command: Command) -> Iterator[str]:
    """Those whose streams say what the command may do."""
    match command:
        case WriteVectors():
            yield command.collection
        case SetAlias():
            yield command.name
            yield command.collection
        case (
            CreateCollection()
            | UpdateCollection()
            | DeleteCollection()
            | CompleteReembedding()
            | EndReembedding()
            | RemoveAlias()
        ):
            yield command.name
    if isinstance(command, WriteVectors | UpdateCollection | DeleteCollection) and command.alias is not None:
        yield command.alias


async def _aliases(
    connection: Connection, commands: Sequence[DeleteCollection], states: Mapping[UUID, CollectionState]
) -> dict[UUID, set[str]]:
    named = [states[collection_stream(one.context.tenant, one.name)].live for one in commands]
    return await event_store.read_aliases(connection, [live.collection_id for live in named if live is not None])


class _Decision:
    """The states as they are after the commands decided so far."""

    def __init__(
        self,
        end: LogEnd,
        collection_states: dict[UUID, CollectionState],
        known_aliases: dict[UUID, set[str]],
        vector_states: dict[UUID, VectorState],
        keys: dict[tuple[str, str], StoredKey],
    ) -> None:
        self._end = end
        self._collections = collection_states
        # Of the collections that are to be deleted, and of those that get one in this transaction.
        self._aliases = known_aliases
        self._vectors = vector_states
        self._keys = keys
        self.decided = Decided(collections=collection_states)

    def add(self, command: Command) -> None:
        try:
            self.decided.answers.append(self._answer(command))
        except RefusalError as refusal:
            self.decided.answers.append(refusal)

    def _answer(self, command: Command) -> Outcome:
        idempotency = command.context.idempotency
        if idempotency is None:
            return self._decide(command)
        found = self._keys.get((command.context.tenant, idempotency.key))
        if found is not None:
            if found.request_hash != idempotency.request_hash:
                raise IdempotencyKeyReusedError(idempotency.key)
            return OUTCOME.validate_json(found.response)
        outcome = self._decide(command)
        stored = StoredKey(command.context.tenant, idempotency.key, idempotency.request_hash, outcome.model_dump_json())
        self._keys[stored.tenant, stored.key] = stored
        self.decided.keys.append(stored)
        return outcome

    def _decide(self, command: Command) -> Outcome:
        match command:
            case WriteVectors():
                return self._write_vectors(command)
            case (
                CreateCollection() | UpdateCollection() | DeleteCollection() | CompleteReembedding() | EndReembedding()
            ):
                return self._change_collection(command)
            case SetAlias() | RemoveAlias():
                return self._change_alias(command)

    @property
    def _next_position(self) -> int:
        return self._end.position + len(self.decided.events) + 1

    def _change_collection(self, command: CollectionCommand) -> CollectionOutcome:
        stream = collection_stream(command.context.tenant, command.name)
        before = self._collections[stream]
        if isinstance(command, UpdateCollection | DeleteCollection):
            self._expect_alias(command.context.tenant, command.alias, command.name)
            if before.alias is not None:
                raise CollectionChangedError(command.name)
        known = () if before.live is None else self._aliases.get(before.live.collection_id, ())
        event = collections.decide(before, command.name, command, known)
        after = before if event is None else self._after(before, event)
        described = after.live or before.live
        assert described is not None
        if event is not None:
            self._record_collection(command.context, event, described.collection_id, stream, after)
        return CollectionOutcome(
            log_id=self._end.log_id,
            first_position=after.position,
            last_position=after.position,
            result="unchanged" if event is None else _collection_result(command),
            name=command.name,
            collection_id=described.collection_id,
            version=after.version,
            metric=described.metric,
            type=described.type,
            index=described.index,
            embedding_spec=described.specs.target.spec,
            description=described.description,
            month_partitions=described.month_partitions,
            metadata_indexes=described.metadata_indexes,
            retention_seconds=described.retention_seconds,
        )

    def _change_alias(self, command: AliasCommand) -> AliasOutcome:
        tenant = command.context.tenant
        stream = collection_stream(tenant, command.name)
        before = self._collections[stream]
        aim = before
        if isinstance(command, SetAlias):
            aim = self._collections[collection_stream(tenant, command.collection)]
        event = aliases.decide(before, aim, command)
        after = before if event is None else self._after(before, event)
        stands_for = after.alias or before.alias
        assert stands_for is not None
        if event is not None:
            if before.alias is not None:
                self._aliases.setdefault(before.alias.collection_id, set()).discard(command.name)
            if after.alias is not None:
                self._aliases.setdefault(after.alias.collection_id, set()).add(command.name)
            self._record_collection(command.context, event, event.collection_id, stream, after)
        changed: Result = "deleted" if after.alias is None else "created" if before.alias is None else "updated"
        return AliasOutcome(
            log_id=self._end.log_id,
            first_position=after.position,
            last_position=after.position,
            result="unchanged" if event is None else changed,
            name=command.name,
            collection=stands_for.collection,
            collection_id=stands_for.collection_id,
            version=after.version,
        )

    def _expect_alias(self, tenant: str, alias: str | None, collection: str) -> None:
        """
        Raises:
            CollectionChangedError: the alias by which the collection was named stands for another one, or for none.
        """
        if alias is None:
            return
        state = self._collections[collection_stream(tenant, alias)]
        if state.alias is None or state.alias.collection != collection:
            raise CollectionChangedError(alias)

    def _after(self, before: CollectionState, event: CollectionEvent | AliasEvent) -> CollectionState:
        """The stream of a name as it is when `event` is the next one."""
        return collections.evolve(
            before,
            event,
            version=before.version + 1,
            position=self._next_position,
            timestamp=self._end.timestamp,
        )

    def _record_collection(
        self,
        context: CommandContext,
        event: CollectionEvent | AliasEvent,
        collection_id: UUID,
        stream: UUID,
        after: CollectionState,
    ) -> None:
        self._record(
            context,
            event,
            collection_id=collection_id,
            aggregate_id=stream,
            version=after.version,
            metadata=context.metadata.model_dump_json(exclude_none=True),
        )
        self._collections[stream] = after

    def _write_vectors(self, command: WriteVectors) -> VectorsOutcome:
        self._expect_alias(command.context.tenant, command.alias, command.collection)
        collection = collection_stream(command.context.tenant, command.collection)
        state, creation = self._collections[collection], None
        if state.alias is not None:
            raise CollectionChangedError(command.collection)
        if state.live is None and command.creation is not None:
            creation = collections.decide(state, command.collection, command.creation)
            assert creation is not None
            state = self._after(state, creation)
        live = state.live
        if live is None or live.collection_id != command.collection_id:
            raise CollectionDeletedError(command.collection)
        if command.checked not in (None, live.checked):
            raise CollectionChangedError(command.collection)
        changed: dict[UUID, VectorState] = {}
        appended: list[tuple[UUID, VectorState, VectorEvent]] = []
        operations: list[OperationOutcome] = []
        skipped: list[SkippedOutcome] = []
        refusals: list[tuple[int, RefusalError]] = []
        first = self._next_position + (creation is not None)
        for index, (stream, operation) in enumerate(zip(command.streams, command.operations, strict=True)):
            before = changed.get(stream) or self._vectors.get(stream) or VectorState()
            try:
                events = vectors.decide(
                    before,
                    operation,
                    live.specs,
                    now=self._end.timestamp,
                    retention_seconds=live.retention_seconds,
                )
            except RefusalError as refusal:
                reason = _SKIP_REASONS.get(type(refusal)) if command.leaves_out else None
                if reason is not None:
                    skipped.append(SkippedOutcome(id=operation.id, reason=reason))
                elif len(refusals) < MAX_REPORTED_REFUSALS:
                    refusals.append((index, refusal))
                continue
            after = before
            for event in events:
                after = vectors.evolve(
                    after,
                    event,
                    version=after.version + 1,
                    position=first + len(appended),
                    timestamp=self._end.timestamp,
                )
                appended.append((stream, after, event))
            changed[stream] = after
            operations.append(_outcome(operation, _vector_result(events[-1]) if events else "unchanged", after))
        if refusals:
            raise BatchRefusedError(tuple(refusals))
        if creation is not None:
            self._record_collection(command.context, creation, command.collection_id, collection, state)
        metadata = command.context.metadata.model_dump_json(exclude_none=True)
        for stream, after, event in appended:
            self._record(
                command.context,
                event,
                collection_id=command.collection_id,
                aggregate_id=stream,
                version=after.version,
                metadata=metadata,
            )
        self._vectors.update(changed)
        last = max((operation.position for operation in operations), default=self._end.position)
        return VectorsOutcome(
            log_id=self._end.log_id,
            first_position=first if appended else last,
            last_position=last,
            operations=tuple(operations),
            collection=command.collection,
            collection_id=command.collection_id,
            skipped=tuple(skipped),
        )

    def _record(
        self,
        context: CommandContext,
        event: CollectionEvent | AliasEvent | VectorEvent,
        *,
        collection_id: UUID,
        aggregate_id: UUID,
        version: int,
        metadata: str,
    ) -> None:
        self.decided.events.append(
            NewEvent(
                position=self._next_position,
                event_id=uuid7(),
                tenant=context.tenant,
                collection_id=collection_id,
                aggregate_id=aggregate_id,
                aggregate_type=_aggregate_type(event),
                version=version,
                event_type=event.event_type,
                schema_version=event.schema_version,
                event_data=event.serialised,
                metadata=metadata,
                timestamp=self._end.timestamp,
            )
        )


def _aggregate_type(event: Event) -> AggregateType:
    if isinstance(event, VectorEvent):
        return "vector"
    return "alias" if isinstance(event, AliasEvent) else "collection"


def _outcome(operation: VectorOperation, result: Result, state: VectorState) -> OperationOutcome:
    truncated = isinstance(operation, CreateVector | UpsertVector | PatchVector) and operation.truncated
    return OperationOutcome(
        id=operation.id, result=result, version=state.version, position=state.position, truncated=truncated
    )


def _collection_result(command: CollectionCommand) -> Result:
    match command:
        case CreateCollection():
            return "created"
        case UpdateCollection() | CompleteReembedding() | EndReembedding():
            return "updated"
        case DeleteCollection():
            return "deleted"


def _vector_result(event: VectorEvent) -> Result:
    match event:
        case VectorCreated():
            return "created"
        case VectorUpdated() | VectorReembedded():
            return "updated"
        case VectorDeleted():
            return "deleted"


def event_ids(events: Iterable[NewEvent]) -> list[UUID]:
    return [event.event_id for event in events]
