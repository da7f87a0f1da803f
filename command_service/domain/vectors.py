"""Vectors: what their stream says, and what an operation makes of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from command_service.domain.commands import (
    CreateVector,
    DeleteExpired,
    DeleteVector,
    PatchVector,
    ReembedVector,
    UpsertVector,
    VectorOperation,
)
from command_service.domain.json_values import merge_patch, same_json
from command_service.domain.refusals import (
    EmbeddingMissingError,
    ExpiresInPastError,
    MetadataTooLargeError,
    VectorExistsError,
    VectorNotFoundError,
    VersionMismatchError,
)
from events_schema.embedding import EmbeddingSpec, StoredEmbedding
from events_schema.specs import EmbeddingSpecs, LiveSpec
from events_schema.vectors import VectorCreated, VectorDeleted, VectorEvent, VectorReembedded, VectorUpdated
from shared.strict_json import stored_size

MAX_METADATA_BYTES = 64 * 1024
MAX_METADATA_DEPTH = 8


class HeldEmbedding(NamedTuple):
    """The stored text of an embedding, and the position of the event that brought it."""

    spec: EmbeddingSpec
    data: str
    position: int


@dataclass(frozen=True, slots=True)
class Vector:
    """A live vector. `embeddings` has one for each spec under which it ever had one since it was created. `updated_at`:
    when it was written last, by which the collection's retention is counted."""

    embeddings: tuple[HeldEmbedding, ...]
    content: str | None
    metadata: dict[str, Any] = field(hash=False)
    expires_at: datetime | None
    updated_at: datetime

    def embedding(self, of: LiveSpec) -> str | None:
        """The stored text; None, too, where the collection has left the spec since and come back to it."""
        for one in self.embeddings:
            if one.spec == of.spec:
                return one.data if one.position > of.since else None
        return None

    def lacks(self, of: LiveSpec) -> bool:
        return self.embedding(of) is None


@dataclass(frozen=True, slots=True)
class VectorState:
    """A vector's stream: its version (which goes on after a deletion), the position of its last event,
    the vector if it lives, and the last version that did more than embed it anew."""

    version: int = 0
    position: int = 0
    live: Vector | None = None
    written: int = 0


def decide(
    state: VectorState,
    operation: VectorOperation,
    specs: EmbeddingSpecs,
    *,
    now: datetime,
    retention_seconds: int | None = None,
) -> tuple[VectorEvent, ...]:
    """The events that the operation causes; none when it changes nothing. What has expired is not there any more, also
    while no event says so; the first that happens in its place is its deletion then.

    Raises:
        VectorExistsError, VectorNotFoundError, VersionMismatchError, MetadataTooLargeError, ExpiresInPastError,
        EmbeddingMissingError
    """
    if isinstance(operation, ReembedVector):
        # Also of what has expired, which nobody has deleted yet: a retention that is lifted shows it again.
        return _reembedded(state, operation, specs)
    expired = has_expired(state, now, retention_seconds)
    deletion = VectorDeleted(id=operation.id, reason="expired")
    if isinstance(operation, DeleteExpired):
        return (deletion,) if expired and state.version == operation.if_version else ()
    if expired:
        state = VectorState(state.version, state.position)
    event = _decide(state, operation, specs, now)
    if event is None:
        return ()
    return (deletion, event) if expired else (event,)


def has_expired(state: VectorState, now: datetime, retention_seconds: int | None) -> bool:
    """Whether it lives, but for this. By its own instant, or by its collection's retention, whichever comes first."""
    if state.live is None:
        return False
    if state.live.expires_at is not None and state.live.expires_at <= now:
        return True
    return retention_seconds is not None and now - state.live.updated_at >= timedelta(seconds=retention_seconds)


def _decide(
    state: VectorState,
    operation: CreateVector | UpsertVector | PatchVector | DeleteVector,
    specs: EmbeddingSpecs,
    now: datetime,
) -> VectorEvent | None:
    match operation:
        case CreateVector():
            _expect_future(operation.id, operation.event.expires_at, now)
            _expect_embeddings(operation.event, specs, None)
            if state.live is not None:
                raise VectorExistsError(operation.id)
            return operation.event
        case UpsertVector():
            event = _without_past_expiry(operation.event, now) if operation.brings_back else operation.event
            _expect_future(operation.id, event.expires_at, now)
            _expect_embeddings(event, specs, state.live if operation.brings_back else None)
            _expect_version(state, operation)
            if state.live is None:
                return event
            wanted = _Wanted(event.embeddings, operation.from_text, event.content, event.metadata, event.expires_at)
            return _updated(operation.id, state.live, wanted, specs)
        case PatchVector():
            _expect_future(operation.id, operation.expires_at, now)
            if state.live is None:
                raise VectorNotFoundError(operation.id)
            _expect_version(state, operation)
            return _updated(operation.id, state.live, _patched(state.live, operation), specs)
        case DeleteVector():
            if state.live is None:
                if operation.missing_is_unchanged:
                    _expect_version(state, operation)
                    return None
                raise VectorNotFoundError(operation.id)
            _expect_version(state, operation)
            return VectorDeleted(id=operation.id)


def _expect_version(state: VectorState, operation: UpsertVector | PatchVector | DeleteVector) -> None:
    # What does not live has no version that a caller could have seen.
    current, written = (0, 0) if state.live is None else (state.version, state.written)
    for expected, oldest in ((operation.if_version, current), (operation.if_written, written)):
        if expected is not None and not oldest <= expected <= current:
            raise VersionMismatchError(f"the vector {operation.id!r}", expected, current)


def _expect_future(vector_id: str, expires_at: datetime | None, now: datetime) -> None:
    if expires_at is not None and expires_at <= now:
        raise ExpiresInPastError(vector_id, expires_at, now)


