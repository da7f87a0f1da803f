"""Vectors: what their stream says, and what an operation makes of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from command_service.domain.commands import (
    CreateVector,
    DeleteExpired,
    DeleteVector,
    PatchVector,
    UpsertVector,
    VectorOperation,
)
from command_service.domain.json_values import merge_patch, same_json
from command_service.domain.refusals import (
    ExpiresInPastError,
    MetadataTooLargeError,
    VectorExistsError,
    VectorNotFoundError,
    VersionMismatchError,
)
from events_schema.embedding import EmbeddingSpec, StoredEmbedding
from events_schema.vectors import VectorCreated, VectorDeleted, VectorEvent, VectorUpdated
from shared.strict_json import stored_size

MAX_METADATA_BYTES = 64 * 1024
MAX_METADATA_DEPTH = 8


@dataclass(frozen=True, slots=True)
class Vector:
    """A live vector. `embedding` is its stored text under the collection's spec. `updated_at`: when it was written
    last, by which the collection's retention is counted."""

    embedding: str
    content: str | None
    metadata: dict[str, Any] = field(hash=False)
    expires_at: datetime | None
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class VectorState:
    """A vector's stream: its version (which goes on after a deletion), the position of its last event,
    and the vector if it lives."""

    version: int = 0
    position: int = 0
    live: Vector | None = None


def decide(
    state: VectorState,
    operation: VectorOperation,
    spec: EmbeddingSpec,
    *,
    now: datetime,
    retention_seconds: int | None = None,
) -> tuple[VectorEvent, ...]:
    """The events that the operation causes; none when it changes nothing. What has expired is not there any more, also
    while no event says so; the first that happens in its place is its deletion then.

    Raises:
        VectorExistsError, VectorNotFoundError, VersionMismatchError, MetadataTooLargeError, ExpiresInPastError
    """
    expired = has_expired(state, now, retention_seconds)
    deletion = VectorDeleted(id=operation.id, reason="expired")
    if isinstance(operation, DeleteExpired):
        return (deletion,) if expired and state.version == operation.if_version else ()
    if expired:
        state = VectorState(state.version, state.position)
    event = _decide(state, operation, spec, now)
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
    spec: EmbeddingSpec,
    now: datetime,
) -> VectorEvent | None:
    match operation:
        case CreateVector():
            _expect_future(operation.id, operation.event.expires_at, now)
            if state.live is not None:
                raise VectorExistsError(operation.id)
            return operation.event
        case UpsertVector():
            event = _without_past_expiry(operation.event, now) if operation.brings_back else operation.event
            _expect_future(operation.id, event.expires_at, now)
            _expect_version(state, operation.id, operation.if_version)
            if state.live is None:
                return event
            wanted = _vector(event, now)
            if operation.from_text:
                wanted = _keeping_embedding(state.live, wanted)
            return _updated(operation.id, state.live, wanted, spec)
        case PatchVector():
            _expect_future(operation.id, operation.expires_at, now)
            if state.live is None:
                raise VectorNotFoundError(operation.id)
            _expect_version(state, operation.id, operation.if_version)
            return _updated(operation.id, state.live, _patched(state.live, operation), spec)
        case DeleteVector():
            if state.live is None:
                if operation.missing_is_unchanged:
                    _expect_version(state, operation.id, operation.if_version)
                    return None
                raise VectorNotFoundError(operation.id)
            _expect_version(state, operation.id, operation.if_version)
            return VectorDeleted(id=operation.id)


def _expect_version(state: VectorState, vector_id: str, if_version: int | None) -> None:
    # What does not live has no version that a caller could have seen.
    current = state.version if state.live is not None else 0
    if if_version is not None and if_version != current:
        raise VersionMismatchError(f"the vector {vector_id!r}", if_version, current)


def _expect_future(vector_id: str, expires_at: datetime | None, now: datetime) -> None:
    if expires_at is not None and expires_at <= now:
        raise ExpiresInPastError(vector_id, expires_at, now)


