"""Everything slow that a write needs before the append lock: checks against the collection, encoding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from uuid_utils.compat import uuid7

from command_service.domain.commands import CreateVector, DeleteVector, PatchVector, UpsertVector, VectorOperation
from command_service.domain.vectors import created
from command_service.models import (
    CreateVectorRequest,
    DeleteOperation,
    PatchOperation,
    PatchVectorRequest,
    UpsertOperation,
    UpsertVectorRequest,
    VectorInput,
)
from command_service.texts import Destination, Embedded, Inputs
from events_schema.embedding import EmbeddingSpec, Float32Array, StoredEmbedding, encode
from events_schema.vectors import VectorCreated
from shared.embedding_input import embedding_fault
from shared.http.problems import FieldError, ProblemError


def prepare_batch(destination: Destination, inputs: Inputs) -> tuple[VectorOperation, ...]:
    """The domain's operations for a batch; ids that were left out are made here. Fit to run in a thread.

    Raises:
        ProblemError: as `check_embeddings`.
    """
    check_embeddings(destination, inputs)
    return tuple(_operation(one, embedded) for (_, one), embedded in zip(inputs, destination.embedded, strict=True))


def _operation(one: VectorInput, embedded: Embedded) -> VectorOperation:
    match one:
        case CreateVectorRequest():
            return create_vector(one, embedded)
        case UpsertOperation():
            return upsert_vector(one.id, one, embedded, one.if_version)
        case PatchOperation():
            return patch_vector(one.id, one, embedded, one.if_version)
        case DeleteOperation():
            return DeleteVector(one.id, one.if_version, missing_is_unchanged=True)
        case UpsertVectorRequest() | PatchVectorRequest():
            raise AssertionError("operations of a batch bring their ids")


def create_vector(request: CreateVectorRequest, embedded: Embedded) -> CreateVector:
    return CreateVector(_created(request.id or str(uuid7()), request, embedded), embedded.truncated)


def upsert_vector(
    vector_id: str, request: UpsertVectorRequest | UpsertOperation, embedded: Embedded, if_version: int | None
) -> UpsertVector:
    return UpsertVector(
        _created(vector_id, request, embedded),
        if_version,
        from_text=_of_text(embedded),
        truncated=embedded.truncated,
    )


def _created(
    vector_id: str, request: CreateVectorRequest | UpsertVectorRequest | UpsertOperation, embedded: Embedded
) -> VectorCreated:
    event = created(vector_id, _stored(request, embedded), request.content, request.metadata, request.expires_at)
    assert event.embeddings
    # Written as JSON here, so that the append lock is not held for it.
    assert event.serialised
    return event


def patch_vector(
    vector_id: str, request: PatchVectorRequest, embedded: Embedded, if_version: int | None
) -> PatchVector:
    return PatchVector(
        vector_id,
        _stored(request, embedded),
        frozenset(request.model_fields_set & {"content", "metadata", "expires_at"}),
        request.content,
        request.metadata,
        if_version,
        from_text=_of_text(embedded),
        expires_at=request.expires_at,
        truncated=embedded.truncated,
    )


def _stored(one: VectorInput, embedded: Embedded) -> tuple[StoredEmbedding, ...]:
    return tuple(
        StoredEmbedding(spec=spec, encoding="float32-le-base64", data=encode(numbers))
        for _, spec, numbers in _embeddings(one, embedded)
    )


def _of_text(embedded: Embedded) -> tuple[EmbeddingSpec, ...]:
    return tuple(spec for spec, _ in embedded.texts)


def check_embeddings(destination: Destination, inputs: Inputs) -> None:
    """Holds the embeddings, those that were brought and those of texts, against the collection.

    Raises:
        ProblemError: dimension-mismatch, zero-vector or not-finite, with the address of each that does not fit.
    """
    collection = destination.collection
    errors: list[FieldError] = []
    extra: dict[str, Any] = {}
    for (pointer, one), embedded in zip(inputs, destination.embedded, strict=True):
        for name, spec, numbers in _embeddings(one, embedded):
            field, dimension = f"{pointer}/{name}", spec.dimension
            if numbers.size != dimension:
                extra = extra or {"expected": dimension, "got": int(numbers.size)}
                detail = f"the collection's dimension is {dimension}, this embedding has {numbers.size} numbers"
                errors.append(FieldError(pointer=field, type="dimension-mismatch", detail=detail))
            elif (fault := embedding_fault(numbers, collection.metric, collection.type)) is not None:
                errors.append(FieldError(pointer=field, type=fault.problem, detail=fault.rule))
    if errors:
        first = errors[0]
        raise ProblemError(
            first.type,
            f"{first.pointer}: {first.detail}",
            errors=errors,
            **(extra if first.type == "dimension-mismatch" else {}),
        )


def _embeddings(one: VectorInput, embedded: Embedded) -> Iterator[tuple[str, EmbeddingSpec, Float32Array]]:
    """Each with the field that it is of, and its spec."""
    if embedded.brought and not isinstance(one, DeleteOperation):
        assert one.embedding is not None
        for spec in embedded.brought:
            yield "embedding", spec, one.embedding
    for spec, text in embedded.texts:
        yield "content", spec, text.numbers
