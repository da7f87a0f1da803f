"""`/vectors`: create, upsert, patch, delete, and batches of them, in a named collection or in `default`."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from command_service.domain.commands import CommandContext, DeleteVector
from command_service.domain.refusals import CollectionNotFoundError
from command_service.models import (
    BatchAnswer,
    BatchRequest,
    CreateVectorRequest,
    OperationAnswer,
    PatchVectorRequest,
    UpsertVectorRequest,
    VectorWritten,
)
from command_service.outcomes import OperationOutcome, VectorsOutcome
from command_service.preparation import (
    Embeddings,
    check_embeddings,
    check_indexable,
    create_vector,
    embeddings_of,
    patch_vector,
    prepare_batch,
    upsert_vector,
)
from command_service.requests import CollectionName, Context, IfMatch, Service, VectorIdPath, expected_version
from command_service.service import CommandService, WriteTarget
from events_schema.streams import DEFAULT_COLLECTION
from shared.beside_the_loop import beside_the_loop
from shared.http.application import API_PREFIX, StrictRoute, permission
from shared.http.problems import documented
from shared.principal import Permission

_BODY = ("malformed-json", "body-too-large", "unsupported-media-type", "validation", "dimension-mismatch", "not-finite",
         "zero-vector")  # fmt: skip
_ANY = ("idempotency-key-reused", "collection-not-found", "collection-deleted", "overloaded", "timeout")


def _named(name: CollectionName) -> str:
    return name


def _default() -> str:
    return DEFAULT_COLLECTION


async def _target(service: CommandService, context: CommandContext, name: str, embeddings: Embeddings) -> WriteTarget:
    """What a write that brings these embeddings is for: the collection `default` comes into being with the dimension
    of the first.

    Raises:
        CollectionNotFoundError
        ProblemError: validation, the first embedding is none for a collection with every default.
    """
    found = await service.resolve(context.tenant, name)
    if found is not None:
        return WriteTarget(found)
    pointer, first = next(((where, one) for where, one in embeddings if one is not None), ("", None))
    if name != DEFAULT_COLLECTION or first is None:
        raise CollectionNotFoundError(name)
    target = WriteTarget.new(context, name, int(first.size))
    check_indexable(target.collection, pointer)
    return target


def vector_router(prefix: str, *, named: bool) -> APIRouter:
    """The routes under `prefix`; not `named`: those of the collection `default`."""
    router = APIRouter(prefix=f"{API_PREFIX}{prefix}", tags=["vectors"], route_class=StrictRoute)
    writes = permission(Permission.VECTORS_WRITE)
    name_of = Depends(_named if named else _default)
    suffix = "" if named else " in the collection default"

    @router.post(
        "", status_code=201, response_model=VectorWritten, openapi_extra=writes, summary=f"Create a vector{suffix}",
        responses=documented(*_BODY, *_ANY, "vector-exists"),
    )  # fmt: skip
    async def create(body: CreateVectorRequest, service: Service, context: Context, name: str = name_of) -> Response:
        embeddings = [("/embedding", body.embedding)]
        into = await _target(service, context, name, embeddings)
        check_embeddings(into.collection, embeddings)
        operation = create_vector(body, into.collection.embedding_spec)
        return _one(service, context, *await service.write_one(context, into, operation))

    @router.put(
        "/{id}", response_model=VectorWritten, openapi_extra=writes, summary=f"Create or replace a vector{suffix}",
        responses={201: {"model": VectorWritten, "description": "Created"},
                   **documented(*_BODY, *_ANY, "version-mismatch")},
    )  # fmt: skip
    async def upsert(
        vector_id: VectorIdPath,
        body: UpsertVectorRequest,
        service: Service,
        context: Context,
        name: str = name_of,
        if_match: IfMatch = None,
    ) -> Response:
        embeddings = [("/embedding", body.embedding)]
        into = await _target(service, context, name, embeddings)
        check_embeddings(into.collection, embeddings)
        operation = upsert_vector(vector_id, body, expected_version(if_match), into.collection.embedding_spec)
        return _one(service, context, *await service.write_one(context, into, operation))

    @router.patch(
        "/{id}", response_model=VectorWritten, openapi_extra=writes,
        summary=f"Change a vector by a merge patch{suffix}",
        responses=documented(*_BODY, *_ANY, "vector-not-found", "version-mismatch"),
    )  # fmt: skip
    async def patch(
        vector_id: VectorIdPath,
        body: PatchVectorRequest,
        service: Service,
        context: Context,
        name: str = name_of,
        if_match: IfMatch = None,
    ) -> Response:
        into = await _target(service, context, name, ())
        check_embeddings(into.collection, [("/embedding", body.embedding)])
        operation = patch_vector(vector_id, body, expected_version(if_match))
        return _one(service, context, *await service.write_one(context, into, operation))

    @router.delete(
        "/{id}", response_model=VectorWritten, openapi_extra=writes, summary=f"Delete a vector{suffix}",
        responses=documented("validation", *_ANY, "vector-not-found", "version-mismatch"),
    )  # fmt: skip
    async def delete(
        vector_id: VectorIdPath,
        service: Service,
        context: Context,
        name: str = name_of,
        if_match: IfMatch = None,
    ) -> Response:
        into = await _target(service, context, name, ())
        operation = DeleteVector(vector_id, expected_version(if_match))
        return _one(service, context, *await service.write_one(context, into, operation))

    @router.post(
        "/batch", response_model=BatchAnswer, openapi_extra=writes,
        summary=f"Write many vectors, all or nothing{suffix}",
        responses=documented(*_BODY, *_ANY, "vector-not-found", "vector-exists", "version-mismatch"),
    )  # fmt: skip
    async def batch(body: BatchRequest, service: Service, context: Context, name: str = name_of) -> Response:
        into = await _target(service, context, name, embeddings_of(body.operations))
        operations = await beside_the_loop(prepare_batch, into.collection, body.operations)
        outcome = await service.write(context, into, operations)
        return _many(service, context, body, outcome)

    return router


def _one(
    service: CommandService, context: CommandContext, operation: OperationOutcome, outcome: VectorsOutcome
) -> Response:
    answer = VectorWritten(
        id=operation.id,
        version=operation.version,
        position=operation.position,
        consistency_token=service.token(context.tenant, outcome),
    )
    return Response(
        answer.model_dump_json(),
        status_code=201 if operation.result == "created" else 200,
        headers={"ETag": f'"{operation.version}"'},
        media_type="application/json",
    )


def _many(service: CommandService, context: CommandContext, body: BatchRequest, outcome: VectorsOutcome) -> Response:
    answer = BatchAnswer(
        results=[
            OperationAnswer(
                index=index, op=asked.op, id=done.id, result=done.result, version=done.version, position=done.position
            )
            for index, (asked, done) in enumerate(zip(body.operations, outcome.operations, strict=True))
        ],
        first_position=outcome.first_position,
        last_position=outcome.last_position,
        consistency_token=service.token(context.tenant, outcome),
    )
    return Response(answer.model_dump_json(), media_type="application/json")
