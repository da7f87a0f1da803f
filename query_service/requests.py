"""What routes take from a request besides its body: for which collection, how fresh, from where on.

Tokens and cursors are read here, before the body and the other parameters are held against their rules: what is
malformed is refused ahead of what is invalid.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from fastapi import Depends, Request
from fastapi.responses import Response
from orjson import OPT_SERIALIZE_NUMPY, dumps

from query_service.service import QueryService
from shared.freshness import Demand, read_tokens
from shared.http.consistency import TokenHeader, given_tokens, text_in_body
from shared.tokens import ConsistencyToken


async def service_of(request: Request) -> QueryService:
    service: QueryService = request.app.state.service
    return service


Service = Annotated[QueryService, Depends(service_of)]


_SHARE_FOR_WAITING = 0.9
"""Of the time that a request has left: what it has waited for must still be read and answered."""


@dataclass(frozen=True, slots=True)
class Carried:
    """The tokens that a request carries, and until when (monotonic time) it can wait for them at most."""

    tokens: tuple[ConsistencyToken, ...]
    latest: float


async def _carried(
    request: Request,
    service: Service,
    header: TokenHeader = None,
) -> Carried:
    texts = await given_tokens(request)
    return Carried(read_tokens(service.signer, service.principal.tenant, texts), _latest(request))


def _latest(request: Request) -> float:
    limit: asyncio.Timeout = request.state.time_limit
    ends = limit.when()
    left = float("inf") if ends is None else ends - asyncio.get_running_loop().time()
    return time.monotonic() + _SHARE_FOR_WAITING * left


Tokens = Annotated[Carried, Depends(_carried)]


class Freshness(Protocol):
    """How fresh a body or the parameters of a GET want the answer."""

    @property
    def timeout_ms(self) -> int: ...

    @property
    def max_staleness_ms(self) -> int | None: ...


def demand_of(carried: Carried, wanted: Freshness) -> Demand:
    staleness = None if wanted.max_staleness_ms is None else wanted.max_staleness_ms / 1000
    deadline = min(time.monotonic() + wanted.timeout_ms / 1000, carried.latest)
    return Demand(carried.tokens, deadline, staleness)


def cursor_scope(tenant: str, kind: str) -> str:
    return f"{kind}:{tenant}"


def cursor_of(kind: str) -> Any:
    """The dependency that gives what a cursor of this kind says; None where the request has none."""

    async def read(request: Request, service: Service) -> dict[str, Any] | None:
        text = request.query_params.get("cursor")
        if text is None:
            text = await text_in_body(request, "cursor")
        if text is None:
            return None
        return service.signer.read_cursor(text, cursor_scope(service.principal.tenant, kind))

    return Depends(read)


HistoryCursor = Annotated[dict[str, Any] | None, cursor_of("history")]
CollectionCursor = Annotated[dict[str, Any] | None, cursor_of("collections")]
AliasCursor = Annotated[dict[str, Any] | None, cursor_of("aliases")]


def json_answer(document: dict[str, Any], *, etag: int | None = None) -> Response:
    headers = None if etag is None else {"ETag": f'"{etag}"'}
    return Response(dumps(document, option=OPT_SERIALIZE_NUMPY), media_type="application/json", headers=headers)
