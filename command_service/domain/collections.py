"""Collections: what their stream says, and what a command makes of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from command_service.domain.commands import CollectionCommand, CreateCollection, DeleteCollection, UpdateCollection
from command_service.domain.refusals import (
    CollectionExistsError,
    CollectionNotFoundError,
    NotIndexableError,
    VersionMismatchError,
)
from events_schema.collections import (
    CollectionCreated,
    CollectionDeleted,
    CollectionEvent,
    CollectionUpdated,
    IndexSpec,
    Metric,
    VectorType,
)
from events_schema.embedding import EmbeddingSpec

MAX_INDEXED_DIMENSION: dict[VectorType, int] = {"vector": 2_000, "halfvec": 4_000}


@dataclass(frozen=True, slots=True)
class Collection:
    """A live collection. Its dimension is that of its embedding_spec."""

    collection_id: UUID
    name: str
    metric: Metric
    type: VectorType
    index: IndexSpec
    embedding_spec: EmbeddingSpec
    description: str | None
    created_at: datetime
    month_partitions: bool = False
    restores: UUID | None = None
    """The deleted collection that it took the place of."""


@dataclass(frozen=True, slots=True)
class CollectionState:
    """The stream of a name: its version, the position of its last event, and the collection if one lives."""

    version: int = 0
    position: int = 0
    live: Collection | None = None


def decide(state: CollectionState, name: str, command: CollectionCommand) -> CollectionEvent | None:
    """The event that the command causes; None when it changes nothing.

    Raises:
        CollectionExistsError, CollectionNotFoundError, VersionMismatchError, NotIndexableError
    """
    match command:
        case CreateCollection():
            if state.live is not None:
                raise CollectionExistsError(name)
            return _created(command)
        case UpdateCollection():
            live = _expect(state, name, command.if_version)
            changed = {name: value for name, value in command.changes.items() if getattr(live, name) != value}
            if not changed:
                return None
            _expect_indexable(replace(live, **changed), frozenset(changed))
            return CollectionUpdated(**changed)
        case DeleteCollection():
            live = _expect(state, name, command.if_version)
            return CollectionDeleted(name=name, collection_id=live.collection_id)


def _expect(state: CollectionState, name: str, if_version: int | None) -> Collection:
    if state.live is None:
        raise CollectionNotFoundError(name)
    if if_version is not None and if_version != state.version:
        raise VersionMismatchError(f"the collection {name!r}", if_version, state.version)
    return state.live


def _expect_indexable(wanted: Collection, changed: frozenset[str]) -> None:
    limit, dimension = MAX_INDEXED_DIMENSION[wanted.type], wanted.embedding_spec.dimension
    if wanted.index.kind != "none" and dimension > limit:
        raise NotIndexableError("index" if "index" in changed else "type", wanted.type, limit, dimension)


def evolve(
    state: CollectionState, event: CollectionEvent, *, version: int, position: int, timestamp: datetime
) -> CollectionState:
    return CollectionState(version, position, _live_after(state, event, timestamp))


def _live_after(state: CollectionState, event: CollectionEvent, timestamp: datetime) -> Collection | None:
    match event:
        case CollectionCreated():
            return _collection(event, timestamp)
        case CollectionUpdated():
            assert state.live is not None
            return replace(state.live, **{name: getattr(event, name) for name in event.model_fields_set})
        case CollectionDeleted():
            return None


def planned(command: CreateCollection, now: datetime) -> Collection:
    """What the command will have made, if it is accepted."""
    return _collection(_created(command), now)


def _created(command: CreateCollection) -> CollectionCreated:
    return CollectionCreated(
        name=command.name,
        collection_id=command.collection_id,
        metric=command.metric,
        type=command.type,
        index=command.index,
        embedding_spec=command.embedding_spec,
        description=command.description,
        # Software that does not know the field reads events that do not need it.
        **({"month_partitions": True} if command.month_partitions else {}),
        **({} if command.restores is None else {"restores": command.restores}),
    )


def _collection(event: CollectionCreated, created_at: datetime) -> Collection:
    return Collection(
        collection_id=event.collection_id,
        name=event.name,
        metric=event.metric,
        type=event.type,
        index=event.index,
        embedding_spec=event.embedding_spec,
        description=event.description,
        created_at=created_at,
        month_partitions=event.month_partitions,
        restores=event.restores,
    )
