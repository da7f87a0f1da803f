"""What routes take from a request besides its body: for which collection, how fresh, from where on.

Tokens and cursors are read here, before the body and the other parameters are held against their rules: what is
malformed is refused ahead of what is invalid.
"""

from __future__ import annotations

import time
from typing import Annotated, Any, Protocol

from fastapi import Depends, Header, Path, Request
from fastapi.responses import Response
from orjson import dumps

from events_schema.streams import DEFAULT_COLLECTION
from query_service.freshness import Demand, read_tokens
from query_service.service import QueryService
from shared.http.fields import Name, VectorId
from shared.tokens import ConsistencyToken


def service_of(request: Request) -> QueryService:
    service: QueryService = request.app.state.service
    return service


Service = Annotated[QueryService, Depends(service_of)]
CollectionName = Annotated[Name, Path(description="The collection's name.", examples=["articles"])]
VectorIdPath = Annotated[VectorId, Path(alias="id", description="The vector's id.", examples=["a-1"])]


async def _tokens(
    request: Request,
    service: Service,
    header: Annotated[
        str | None,
        Header(alias="X-Consistency-Token", description="Up to 8 tokens, comma-separated; the answer covers all."),
    ] = None,
) -> tuple[ConsistencyToken, ...]:
    texts = [*request.headers.getlist("x-consistency-token"), *request.query_params.getlist("consistency_token")]
    if request.method == "POST" and await request.body():
        document = await request.json()
        # Of a large body it is the model's instance.
        field = (
            document.get("consistency_token")
            if isinstance(document, dict)
            else getattr(document, "consistency_token", None)
        )
        if isinstance(field, str):
            texts.append(field)
    return read_tokens(service.signer, service.principal.tenant, texts)


Tokens = Annotated[tuple[ConsistencyToken, ...], Depends(_tokens)]


class Freshness(Protocol):
    """How fresh a body or the parameters of a GET want the answer."""

    @property
    def timeout_ms(self) -> int: ...

    @property
    def max_staleness_ms(self) -> int | None: ...


def demand_of(tokens: tuple[ConsistencyToken, ...], wanted: Freshness) -> Demand:
    staleness = None if wanted.max_staleness_ms is None else wanted.max_staleness_ms / 1000
    return Demand(tokens, time.monotonic() + wanted.timeout_ms / 1000, staleness)


def cursor_scope(tenant: str, kind: str) -> str:
    return f"{kind}:{tenant}"


def _position_in(kind: str) -> Any:
    def read(request: Request, service: Service) -> dict[str, Any] | None:
        text = request.query_params.get("cursor")
        if text is None:
            return None
        return service.signer.read_cursor(text, cursor_scope(service.principal.tenant, kind))

    return Depends(read)


VectorCursor = Annotated[dict[str, Any] | None, _position_in("vectors")]
HistoryCursor = Annotated[dict[str, Any] | None, _position_in("history")]
CollectionCursor = Annotated[dict[str, Any] | None, _position_in("collections")]


def json_answer(document: dict[str, Any], *, etag: int | None = None) -> Response:
    headers = None if etag is None else {"ETag": f'"{etag}"'}
    return Response(dumps(document), media_type="application/json", headers=headers)


def _named(name: CollectionName) -> str:
    return name


def _default() -> str:
    return DEFAULT_COLLECTION


def target_name(*, named: bool) -> Any:
    """The dependency that gives a route its collection's name: the path's, or `default` where the path has none."""
    return Depends(_named if named else _default)
