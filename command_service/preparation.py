"""Everything slow that a write needs before the append lock: checks against the collection, encoding."""

from __future__ import annotations

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
from command_service.texts import Destination, Inputs
from events_schema.embedding import EmbeddingSpec, Float32Array, encode
from events_schema.vectors import VectorCreated
from shared.embedding.texts import TextEmbedding
from shared.embedding_input import embedding_fault
from shared.http.problems import FieldError, ProblemError


def prepare_batch(destination: Destination, inputs: Inputs) -> tuple[VectorOperation, ...]:
    """The domain's operations for a batch; ids that were left out are made here. Fit to run in a thread.

    Raises:
        ProblemError: as `check_embeddings`.
    """
    check_embeddings(destination, inputs)
    spec = destination.spec
    return tuple(_operation(one, text, spec) for (_, one), text in zip(inputs, destination.embedded, strict=True))


def _operation(one: VectorInput, text: TextEmbedding | None, spec: EmbeddingSpec) -> VectorOperation:
    match one:
        case CreateVectorRequest():
            return create_vector(one, text, spec)
        case UpsertOperation():
            return upsert_vector(one.id, one, text, one.if_version, spec)
        case PatchOperation():
            return patch_vector(one.id, one, text, one.if_version)
        case DeleteOperation():
            return DeleteVector(one.id, one.if_version, missing_is_unchanged=True)
        case UpsertVectorRequest() | PatchVectorRequest():
            raise AssertionError("operations of a batch bring their ids")


def create_vector(request: CreateVectorRequest, text: TextEmbedding | None, spec: EmbeddingSpec) -> CreateVector:
    return CreateVector(_created(request.id or str(uuid7()), request, text, spec))


def upsert_vector(
    vector_id: str,
    request: UpsertVectorRequest | UpsertOperation,
    text: TextEmbedding | None,
    if_version: int | None,
    spec: EmbeddingSpec,
) -> UpsertVector:
    return UpsertVector(_created(vector_id, request, text, spec), if_version, from_text=text is not None)


def _created(
    vector_id: str,
    request: CreateVectorRequest | UpsertVectorRequest | UpsertOperation,
    text: TextEmbedding | None,
    spec: EmbeddingSpec,
) -> VectorCreated:
    embedding = _embedding(request, text)
    assert embedding is not None
    event = created(vector_id, encode(embedding), request.content, request.metadata, spec, request.expires_at)
    # Written as JSON here, so that the append lock is not held for it.
    assert event.serialised
    return event


def patch_vector(
    vector_id: str, request: PatchVectorRequest, text: TextEmbedding | None, if_version: int | None
) -> PatchVector:
    embedding = _embedding(request, text)
    return PatchVector(
        vector_id,
        None if embedding is None else encode(embedding),
        frozenset(request.model_fields_set & {"content", "metadata", "expires_at"}),
        request.content,
        request.metadata,
        if_version,
        from_text=text is not None,
        expires_at=request.expires_at,
    )


def check_embeddings(destination: Destination, inputs: Inputs) -> None:
    """Holds the embeddings, those that were brought and those of texts, against the collection.

    Raises:
        ProblemError: dimension-mismatch, zero-vector or not-finite, with the address of each that does not fit.
    """
    collection = destination.collection
    dimension = collection.embedding_spec.dimension
    errors: list[FieldError] = []
    extra: dict[str, Any] = {}
    for (pointer, one), text in zip(inputs, destination.embedded, strict=True):
        embedding = _embedding(one, text)
        if embedding is None:
            continue
        field = f"{pointer}/embedding" if text is None else f"{pointer}/content"
        if embedding.size != dimension:
            extra = extra or {"expected": dimension, "got": int(embedding.size)}
            detail = f"the collection's dimension is {dimension}, this embedding has {embedding.size} numbers"
            errors.append(FieldError(pointer=field, type="dimension-mismatch", detail=detail))
        elif (fault := embedding_fault(embedding, collection.metric, collection.type)) is not None:
            errors.append(FieldError(pointer=field, type=fault.problem, detail=fault.rule))
    if errors:
        first = errors[0]
        raise ProblemError(
            first.type,
            f"{first.pointer}: {first.detail}",
            errors=errors,
            **(extra if first.type == "dimension-mismatch" else {}),
        )


def _embedding(one: VectorInput, text: TextEmbedding | None) -> Float32Array | None:
    if isinstance(one, DeleteOperation):
        return None
    return one.embedding if text is None else text.numbers