def _without_past_expiry(event: VectorCreated, now: datetime) -> VectorCreated:
    if event.expires_at is None or event.expires_at > now:
        return event
    return VectorCreated(id=event.id, embeddings=event.embeddings, content=event.content, metadata=event.metadata)


def _expect_embeddings(event: VectorCreated, specs: EmbeddingSpecs, restored: Vector | None) -> None:
    """What is restored may lack what it lacks by now, but not take over what belongs to something else."""
    if len(specs.live) == 1:
        return  # what the operation was prepared for
    brought = {one.spec for one in event.embeddings}
    for live in specs.live:
        if live.spec not in brought and (restored is None or not restored.lacks(live)):
            raise EmbeddingMissingError(event.id, live.spec.model)


def created(
    vector_id: str,
    embeddings: tuple[StoredEmbedding, ...],
    content: str | None,
    metadata: dict[str, Any],
    expires_at: datetime | None = None,
) -> VectorCreated:
    """The event of a creation."""
    return VectorCreated(
        id=vector_id,
        embeddings=embeddings,
        content=content,
        metadata=metadata,
        # Software that does not know the field reads events that do not need it.
        **({} if expires_at is None else {"expires_at": expires_at}),
    )


class _Wanted(NamedTuple):
    """What is to become of a vector; `embeddings` of those specs that it concerns, `from_text` as in an upsert."""

    embeddings: tuple[StoredEmbedding, ...]
    from_text: tuple[EmbeddingSpec, ...]
    content: str | None
    metadata: dict[str, Any]
    expires_at: datetime | None


def _reembedded(state: VectorState, operation: ReembedVector, specs: EmbeddingSpecs) -> tuple[VectorEvent, ...]:
    vector = state.live
    if vector is None or state.version != operation.if_version:
        return ()
    lacking = tuple(
        one for one in operation.embeddings if (of := specs.find(one.spec)) is not None and vector.lacks(of)
    )
    return (VectorReembedded(id=operation.id, embeddings=lacking),) if lacking else ()


def _new_embeddings(present: Vector, wanted: _Wanted, specs: EmbeddingSpecs) -> tuple[StoredEmbedding, ...]:
    """Those that change something. A text that is embedded anew may differ in the last bit, and that is no change."""
    same_text = wanted.content == present.content
    new: list[StoredEmbedding] = []
    for one in wanted.embeddings:
        of = specs.find(one.spec)
        held = None if of is None else present.embedding(of)
        if held is None or (held != one.data and not (same_text and one.spec in wanted.from_text)):
            new.append(one)
    return tuple(new)


def _updated(vector_id: str, present: Vector, wanted: _Wanted, specs: EmbeddingSpecs) -> VectorUpdated | None:
    changed: dict[str, Any] = {}
    if embeddings := _new_embeddings(present, wanted, specs):
        changed["embeddings"] = embeddings
    if wanted.content != present.content:
        changed["content"] = wanted.content
    if not same_json(wanted.metadata, present.metadata):
        changed["metadata"] = wanted.metadata
    if wanted.expires_at != present.expires_at:
        changed["expires_at"] = wanted.expires_at
    return VectorUpdated(id=vector_id, **changed) if changed else None


def _patched(present: Vector, operation: PatchVector) -> _Wanted:
    metadata = present.metadata
    if "metadata" in operation.fields:
        metadata = {} if operation.metadata is None else merge_patch(metadata, operation.metadata)
        if stored_size(metadata) > MAX_METADATA_BYTES or _depth(metadata) > MAX_METADATA_DEPTH:
            raise MetadataTooLargeError(operation.id, MAX_METADATA_BYTES, MAX_METADATA_DEPTH)
    return _Wanted(
        operation.embeddings,
        operation.from_text,
        operation.content if "content" in operation.fields else present.content,
        metadata,
        operation.expires_at if "expires_at" in operation.fields else present.expires_at,
    )


def _depth(value: Any) -> int:
    match value:
        case dict():
            return 1 + max(map(_depth, value.values()), default=0)
        case list():
            return 1 + max(map(_depth, value), default=0)
        case _:
            return 0


def evolve(state: VectorState, event: VectorEvent, *, version: int, position: int, timestamp: datetime) -> VectorState:
    written = state.written if isinstance(event, VectorReembedded) else version
    return VectorState(version, position, _live_after(state, event, position, timestamp), written)


def _live_after(state: VectorState, event: VectorEvent, position: int, timestamp: datetime) -> Vector | None:
    match event:
        case VectorCreated():
            embeddings = held(event.embeddings, position)
            return Vector(embeddings, event.content, event.metadata, event.expires_at, timestamp)
        case VectorUpdated():
            assert state.live is not None
            changed = event.model_fields_set
            return Vector(
                merged(held(event.embeddings, position), state.live.embeddings),
                event.content if "content" in changed else state.live.content,
                event.metadata if "metadata" in changed else state.live.metadata,
                event.expires_at if "expires_at" in changed else state.live.expires_at,
                timestamp,
            )
        case VectorReembedded():
            assert state.live is not None
            return replace(state.live, embeddings=merged(held(event.embeddings, position), state.live.embeddings))
        case VectorDeleted():
            return None


def held(embeddings: tuple[StoredEmbedding, ...], position: int) -> tuple[HeldEmbedding, ...]:
    return tuple(HeldEmbedding(one.spec, one.data, position) for one in embeddings)


def merged(newer: tuple[HeldEmbedding, ...], older: tuple[HeldEmbedding, ...]) -> tuple[HeldEmbedding, ...]:
    """Of each spec the newer one."""
    if not newer or not older:
        return newer or older
    replaced = [one.spec for one in newer]
    return (*newer, *(one for one in older if one.spec not in replaced))