def _without_past_expiry(event: VectorCreated, now: datetime) -> VectorCreated:
    if event.expires_at is None or event.expires_at > now:
        return event
    return VectorCreated(id=event.id, embeddings=event.embeddings, content=event.content, metadata=event.metadata)


def created(
    vector_id: str,
    embedding: str,
    content: str | None,
    metadata: dict[str, Any],
    spec: EmbeddingSpec,
    expires_at: datetime | None = None,
) -> VectorCreated:
    """The event of a creation; `embedding` is the stored text of the embedding under `spec`."""
    return VectorCreated(
        id=vector_id,
        embeddings=_stored(embedding, spec),
        content=content,
        metadata=metadata,
        # Software that does not know the field reads events that do not need it.
        **({} if expires_at is None else {"expires_at": expires_at}),
    )


def _stored(embedding: str, spec: EmbeddingSpec) -> tuple[StoredEmbedding, ...]:
    return (StoredEmbedding(spec=spec, encoding="float32-le-base64", data=embedding),)


def _vector(event: VectorCreated, at: datetime) -> Vector:
    return Vector(event.embeddings[0].data, event.content, event.metadata, event.expires_at, at)


def _keeping_embedding(present: Vector, wanted: Vector) -> Vector:
    """A text that is embedded anew may differ in the last bit, and that is no change."""
    return replace(wanted, embedding=present.embedding) if wanted.content == present.content else wanted


def _updated(vector_id: str, present: Vector, wanted: Vector, spec: EmbeddingSpec) -> VectorUpdated | None:
    changed: dict[str, Any] = {}
    if wanted.embedding != present.embedding:
        changed["embeddings"] = _stored(wanted.embedding, spec)
    if wanted.content != present.content:
        changed["content"] = wanted.content
    if not same_json(wanted.metadata, present.metadata):
        changed["metadata"] = wanted.metadata
    if wanted.expires_at != present.expires_at:
        changed["expires_at"] = wanted.expires_at
    return VectorUpdated(id=vector_id, **changed) if changed else None


def _patched(present: Vector, operation: PatchVector) -> Vector:
    wanted = present
    if operation.embedding is not None:
        wanted = replace(wanted, embedding=operation.embedding)
    if "content" in operation.fields:
        wanted = replace(wanted, content=operation.content)
        if operation.from_text:
            wanted = _keeping_embedding(present, wanted)
    if "metadata" in operation.fields:
        merged = {} if operation.metadata is None else merge_patch(present.metadata, operation.metadata)
        if stored_size(merged) > MAX_METADATA_BYTES or _depth(merged) > MAX_METADATA_DEPTH:
            raise MetadataTooLargeError(operation.id, MAX_METADATA_BYTES, MAX_METADATA_DEPTH)
        wanted = replace(wanted, metadata=merged)
    if "expires_at" in operation.fields:
        wanted = replace(wanted, expires_at=operation.expires_at)
    return wanted


def _depth(value: Any) -> int:
    match value:
        case dict():
            return 1 + max(map(_depth, value.values()), default=0)
        case list():
            return 1 + max(map(_depth, value), default=0)
        case _:
            return 0


def evolve(state: VectorState, event: VectorEvent, *, version: int, position: int, timestamp: datetime) -> VectorState:
    return VectorState(version, position, _live_after(state, event, timestamp))


def _live_after(state: VectorState, event: VectorEvent, timestamp: datetime) -> Vector | None:
    match event:
        case VectorCreated():
            return _vector(event, timestamp)
        case VectorUpdated():
            assert state.live is not None
            changed = event.model_fields_set
            return Vector(
                event.embeddings[0].data if "embeddings" in changed else state.live.embedding,
                event.content if "content" in changed else state.live.content,
                event.metadata if "metadata" in changed else state.live.metadata,
                event.expires_at if "expires_at" in changed else state.live.expires_at,
                timestamp,
            )
        case VectorDeleted():
            return None
