"""`GET /collections/{name}/reembedding`: how far a collection's move to another model is."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from command_service import reembedding_progress
from command_service.domain.collections import Collection, CollectionState
from command_service.domain.refusals import CollectionNotFoundError
from command_service.matching import ReadDatabaseUnavailableError
from command_service.models import ReembeddingAnswer, ReembeddingState, WithoutContentAnswer
from command_service.reembedding_progress import Progress, Tables
from command_service.requests import Service
from command_service.service import CommandService
from shared.http.application import API_PREFIX, StrictRoute, permission
from shared.http.paths import CollectionName
from shared.http.problems import documented
from shared.postgres import CONNECTION_LOST
from shared.principal import Permission

router = APIRouter(prefix=f"{API_PREFIX}/collections", tags=["collections"], route_class=StrictRoute)


@router.get(
    "/{name}/reembedding",
    response_model=ReembeddingAnswer,
    openapi_extra=permission(Permission.COLLECTIONS_READ),
    summary="How far a collection's move to another model is",
    responses=documented("validation", "collection-not-found", "dependency-unavailable", "timeout"),
)
async def reembedding(name: CollectionName, service: Service) -> Response:
    state = await service.present(service.principal.tenant, name)
    if state.live is None:
        raise CollectionNotFoundError(name)
    answer = await _answer(service, state, state.live)
    return Response(answer.model_dump_json(), media_type="application/json")


async def _answer(service: CommandService, state: CollectionState, live: Collection) -> ReembeddingAnswer:
    target = live.specs.target
    progress = None
    if live.specs.others:
        async with service.events() as connection:
            progress = await reembedding_progress.find(connection, live.collection_id)
    if progress is None or progress.since != target.since:
        # Nobody has begun, or nothing is to be done.
        progress = Progress(target.since, 0, 0 if target.complete else None, 0, 0, None)
    stage, reason = await _stage(service, state, live, progress)
    return ReembeddingAnswer(
        model=target.spec.model,
        provider=target.spec.provider,
        dimension=target.spec.dimension,
        from_model=live.specs.others[0].model if live.specs.others else None,
        state=stage,
        embedded=progress.embedded,
        remaining=progress.remaining,
        without_content=WithoutContentAnswer(count=progress.without_content, ids=list(progress.without_content_ids)),
        since_position=target.since if live.specs.others else None,
        reason=reason,
    )


async def _stage(
    service: CommandService, state: CollectionState, live: Collection, progress: Progress
) -> tuple[ReembeddingState, str | None]:
    if not live.specs.others:
        return "none", None
    if live.specs.target.complete:
        if service.read is None:
            return "building", "whether the tables are made is not known: AINDUSDB_READ_DSN is not set"
        try:
            async with service.read.acquire() as connection:
                tables = await Tables.read(connection, state, live)
        except CONNECTION_LOST as error:
            reason = f"the read database cannot be reached ({type(error).__name__})"
            raise ReadDatabaseUnavailableError(reason) from error
        if not tables.searched:
            return "building", None
        return "finishing", "tables with other embeddings are still written" if tables.others else None
    if progress.is_through and progress.blocked:
        return "blocked", _why(progress)
    return "embedding", progress.reason


def _why(progress: Progress) -> str:
    reasons: list[str] = []
    if progress.without_content:
        reasons.append(f"{progress.without_content:,} vectors have no content that could be embedded")
    if progress.refused is not None:
        vector_id, why = progress.refused
        others = progress.blocked - progress.without_content
        reasons.append(f"{others:,} contents cannot be embedded, such as that of {vector_id!r}: {why}")
    return "; ".join(reasons)
