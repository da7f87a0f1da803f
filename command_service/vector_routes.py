"""`/vectors`: create, upsert, patch, delete, and batches of them, in a named collection or in `default`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from fastapi import APIRouter
from fastapi.responses import Response

from command_service.domain.commands import CommandContext, DeleteVector, VectorOperation
from command_service.domain.refusals import CollectionChangedError
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
from command_service.texts import Destination, Inputs, destination
from shared.beside_the_loop import beside_the_loop
from shared.http.application import API_PREFIX, StrictRoute, permission
from shared.http.paths import VectorIdPath, target_name
from shared.http.problems import ProblemError, documented
from shared.principal import Permission

_BODY = ("malformed-json", "body-too-large", "unsupported-media-type", "validation", "dimension-mismatch", "not-finite",
         "zero-vector", "model-mismatch")  # fmt: skip
_ANY = ("idempotency-key-reused", "collection-not-found", "collection-deleted", "projection-lag", "overloaded",
        "dependency-unavailable", "timeout")  # fmt: skip


_MAX_TRIES = 4


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
        return await _one(service, context, name, [("", body)], lambda to: create_vector(body, to.embedded[0], to.spec))

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
            lambda to: upsert_vector(vector_id, body, to.embedded[0], version, to.spec),
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
        to, outcome = await _written(
            service, context, name, inputs, lambda to: beside_the_loop(prepare_batch, to, inputs)
        )
        return _many(service, context, body, to, outcome)

    return router


async def _written(
    service: CommandService,
    context: CommandContext,
    name: str,
    inputs: Inputs,
    prepare: Callable[[Destination], Awaitable[Sequence[VectorOperation]]],
) -> tuple[Destination, VectorsOutcome]:
    """Prepares the operations and writes them. Once more, if the collection is not any more what they were prepared
    for, or not what this process thought that it was."""
    for tries_left in reversed(range(_MAX_TRIES)):
        to = await destination(service, context, name, inputs)
        try:
            operations = await prepare(to)
        except ProblemError:
            if not tries_left or not await service.is_outdated(context.tenant, to.target):
                raise
            continue
        try:
            return to, await service.write(context, to.target, operations)
        except CollectionChangedError:
            if not tries_left:
                raise
    raise AssertionError


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
        to, outcome = await _written(service, context, name, inputs, prepare)
    truncated = any(text is not None and text.truncated for text in to.embedded)
    return one_written(service, context, to.target, outcome, truncated=truncated)


def one_written(
    service: CommandService,
    context: CommandContext,
    target: WriteTarget,
    outcome: VectorsOutcome,
    *,
    truncated: bool = False,
) -> Response:
    [done] = outcome.operations
    answer = VectorWritten(
        id=done.id,
        version=done.version,
        position=done.position,
        collection=outcome.collection or target.collection.name,
        truncated=truncated,
        consistency_token=service.token(context.tenant, outcome),
    )
    return Response(
        answer.model_dump_json(),
        status_code=201 if done.result == "created" else 200,
        headers={"ETag": f'"{done.version}"'},
        media_type="application/json",
    )


def _many(
    service: CommandService, context: CommandContext, body: BatchRequest, to: Destination, outcome: VectorsOutcome
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
                truncated=text is not None and text.truncated,
            )
            for index, (asked, done, text) in enumerate(
                zip(body.operations, outcome.operations, to.embedded, strict=True)
            )
        ],
        first_position=outcome.first_position,
        last_position=outcome.last_position,
        collection=outcome.collection or to.collection.name,
        consistency_token=service.token(context.tenant, outcome),
    )
    return Response(answer.model_dump_json(), media_type="application/json")
