"""`/vectors`: create, upsert, patch, delete, and batches of them, in a named collection or in `default`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from fastapi import APIRouter
from fastapi.responses import Response

from command_service.domain.commands import CommandContext, DeleteVector, VectorOperation
from command_service.models import (
    BatchAnswer,
    BatchRequest,
    CreateVectorRequest,
    OperationAnswer,
    PatchVectorRequest,
    UpsertVectorRequest,
    VectorWritten,
)
from command_service.outcomes import VectorsOutcome
from command_service.preparation import check_embeddings, create_vector, patch_vector, prepare_batch, upsert_vector
from command_service.requests import IN_PACE, Context, IfMatch, Service, expected_version
from command_service.service import CommandService, WriteTarget, refused_alone
from command_service.texts import Destination, Inputs, destination, target_of
from command_service.writing import by_what_it_is
from shared.beside_the_loop import beside_the_loop
from shared.http.application import API_PREFIX, StrictRoute, permission
from shared.http.paths import VectorIdPath, target_name
from shared.http.problems import documented
from shared.principal import Permission

_BODY = ("malformed-json", "body-too-large", "unsupported-media-type", "validation", "dimension-mismatch", "not-finite",
         "zero-vector", "model-mismatch")  # fmt: skip
_ANY = ("idempotency-key-reused", "collection-not-found", "collection-deleted", "projection-lag", "overloaded",
        "dependency-unavailable", "timeout")  # fmt: skip


def vector_router(prefix: str, *, named: bool) -> APIRouter:
    """The routes under `prefix`; not `named`: those of the collection `default`."""
    router = APIRouter(prefix=f"{API_PREFIX}{prefix}", tags=["vectors"], route_class=StrictRoute,
                       dependencies=IN_PACE)  # fmt: skip
    writes = permission(Permission.VECTORS_WRITE)
    name_of = target_name(named=named)
    suffix = "" if named else " in the collection default"

    @router.post(
        "", status_code=201, response_model=VectorWritten, openapi_extra=writes, summary=f"Create a vector{suffix}",
        responses=documented(*_BODY, *_ANY, "vector-exists"),
    )  # fmt: skip
    async def create(body: CreateVectorRequest, service: Service, context: Context, name: str = name_of) -> Response:
        return await _one(service, context, name, [("", body)], lambda to: create_vector(body, to.embedded[0]))

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
        version = expected_version(if_match)
        return await _one(
            service, context, name, [("", body)],
            lambda to: upsert_vector(vector_id, body, to.embedded[0], version),
        )  # fmt: skip

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
        version = expected_version(if_match)
        return await _one(
            service, context, name, [("", body)], lambda to: patch_vector(vector_id, body, to.embedded[0], version)
        )

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
        version = expected_version(if_match)
        return await _one(service, context, name, [], lambda _to: DeleteVector(vector_id, version))

    @router.post(
        "/batch", response_model=BatchAnswer, openapi_extra=writes,
        summary=f"Write many vectors, all or nothing{suffix}",
        responses=documented(*_BODY, *_ANY, "vector-not-found", "vector-exists", "version-mismatch"),
    )  # fmt: skip
    async def batch(body: BatchRequest, service: Service, context: Context, name: str = name_of) -> Response:
        inputs = [(f"/operations/{index}", one) for index, one in enumerate(body.operations)]
        outcome = await _written(service, context, name, inputs, lambda to: beside_the_loop(prepare_batch, to, inputs))
        return _many(service, context, name, body, outcome)

    return router


async def _written(
    service: CommandService,
    context: CommandContext,
    name: str,
    inputs: Inputs,
    prepare: Callable[[Destination], Awaitable[Sequence[VectorOperation]]],
) -> VectorsOutcome:
    async def find_target() -> WriteTarget:
        return await target_of(service, context, name, inputs)

    async def write(target: WriteTarget) -> VectorsOutcome:
        operations = await prepare(await destination(service, context, target, inputs))
        return await service.write(context, target, operations)

    return await service.or_kept(context, by_what_it_is(service, context, find_target, write), VectorsOutcome)


async def _one(
    service: CommandService,
    context: CommandContext,
    name: str,
    inputs: Inputs,
    operation: Callable[[Destination], VectorOperation],
) -> Response:
    async def prepare(to: Destination) -> Sequence[VectorOperation]:
        check_embeddings(to, inputs)
        return [operation(to)]

    with refused_alone():
        outcome = await _written(service, context, name, inputs, prepare)
    return one_written(service, context, name, outcome)


def one_written(service: CommandService, context: CommandContext, name: str, outcome: VectorsOutcome) -> Response:
    [done] = outcome.operations
    answer = VectorWritten(
        id=done.id,
        version=done.version,
        position=done.position,
        collection=outcome.collection or name,
        truncated=done.truncated,
        consistency_token=service.token(context.tenant, outcome),
    )
    return Response(
        answer.model_dump_json(),
        status_code=201 if done.result == "created" else 200,
        headers={"ETag": f'"{done.version}"'},
        media_type="application/json",
    )


def _many(
    service: CommandService, context: CommandContext, name: str, body: BatchRequest, outcome: VectorsOutcome
) -> Response:
    answer = BatchAnswer(
        results=[
            OperationAnswer(
                index=index,
                op=asked.op,
                id=done.id,
                result=done.result,
                version=done.version,
                position=done.position,
                truncated=done.truncated,
            )
            for index, (asked, done) in enumerate(zip(body.operations, outcome.operations, strict=True))
        ],
        first_position=outcome.first_position,
        last_position=outcome.last_position,
        collection=outcome.collection or name,
        consistency_token=service.token(context.tenant, outcome),
    )
    return Response(answer.model_dump_json(), media_type="application/json")
