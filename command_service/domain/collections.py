"""Collections: what their stream says, and what a command makes of it."""

from __future__ import annotations

from collections.abc import Collection as Names
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from command_service.domain.commands import (
    Checked,
    CollectionCommand,
    CompleteReembedding,
    CreateCollection,
    DeleteCollection,
    EndReembedding,
    UpdateCollection,
)
from command_service.domain.refusals import (
    AliasExistsError,
    CollectionAliasedError,
    CollectionChangedError,
    CollectionDeletedError,
    CollectionExistsError,
    CollectionNotFoundError,
    NotIndexableError,
    ReembeddingInProgressError,
    VersionMismatchError,
)
from events_schema.aliases import AliasEvent, AliasRemoved, AliasSet
from events_schema.collections import (
    MAX_INDEXED_DIMENSION,
    CollectionCreated,
    CollectionDeleted,
    CollectionEvent,
    CollectionReembedded,
    CollectionUpdated,
    IndexSpec,
    MetadataIndexSpec,
    Metric,
    VectorType,
)
from events_schema.embedding import EmbeddingSpec
from events_schema.specs import EmbeddingSpecs


@dataclass(frozen=True, slots=True)
class Collection:
    """A live collection."""

    collection_id: UUID
    name: str
    metric: Metric
    type: VectorType
    index: IndexSpec
    specs: EmbeddingSpecs
    description: str | None
    created_at: datetime
    month_partitions: bool = False
    metadata_indexes: tuple[MetadataIndexSpec, ...] = ()
    restores: UUID | None = None
    """The deleted collection that it took the place of."""
    retention_seconds: int | None = None
    """A vector that was not changed for so long expires."""

    @property
    def embedding_spec(self) -> EmbeddingSpec:
        """What it is searched by, or is about to be."""
        return self.specs.served

    @property
    def checked(self) -> Checked:
        """What a write is prepared for."""
        return Checked(self.metric, self.type, self.specs.specs)


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
        CollectionAliasedError, ReembeddingInProgressError
        CollectionDeletedError: it is not the collection any more that was moving.
        CollectionChangedError: it left the spec to which it is to go back.
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
            if command.move_to is not None:
                changed |= _moved(name, live.specs, command.move_to)
            if not changed:
                return None
            event = CollectionUpdated(**changed)
            _expect_indexable(_updated(live, event, state.position + 1), frozenset(changed))
            return event
        case DeleteCollection():
            if state.live is not None and aliases:
                raise CollectionAliasedError(name, tuple(sorted(aliases)))
            live = _expect(state, name, command.if_version)
            return CollectionDeleted(name=name, collection_id=live.collection_id)
        case CompleteReembedding():
            target = _moving(state, command).specs.target
            if target.complete or (target.spec, target.since) != (command.embedding_spec, command.since):
                return None
            return CollectionReembedded(embedding_spec=command.embedding_spec)
        case EndReembedding():
            specs = _moving(state, command).specs
            if specs.target.spec != command.embedding_spec or not specs.target.complete or not specs.others:
                return None
            return CollectionUpdated(other_specs=())


def _moving(state: CollectionState, command: CompleteReembedding | EndReembedding) -> Collection:
    if state.live is None or state.live.collection_id != command.collection_id:
        raise CollectionDeletedError(command.name)
    return state.live


def _moved(name: str, specs: EmbeddingSpecs, wanted: EmbeddingSpec) -> dict[str, Any]:
    """The fields of CollectionUpdated by which `wanted` becomes the target. What is not complete holds nothing that
    would be needed, so it is left at once."""
    if wanted == specs.target.spec:
        return {}
    if specs.find(wanted) is None:
        if specs.target.complete and specs.others:
            raise ReembeddingInProgressError(name, specs.target.spec.model)
        if wanted.provider == "client":
            raise CollectionChangedError(name)
    others = tuple(one.spec for one in specs.live if one.complete and one.spec != wanted)
    return {"embedding_spec": wanted, "other_specs": others}


def _expect(state: CollectionState, name: str, if_version: int | None) -> Collection:
    if state.live is None:
        raise CollectionNotFoundError(name)
    if if_version is not None and if_version != state.version:
        raise VersionMismatchError(f"the collection {name!r}", if_version, state.version)
    return state.live


def _expect_indexable(wanted: Collection, changed: frozenset[str]) -> None:
    limit = MAX_INDEXED_DIMENSION[wanted.type]
    dimension = max(spec.dimension for spec in wanted.specs.specs)
    if wanted.index.kind != "none" and dimension > limit:
        field = "index" if "index" in changed else "type" if "type" in changed else "model"
        raise NotIndexableError(field, wanted.type, limit, dimension)


def evolve(
    state: CollectionState, event: CollectionEvent | AliasEvent, *, version: int, position: int, timestamp: datetime
) -> CollectionState:
    match event:
        case CollectionCreated():
            return CollectionState(version, position, live=_collection(event, timestamp))
        case CollectionUpdated():
            assert state.live is not None
            return CollectionState(version, position, live=_updated(state.live, event, position))
        case CollectionReembedded():
            assert state.live is not None
            completed = replace(state.live, specs=state.live.specs.after(event, position))
            return CollectionState(version, position, live=completed)
        case AliasSet():
            return CollectionState(version, position, alias=Alias(event.collection, event.collection_id))
        case CollectionDeleted() | AliasRemoved():
            return CollectionState(version, position)


def _updated(live: Collection, event: CollectionUpdated, position: int) -> Collection:
    changed = {name: getattr(event, name) for name in event.model_fields_set - {"embedding_spec", "other_specs"}}
    return replace(live, specs=live.specs.after(event, position), **changed)


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
        specs=EmbeddingSpecs.created(event),
        description=event.description,
        created_at=created_at,
        month_partitions=event.month_partitions,
        metadata_indexes=event.metadata_indexes,
        restores=event.restores,
        retention_seconds=event.retention_seconds,
    )
