"""`/vectors/search`: the nearest vectors of one query or of several, in a named collection or in `default`."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response

from query_service.answers import explained, of_search, shown, shown_hits
from query_service.errors import VectorNotFoundError
from query_service.grouped_search import GroupedSearch
from query_service.models import (
    GroupsAnswer,
    GroupsRequest,
    RecommendRequest,
    SearchAnswer,
    SearchBatchAnswer,
    SearchBatchRequest,
    SearchParameters,
    SearchRequest,
)
from query_service.origins import Asked, Resolved, answered, filter_of, search_of
from query_service.recommend import RecommendVectors
from query_service.requests import Service, Tokens, demand_of, json_answer
from query_service.search import SearchVectors
from query_service.search_batch import SearchBatch
from query_service.service import QueryService
from query_service.vector_problems import ANY, EMBEDDED, PAST, WITH_BODY
from shared.http.application import API_PREFIX, StrictRoute, permission
from shared.http.paths import target_name
from shared.http.problems import documented
from shared.principal import Permission


def search_router(prefix: str, *, named: bool) -> APIRouter:
    """The routes under `prefix`; not `named`: those of the collection `default`."""
    router = APIRouter(prefix=f"{API_PREFIX}{prefix}", tags=["vectors"], route_class=StrictRoute)
    reads = permission(Permission.VECTORS_READ)
    target_of = target_name(named=named)
    suffix = "" if named else " in the collection default"

    @router.post(
        "/search", response_model=SearchAnswer, openapi_extra=reads, summary=f"Find the nearest vectors{suffix}",
        responses=documented(*ANY, *WITH_BODY, *EMBEDDED, *PAST, "vector-not-found", "answer-too-large"),
    )  # fmt: skip
    async def search(body: SearchRequest, service: Service, tokens: Tokens, target: str = target_of) -> Response:
        return await _search(body, service, tokens, target)

    @router.get(
        "/search", response_model=SearchAnswer, openapi_extra=reads,
        summary=f"Find the vectors nearest to a text{suffix}",
        responses=documented(*ANY, *PAST, "invalid-filter", "model-mismatch", "not-finite", "zero-vector",
                             "answer-too-large"),
    )  # fmt: skip
    async def search_by_text(
        service: Service,
        tokens: Tokens,
        parameters: Annotated[SearchParameters, Query()],
        target: str = target_of,
    ) -> Response:
        return await _search(parameters.as_request(), service, tokens, target)

    @router.post(
        "/search/batch", response_model=SearchBatchAnswer, openapi_extra=reads,
        summary=f"Find the nearest vectors of several queries{suffix}",
        responses=documented(*ANY, *WITH_BODY, *EMBEDDED, *PAST, "vector-not-found", "answer-too-large"),
    )  # fmt: skip
    async def search_batch(
        body: SearchBatchRequest, service: Service, tokens: Tokens, target: str = target_of
    ) -> Response:
        return await _search_batch(body, service, tokens, target)

    @router.post(
        "/search/groups", response_model=GroupsAnswer, openapi_extra=reads,
        summary=f"Find the nearest vectors by groups{suffix}",
        responses=documented(*ANY, *WITH_BODY, *EMBEDDED, *PAST, "vector-not-found", "answer-too-large"),
    )  # fmt: skip
    async def search_groups(body: GroupsRequest, service: Service, tokens: Tokens, target: str = target_of) -> Response:
        return await _search_groups(body, service, tokens, target)

    @router.post(
        "/recommend", response_model=SearchAnswer, openapi_extra=reads,
        summary=f"Find vectors like some examples and unlike others{suffix}",
        responses=documented(*ANY, *WITH_BODY, *EMBEDDED, *PAST, "vector-not-found", "answer-too-large"),
    )  # fmt: skip
    async def recommend(body: RecommendRequest, service: Service, tokens: Tokens, target: str = target_of) -> Response:
        return await _recommend(body, service, tokens, target)

    return router


async def _search(body: SearchRequest, service: QueryService, tokens: Tokens, target: str) -> Response:
    started = time.monotonic()
    aim = service.target(target, demand_of(tokens, body), body.moment)
    wanted = filter_of(body.filter)

    def search_for(looked_for: Resolved) -> SearchVectors:
        return search_of(service, body, looked_for, 0, wanted, k=body.k, explain=body.explain)

    looked_for, answer = await answered(
        service, aim, [Asked("", body, body.model)], search_for, read_anyway=body.explain
    )
    found = answer.found
    if found is None:
        assert body.id is not None
        raise VectorNotFoundError(body.id)
    truncated = looked_for.truncated[0]
    return json_answer(
        {
            **shown_hits(found, body.parts()),
            **of_search(service, answer, started),
            **({} if truncated is None else {"truncated": truncated}),
            **({"explain": explained(found.explanation, answer.route)} if body.explain else {}),
        }
    )


async def _search_batch(body: SearchBatchRequest, service: QueryService, tokens: Tokens, target: str) -> Response:
    started = time.monotonic()
    aim = service.target(target, demand_of(tokens, body), body.moment)
    addressed = [(f"/queries/{number}", query) for number, query in enumerate(body.queries)]
    filters = [filter_of(query.filter, pointer) for pointer, query in addressed]
    asked = [Asked(pointer, query, query.model) for pointer, query in addressed]

    def batch_for(looked_for: Resolved) -> SearchBatch:
        searches = [
            search_of(service, query, looked_for, number, wanted, k=query.k, explain=body.explain)
            for number, (query, wanted) in enumerate(zip(body.queries, filters, strict=True))
        ]
        return SearchBatch(searches, service.max_answer_bytes)

    looked_for, answer = await answered(service, aim, asked, batch_for, read_anyway=body.explain)
    return json_answer(
        {
            "results": [
                {
                    **shown_hits(found, query.parts()),
                    **({} if truncated is None else {"truncated": truncated}),
                    **({"explain": explained(found.explanation, answer.route)} if body.explain else {}),
                }
                for found, query, truncated in zip(answer.found, body.queries, looked_for.truncated, strict=True)
            ],
            **of_search(service, answer, started),
        }
    )


async def _recommend(body: RecommendRequest, service: QueryService, tokens: Tokens, target: str) -> Response:
    started = time.monotonic()
    aim = service.target(target, demand_of(tokens, body), body.moment)
    wanted = filter_of(body.filter)
    asked = [
        Asked(f"/{name}/{index}", example)
        for name, examples in (("positive", body.positive), ("negative", body.negative))
        for index, example in enumerate(examples)
    ]

    def recommendation_for(looked_for: Resolved) -> RecommendVectors:
        examples = looked_for.origins
        return RecommendVectors(
            examples[: len(body.positive)],
            examples[len(body.positive) :],
            body.strategy,
            search_of(service, body, looked_for, 0, wanted, k=body.k, explain=body.explain),
        )

    looked_for, answer = await answered(
        service, aim, asked, recommendation_for, model=body.model, read_anyway=body.explain
    )
    truncated = [one for one in looked_for.truncated if one is not None]
    return json_answer(
        {
            **shown_hits(answer.found, body.parts()),
            **of_search(service, answer, started),
            **({"truncated": any(truncated)} if truncated else {}),
            **({"explain": explained(answer.found.explanation, answer.route)} if body.explain else {}),
        }
    )


async def _search_groups(body: GroupsRequest, service: QueryService, tokens: Tokens, target: str) -> Response:
    started = time.monotonic()
    aim = service.target(target, demand_of(tokens, body), body.moment)
    wanted = filter_of(body.filter)

    def groups_for(looked_for: Resolved) -> GroupedSearch:
        hits = body.groups * body.per_group
        search = search_of(service, body, looked_for, 0, wanted, k=hits, explain=body.explain)
        return GroupedSearch(search, body.field(), body.groups, body.per_group)

    looked_for, answer = await answered(
        service, aim, [Asked("", body, body.model)], groups_for, read_anyway=body.explain
    )
    found = answer.found
    if found is None:
        assert body.id is not None
        raise VectorNotFoundError(body.id)
    truncated = looked_for.truncated[0]
    include = body.parts()
    return json_answer(
        {
            "groups": [
                {"value": group.value, "hits": [shown(hit, include) for hit in group.hits]} for group in found.groups
            ],
            "complete": True,
            **of_search(service, answer, started),
            **({} if truncated is None else {"truncated": truncated}),
            **({"explain": explained(found.explanation, answer.route)} if body.explain else {}),
        }
    )
