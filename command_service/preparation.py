"""Everything slow that a write needs before the append lock: checks against the collection, encoding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from uuid_utils.compat import uuid7

from command_service.domain.collections import Collection
from command_service.domain.commands import CreateVector, DeleteVector, PatchVector, UpsertVector, VectorOperation
from command_service.domain.vectors import created
from command_service.models import (
    MAX_INDEXED_DIMENSION,
    CreateOperation,
    CreateVectorRequest,
    DeleteOperation,
    PatchOperation,
    PatchVectorRequest,
    UpsertOperation,
    UpsertVectorRequest,
)
from events_schema.embedding import EmbeddingSpec, Float32Array, encode
from events_schema.vectors import VectorCreated
from shared.embedding_input import embedding_fault
from shared.http.problems import FieldError, ProblemError

Embeddings = Sequence[tuple[str, Float32Array | None]]
"""Each with its address in the body; None where an operation brings none."""

OperationInput = CreateOperation | UpsertOperation | PatchOperation | DeleteOperation


def prepare_batch(collection: Collection, inputs: Sequence[OperationInput]) -> tuple[VectorOperation, ...]:
    """The domain's operations for a batch; ids that were left out are made here. Fit to run in a thread.

    Raises:
        ProblemError: as `check_embeddings`.
    """
    check_embeddings(collection, embeddings_of(inputs))
    spec = collection.embedding_spec
    return tuple(_operation(one, spec) for one in inputs)


def embeddings_of(inputs: Sequence[OperationInput]) -> Embeddings:
    return [
        (f"/operations/{index}/embedding", None if isinstance(one, DeleteOperation) else one.embedding)
        for index, one in enumerate(inputs)
    ]


def _operation(one: OperationInput, spec: EmbeddingSpec) -> VectorOperation:
    match one:
        case CreateOperation():
            return create_vector(one, spec)
        case UpsertOperation():
            return upsert_vector(one.id, one, one.if_version, spec)
        case PatchOperation():
            return patch_vector(one.id, one, one.if_version)
        case DeleteOperation():
            return DeleteVector(one.id, one.if_version, missing_is_unchanged=True)


def create_vector(request: CreateVectorRequest, spec: EmbeddingSpec) -> CreateVector:
    return CreateVector(_created(request.id or str(uuid7()), request, spec))


def upsert_vector(
    vector_id: str, request: UpsertVectorRequest | UpsertOperation, if_version: int | None, spec: EmbeddingSpec
) -> UpsertVector:
    return UpsertVector(_created(vector_id, request, spec), if_version)


def _created(
    vector_id: str, request: CreateVectorRequest | UpsertVectorRequest | UpsertOperation, spec: EmbeddingSpec
) -> VectorCreated:
    event = created(vector_id, encode(request.embedding), request.content, request.metadata, spec)
    # Written as JSON here, so that the append lock is not held for it.
    assert event.serialised
    return event


def patch_vector(vector_id: str, request: PatchVectorRequest, if_version: int | None) -> PatchVector:
    return PatchVector(
        vector_id,
        None if request.embedding is None else encode(request.embedding),
        frozenset(request.model_fields_set & {"content", "metadata"}),
        request.content,
        request.metadata,
        if_version,
    )


def check_indexable(collection: Collection, pointer: str) -> None:
    """Whether a collection with every default can have the dimension of the embedding at `pointer`.

    Raises:
        ProblemError: validation.
    """
    dimension, limit = collection.embedding_spec.dimension, MAX_INDEXED_DIMENSION[collection.type]
    if dimension > limit:
        detail = (
            f"an indexed {collection.type} has at most {limit} dimensions, not {dimension}; "
            f"create the collection {collection.name!r} first, with index.kind none or type halfvec"
        )
        error = FieldError(pointer=pointer, type="dimension", detail=detail)
        raise ProblemError("validation", f"{pointer}: {detail}", errors=[error])


def check_embeddings(collection: Collection, embeddings: Embeddings) -> None:
    """Holds embeddings against the collection.

    Raises:
        ProblemError: dimension-mismatch, zero-vector or not-finite, with the address of each that does not fit.
    """
    dimension = collection.embedding_spec.dimension
    errors: list[FieldError] = []
    extra: dict[str, Any] = {}
    for pointer, embedding in embeddings:
        if embedding is None:
            continue
        if embedding.size != dimension:
            extra = extra or {"expected": dimension, "got": int(embedding.size)}
            detail = f"the collection's dimension is {dimension}, this embedding has {embedding.size} numbers"
            errors.append(FieldError(pointer=pointer, type="dimension-mismatch", detail=detail))
        elif (fault := embedding_fault(embedding, collection.metric, collection.type)) is not None:
            errors.append(FieldError(pointer=pointer, type=fault.problem, detail=fault.rule))
    if errors:
        first = errors[0]
        raise ProblemError(
            first.type,
            f"{first.pointer}: {first.detail}",
            errors=errors,
            **(extra if first.type == "dimension-mismatch" else {}),
        )
