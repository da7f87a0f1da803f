"""With which embeddings vectors come back: under each spec of their collection the one that they had, else that of
their content; where neither can be, the one that they have by now, if it belongs to what comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from command_service.domain.collections import Collection
from command_service.domain.commands import UpsertVector
from command_service.domain.refusals import NoPlaceError, SpecChangedError
from command_service.service import CommandService
from events_schema.base import RecordedEvent
from events_schema.embedding import EmbeddingSpec, StoredEmbedding, decode, encode
from events_schema.registry import decode_event
from events_schema.streams import vector_stream
from events_schema.vectors import VectorCreated, VectorDeleted, VectorReembedded, VectorUpdated
from shared.embedding.errors import ModelMismatchError, NoProviderError, TextRefusedError
from shared.embedding_input import embedding_fault
from shared.event_log import read_whole_stream
from shared.past_specs import PastSpecs
from shared.past_vectors import PastEmbedding, PastState

_Found = dict[EmbeddingSpec, StoredEmbedding]


@dataclass(frozen=True, slots=True)
class ComingBack:
    """A vector as it is to be again, on the conditions of an upsert."""

    state: PastState
    if_version: int | None = None
    if_written: int | None = None


@dataclass(frozen=True, slots=True)
class _Since:
    """What became of a live vector since a version. `of_the_same`: its content and the embeddings that it had are as
    they were, and others were added at most."""

    now: Mapping[EmbeddingSpec, PastEmbedding]
    of_the_same: bool


async def bring_back(
    service: CommandService,
    tenant: str,
    collection: Collection,
    past: Sequence[RecordedEvent],
    wanted: Sequence[ComingBack],
) -> list[UpsertVector | SpecChangedError | NoPlaceError]:
    """For each vector, in their order, the operation that brings it into the collection, or why it cannot come. `past`
    are the events of the collection that they are from.

    Raises:
        SpecChangedError: no content can be embedded as the collection's are.
        ProviderUnavailableError, TooManyTextsError
    """
    specs = PastSpecs(past)
    is_own = past[0].collection_id == collection.collection_id
    found = [_counting(one.state, specs) for one in wanted]
    computed: list[list[EmbeddingSpec]] = [[] for _ in wanted]
    for spec in collection.specs.specs:
        texts = {
            number: one.state.content
            for number, one in enumerate(wanted)
            if spec not in found[number] and one.state.content is not None and one.state.content.strip()
        }
        for number, embedding in (await _embedded(service, tenant, wanted, texts, spec)).items():
            found[number][spec] = embedding
            computed[number].append(spec)
    operations: list[UpsertVector | SpecChangedError | NoPlaceError] = []
    for one, embeddings, of_text in zip(wanted, found, computed, strict=True):
        try:
            if any(spec not in embeddings for spec in collection.specs.specs):
                since = await _since(service, collection, one.state) if is_own else None
                embeddings = _completed(collection, one.state, embeddings, since)
            event = _as_creation(one.state, embeddings, collection)
        except (SpecChangedError, NoPlaceError) as refusal:
            operations.append(refusal)
        else:
            operations.append(
                UpsertVector(event, one.if_version, tuple(of_text), brings_back=True, if_written=one.if_written)
            )
    return operations


async def _embedded(
    service: CommandService,
    tenant: str,
    wanted: Sequence[ComingBack],
    texts: Mapping[int, str],
    spec: EmbeddingSpec,
) -> dict[int, StoredEmbedding]:
    """By their numbers, without those that the model refuses."""
    if spec.provider == "client":
        return {}
    try:
        embedded = await service.embedder.embed_each(tenant, list(texts.values()), spec, "content")
    except (NoProviderError, ModelMismatchError) as error:
        raise SpecChangedError(wanted[next(iter(texts))].state.id) from error
    return {
        number: StoredEmbedding(spec=spec, encoding="float32-le-base64", data=encode(one.numbers))
        for number, one in zip(texts, embedded, strict=True)
        if not isinstance(one, TextRefusedError)
    }


def _completed(collection: Collection, state: PastState, embeddings: _Found, since: _Since | None) -> _Found:
    """With those that the vector has by now under the specs that are lacking, as far as it has them. None: it does not
    live.

    Raises:
        SpecChangedError: what it has there is of something else, or there is nothing at all.
    """
    if since is None:
        raise SpecChangedError(state.id)
    held = replace(state, embeddings=since.now).under(collection.specs)
    kept = {spec: embedding for spec, embedding in held.items() if spec not in embeddings}
    completed = {spec: one for spec, one in (embeddings | kept).items() if spec in collection.specs.specs}
    if not completed or (kept and not since.of_the_same):
        raise SpecChangedError(state.id)
    return completed


async def _since(service: CommandService, collection: Collection, state: PastState) -> _Since | None:
    """None, if the vector of the same id does not live."""
    stream = vector_stream(collection.collection_id, state.id)
    async with service.events() as connection:
        events = await read_whole_stream(connection, stream, after_version=state.version)
    now, of_the_same, lives = dict(state.embeddings), True, True
    for recorded in events:
        event = decode_event(recorded.event_type, recorded.schema_version, recorded.event_data)
        assert isinstance(event, VectorCreated | VectorUpdated | VectorReembedded | VectorDeleted)
        lives = not isinstance(event, VectorDeleted)
        of_the_same &= isinstance(event, VectorUpdated | VectorReembedded) and _leaves(event, state, now)
        if isinstance(event, VectorDeleted):
            now = {}
        else:
            now |= {one.spec: PastEmbedding(one, recorded.position) for one in event.embeddings}
    return _Since(now, of_the_same) if lives else None


def _leaves(
    event: VectorUpdated | VectorReembedded, state: PastState, now: Mapping[EmbeddingSpec, PastEmbedding]
) -> bool:
    if isinstance(event, VectorUpdated) and "content" in event.model_fields_set and event.content != state.content:
        return False
    return all(one.spec not in now or now[one.spec].stored.data == one.data for one in event.embeddings)


def _as_creation(state: PastState, embeddings: _Found, collection: Collection) -> VectorCreated:
    """
    Raises:
        NoPlaceError: an embedding is none for what the collection has become.
    """
    wanted = tuple(embeddings[spec] for spec in collection.specs.specs if spec in embeddings)
    for one in wanted:
        fault = embedding_fault(decode(one.data), collection.metric, collection.type)
        if fault is not None:
            raise NoPlaceError(state.id, fault.problem, fault.rule)
    return VectorCreated(
        id=state.id,
        embeddings=wanted,
        content=state.content,
        metadata=state.metadata,
        **({} if state.expires_at is None else {"expires_at": state.expires_at}),
    )


def _counting(state: PastState, specs: PastSpecs) -> _Found:
    then = specs.at(state.position)
    assert then is not None
    return state.under(then)
