"""`/collections`: create, update, delete, and how far a move to another model is."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from uuid_utils.compat import uuid7

from command_service.domain.commands import CommandContext, CreateCollection, DeleteCollection, UpdateCollection
from command_service.domain.refusals import CollectionNotFoundError
from command_service.models import (
    DEFAULT_DIMENSION,
    CollectionWritten,
    CreateCollectionRequest,
    UpdateCollectionRequest,
    declared,
)
from command_service.outcomes import CollectionOutcome
from command_service.requests import Context, IfMatch, Service, expected_version
from command_service.service import CommandService
from events_schema.embedding import EmbeddingSpec
from shared.http.application import API_PREFIX, StrictRoute, permission
from shared.http.paths import CollectionName
from shared.http.problems import FieldError, ProblemError, documented
from shared.principal import Permission

router = APIRouter(prefix=f"{API_PREFIX}/collections", tags=["collections"], route_class=StrictRoute)

_WRITES = permission(Permission.COLLECTIONS_WRITE)


@router.post(
    "",
    status_code=201,
    response_model=CollectionWritten,
    openapi_extra=_WRITES,
    summary="Create a collection",
    responses=documented("malformed-json", "body-too-large", "unsupported-media-type", "validation",
                         "dimension-mismatch", "idempotency-key-reused", "collection-exists", "overloaded",
                         "dependency-unavailable", "timeout"),
)  # fmt: skip
async def create_collection(body: CreateCollectionRequest, service: Service, context: Context) -> Response:
    outcome = await service.or_kept(context, _created(service, context, body), CollectionOutcome)
    answer = _answer(service, context, outcome, status_code=201)
    answer.headers["Location"] = f"{API_PREFIX}/collections/{body.name}"
    return answer


@router.patch(
    "/{name}",
    response_model=CollectionWritten,
    openapi_extra=_WRITES,
    summary="Change a collection",
    responses=documented("malformed-json", "body-too-large", "unsupported-media-type", "validation",
                         "dimension-mismatch", "model-mismatch", "idempotency-key-reused", "collection-not-found",
                         "reembedding-in-progress", "version-mismatch", "overloaded", "dependency-unavailable",
                         "timeout"),
)  # fmt: skip
async def update_collection(
    name: CollectionName,
    body: UpdateCollectionRequest,
    service: Service,
    context: Context,
    if_match: IfMatch = None,
) -> Response:
    updating = _updated(service, context, name, body, expected_version(if_match))
    outcome = await service.or_kept(context, updating, CollectionOutcome)
    return _answer(service, context, outcome)


@router.delete(
    "/{name}",
    response_model=CollectionWritten,
    openapi_extra=_WRITES,
    summary="Delete a collection and all that is in it",
    responses=documented("validation", "idempotency-key-reused", "collection-not-found", "collection-aliased",
                         "version-mismatch", "overloaded", "timeout"),
)  # fmt: skip
async def delete_collection(
    name: CollectionName, service: Service, context: Context, if_match: IfMatch = None
) -> Response:
    outcome = await service.change_named(DeleteCollection(context, name, expected_version(if_match)))
    return _answer(service, context, outcome)


async def _created(
    service: CommandService, context: CommandContext, body: CreateCollectionRequest
) -> CollectionOutcome:
    return await service.change_collection(
        CreateCollection(
            context=context,
            name=body.name,
            collection_id=uuid7(),
            metric=body.metric,
            type=body.type,
            index=body.index.spec(),
            embedding_spec=await _spec(service, body),
            description=body.description,
            month_partitions=body.month_partitions,
            metadata_indexes=declared(body.metadata_indexes),
            retention_seconds=body.retention_seconds,
        )
    )


async def _updated(
    service: CommandService, context: CommandContext, name: str, body: UpdateCollectionRequest, if_version: int | None
) -> CollectionOutcome:
    move_to = await _moved_to(service, context, name, body) if "model" in body.model_fields_set else None
    return await service.change_named(UpdateCollection(context, name, body.changes(), if_version, move_to=move_to))


async def _spec(service: CommandService, body: CreateCollectionRequest) -> EmbeddingSpec:
    """
    Raises:
        ProblemError: dimension-mismatch or validation, at `/dimension`.
        ProviderUnavailableError: the model's dimension cannot be told now.
    """
    own = service.embedder.model
    if own is not None and (body.model == own or (body.model is None and body.dimension is None)):
        spec = await service.embedder.spec()
        if body.dimension not in (None, spec.dimension):
            detail = f"the model {own!r} has {spec.dimension} dimensions, not {body.dimension}"
            raise _problem("dimension-mismatch", detail, expected=spec.dimension, got=body.dimension)
        fault = body.index_fault(spec.dimension)
        if fault is not None:
            raise _problem("validation", fault)
        return spec
    if body.model is not None and body.dimension is None:
        here = "no text is embedded here" if own is None else f"the model here is {own!r}"
        raise _problem("validation", f"the dimension of the model {body.model!r} must be given: {here}")
    return EmbeddingSpec(provider="client", model=body.model, dimension=body.dimension or DEFAULT_DIMENSION)


async def _moved_to(
    service: CommandService, context: CommandContext, name: str, body: UpdateCollectionRequest
) -> EmbeddingSpec:
    """What the collection is to have: a model that clients bring only if it has that, or is coming from it.

    Raises:
        CollectionNotFoundError, CollectionChangedError
        ProblemError: model-mismatch, dimension-mismatch or validation.
        ProviderUnavailableError: the model's dimension cannot be told now.
    """
    collection = (await service.present(context.tenant, name)).live
    if collection is None:
        raise CollectionNotFoundError(name)
    live = [spec for spec in collection.specs.specs if spec.model == body.model]
    spec = next((one for one in live if one.provider == "client"), None)
    if spec is None and body.model in service.embedder.models:
        spec = await service.embedder.spec(body.model)
    elif spec is None and live:
        spec = live[0]
    if spec is None:
        here = ", ".join(map(repr, service.embedder.models)) or "none"
        detail = f"no text is embedded here by the model {body.model!r}, only by: {here}; see AINDUSDB_EMBEDDING_OTHERS"
        raise _problem("model-mismatch", detail, "/model")
    if body.dimension not in (None, spec.dimension):
        detail = f"the model {spec.model!r} has {spec.dimension} dimensions, not {body.dimension}"
        raise _problem("dimension-mismatch", detail, expected=spec.dimension, got=body.dimension)
    return spec


def _problem(name: str, detail: str, pointer: str = "/dimension", **extra: Any) -> ProblemError:
    error = FieldError(pointer=pointer, type=name, detail=detail)
    return ProblemError(name, f"{error.pointer}: {detail}", errors=[error], **extra)


def _answer(
    service: CommandService, context: CommandContext, outcome: CollectionOutcome, *, status_code: int = 200
) -> Response:
    answer = CollectionWritten(
        name=outcome.name,
        collection_id=outcome.collection_id,
        dimension=outcome.embedding_spec.dimension,
        metric=outcome.metric,
        type=outcome.type,
        index=outcome.index,
        month_partitions=outcome.month_partitions,
        metadata_indexes=list(outcome.metadata_indexes),
        retention_seconds=outcome.retention_seconds,
        model=outcome.embedding_spec.model,
        provider=outcome.embedding_spec.provider,
        description=outcome.description,
        version=outcome.version,
        position=outcome.last_position,
        consistency_token=service.token(context.tenant, outcome),
    )
    return Response(
        answer.model_dump_json(),
        status_code=status_code,
        headers={"ETag": f'"{outcome.version}"'},
        media_type="application/json",
    )
