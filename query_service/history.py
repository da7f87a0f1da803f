"""What became of a vector: every event of it, and the vector as it was at any version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import orjson

from events_schema.base import RecordedEvent
from events_schema.embedding import StoredEmbedding
from events_schema.registry import decode_event
from events_schema.streams import vector_stream
from events_schema.upcasters import UnreadableEventError
from events_schema.vectors import VectorCreated, VectorDeleted, VectorReembedded, VectorUpdated
from query_service.errors import ProjectionParkedError, VectorNotFoundError, VersionNotFoundError
from query_service.event_reader import EventReader, Stretch
from query_service.parts import Include
from shared.freshness import Demand
from shared.past_vectors import CHUNK_EVENTS, BackwardFold, PastState
from shared.read_model.snapshot import Reading

_ANY_VERSION = 2**31 - 1


async def past_vector(
    events: EventReader, tenant: str, collection_id: UUID, vector_id: str, version: int, demand: Demand
) -> Reading[PastState]:
    """
    Raises:
        VectorNotFoundError: no vector ever had the id there.
        VersionNotFoundError: it had no such version, or that is its deletion.
        ProjectionParkedError: one of its events cannot be read by this version of the software, so it is parked.
        NotFreshEnoughError, ForeignTokenError, EventLogUnavailableError
    """
    stream = vector_stream(collection_id, vector_id)
    fold = BackwardFold()
    at = version
    while True:
        reading = await events.backwards(stream, tenant, from_version=at, limit=CHUNK_EVENTS, demand=demand)
        if at == version:
            await _check_version(events, reading.found, tenant, collection_id, vector_id, version, demand)
        if not reading.found:
            # Its creation is passed over.
            raise VersionNotFoundError(vector_id, version, deleted=False)
        for event in reading.found:
            try:
                state = fold.add(event)
            except UnreadableEventError as error:
                raise ProjectionParkedError([event.position]) from error
            if state is not None:
                return Reading(reading.snapshot, state)
        at = reading.found[-1].version - 1


async def vector_at(
    events: EventReader, tenant: str, collection_id: UUID, vector_id: str, moment: Stretch, demand: Demand
) -> Reading[PastState]:
    """As it was at a moment of the log.

    Raises:
        VectorNotFoundError: it was not created by then, or had expired.
        VersionNotFoundError: it was deleted then.
        NotFreshEnoughError, ForeignTokenError, EventLogUnavailableError
    """
    version = await events.version_at(vector_stream(collection_id, vector_id), tenant, moment.position, demand)
    if version is None:
        raise VectorNotFoundError(vector_id, moment.position)
    reading = await past_vector(events, tenant, collection_id, vector_id, version, demand)
    if reading.found.expires_at is not None and reading.found.expires_at <= moment.time:
        raise VectorNotFoundError(vector_id, moment.position)
    return reading


async def _check_version(
    events: EventReader,
    found: Sequence[RecordedEvent],
    tenant: str,
    collection_id: UUID,
    vector_id: str,
    version: int,
    demand: Demand,
) -> None:
    if found and found[0].version == version:
        if found[0].event_type == VectorDeleted.event_type:
            raise VersionNotFoundError(vector_id, version, deleted=True)
        return
    stream = vector_stream(collection_id, vector_id)
    last = await events.backwards(stream, tenant, from_version=_ANY_VERSION, limit=1, demand=demand)
    if not last.found:
        raise VectorNotFoundError(vector_id)
    raise VersionNotFoundError(vector_id, version, deleted=False)


async def stored_embedding(events: EventReader, collection_id: UUID, state: PastState, position: int) -> str:
    """The stored text of the one that the vector was searched by when the log had come to this position.

    Raises:
        ProjectionParkedError: an event of the collection cannot be read by this version of the software.
        EventLogUnavailableError
    """
    specs = await events.specs_at(collection_id, position)
    found = {} if specs is None else state.under(specs)
    if specs is not None and specs.served in found:
        return found[specs.served].data
    # What a projection could not have applied either.
    return max(state.embeddings.values(), key=lambda one: one.position).stored.data


def past_document(state: PastState, include: Include, stored: str | None) -> dict[str, Any]:
    """As the API shows a vector, without what was not asked for. `stored` is its embedding's text, if that was."""
    metadata = orjson.dumps(include.fields.of(state.metadata)).decode()
    return {
        "id": state.id,
        **include.shown(state.content, metadata, stored),
        "version": state.version,
        "created_at": state.created_at,
        "updated_at": state.updated_at,
        "position": state.position,
        "expires_at": state.expires_at,
    }


def described(event: RecordedEvent, include: Include, skip: RecordedEvent | None = None) -> dict[str, Any]:
    """An event as the API shows it: where it stands, what it changed, who caused it through which request, and by
    which models its embeddings were made. `data` holds the new values of those parts that `include` names, and always
    when the vector is to expire, or why it was deleted; of several embeddings the first, and all of them in order of
    the models. `skip` is the decision that projections pass over it."""
    return {
        "position": event.position,
        "version": event.version,
        "event_id": str(event.event_id),
        "event_type": event.event_type,
        "timestamp": event.timestamp,
        "collection_id": str(event.collection_id),
        "actor": event.metadata.get("actor"),
        "request_id": event.metadata.get("request_id"),
        "correlation_id": event.metadata.get("correlation_id"),
        "causation_id": event.metadata.get("causation_id"),
        **_contents(event, include),
        **({} if skip is None else {"skipped": _decision(skip)}),
    }


def _decision(skip: RecordedEvent) -> dict[str, Any]:
    return {
        "position": skip.position,
        "timestamp": skip.timestamp,
        "actor": skip.metadata.get("actor"),
        "reason": skip.event_data.get("reason"),
    }


def _contents(event: RecordedEvent, include: Include) -> dict[str, Any]:
    try:
        decoded = decode_event(event.event_type, event.schema_version, event.event_data)
    except UnreadableEventError as error:
        return {"id": event.event_data.get("id"), "changed": [], "embeddings": [], "data": {}, "unreadable": str(error)}
    if not isinstance(decoded, VectorCreated | VectorUpdated | VectorReembedded | VectorDeleted):
        return {"id": None, "changed": sorted(decoded.model_fields_set), "embeddings": [], "data": decoded.event_data()}
    changed = sorted(decoded.model_fields_set - {"id"})
    stored: tuple[StoredEmbedding, ...] = getattr(decoded, "embeddings", ())
    data = {
        name: getattr(decoded, name)
        for name, wanted in (("content", include.content), ("metadata", include.metadata))
        if wanted and name in changed
    }
    data |= {name: getattr(decoded, name) for name in ("expires_at", "reason") if name in changed}
    if include.embedding and stored:
        shown = [include.formatted(one.data) for one in stored]
        data |= {"embedding": shown[0]} if len(shown) == 1 else {"embedding": shown[0], "embeddings": shown}
    return {
        "id": decoded.id,
        "changed": ["embedding" if name == "embeddings" else name for name in changed],
        "embeddings": [one.spec.model_dump() for one in stored],
        "data": data,
    }
