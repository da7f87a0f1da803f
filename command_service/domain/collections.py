"""Collections: what their stream says, and what a command makes of it."""

from __future__ import annotations

from collections.abc import Collection as Names
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from command_service.domain.commands import CollectionCommand, CreateCollection, DeleteCollection, UpdateCollection
from command_service.domain.refusals import (
    AliasExistsError,
    CollectionAliasedError,
    CollectionExistsError,
    CollectionNotFoundError,
    NotIndexableError,
    VersionMismatchError,
)
from events_schema.aliases import AliasEvent, AliasRemoved, AliasSet
from events_schema.collections import (
    CollectionCreated,
    CollectionDeleted,
    CollectionEvent,
    CollectionUpdated,
    IndexSpec,
    MetadataIndexSpec,
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
    metadata_indexes: tuple[MetadataIndexSpec, ...] = ()
    restores: UUID | None = None
    """The deleted collection that it took the place of."""
    retention_seconds: int | None = None
    """A vector that was not changed for so long expires."""


@dataclass(frozen=True, slots=True)
class Alias:
    """What a name stands for that is no collection's own."""

    collection: str
    collection_id: UUID


@dataclass(frozen=True, slots=True)
class CollectionState:
    """The stream of a name: its version, the position of its last event, and what bears the name: a collection, an
    alias, or nothing."""

    version: int = 0
    position: int = 0
    live: Collection | None = None
    alias: Alias | None = None


def decide(
    state: CollectionState, name: str, command: CollectionCommand, aliases: Names[str] = ()
) -> CollectionEvent | None:
    """The event that the command causes; None when it changes nothing. `aliases` are those of the collection.

    Raises:
        CollectionExistsError, AliasExistsError, CollectionNotFoundError, VersionMismatchError, NotIndexableError,
        CollectionAliasedError
    """
    match command:
        case CreateCollection():
            if state.live is not None:
                raise CollectionExistsError(name)
            if state.alias is not None:
                raise AliasExistsError(name, state.alias.collection)
            return _created(command)
        case UpdateCollection():
            live = _expect(state, name, command.if_version)
            changed = {name: value for name, value in command.changes.items() if getattr(live, name) != value}
            if not changed:
                return None
            _expect_indexable(replace(live, **changed), frozenset(changed))
            return CollectionUpdated(**changed)
        case DeleteCollection():
            if state.live is not None and aliases:
                raise CollectionAliasedError(name, tuple(sorted(aliases)))
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
    state: CollectionState, event: CollectionEvent | AliasEvent, *, version: int, position: int, timestamp: datetime
) -> CollectionState:
    match event:
        case CollectionCreated():
            return CollectionState(version, position, live=_collection(event, timestamp))
        case CollectionUpdated():
            assert state.live is not None
            changed = {name: getattr(event, name) for name in event.model_fields_set}
            return CollectionState(version, position, live=replace(state.live, **changed))
        case AliasSet():
            return CollectionState(version, position, alias=Alias(event.collection, event.collection_id))
        case CollectionDeleted() | AliasRemoved():
            return CollectionState(version, position)


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
        # Software that does not know a field reads events that do not need it.
        **({"month_partitions": True} if command.month_partitions else {}),
        **({"metadata_indexes": command.metadata_indexes} if command.metadata_indexes else {}),
        **({} if command.restores is None else {"restores": command.restores}),
        **({} if command.retention_seconds is None else {"retention_seconds": command.retention_seconds}),
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
        metadata_indexes=event.metadata_indexes,
        restores=event.restores,
        retention_seconds=event.retention_seconds,
    )
