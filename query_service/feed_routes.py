"""`GET /events`: the change feed."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import StreamingResponse

from query_service.feed import FeedPosition, Selection, read_message_id
from query_service.models import FeedParameters, include_of
from query_service.requests import Service
from shared.freshness import Demand
from shared.http.application import API_PREFIX, StrictRoute, permission
from shared.http.problems import FieldError, ProblemError, documented
from shared.principal import Permission

EVENT_STREAM = "text/event-stream"

_MESSAGE_EXAMPLE = """retry: 1000
id: 41@0199ffcb-6e4c-7b44-9a52-41f7f2f1b6d0

id: 42@0199ffcb-6e4c-7b44-9a52-41f7f2f1b6d0
event: VectorDeleted
data: {"position": 42, "version": 3, "event_type": "VectorDeleted", "id": "a-1", "changed": [], "data": {}}
"""

router = APIRouter(prefix=f"{API_PREFIX}/events", tags=["history"], route_class=StrictRoute)


@router.get(
    "", response_class=StreamingResponse, openapi_extra=permission(Permission.EVENTS_READ),
    summary="Follow the events as they happen",
    description="Server-sent events, each with its position in its id: none is left out and none comes twice. Who "
    "comes back with `Last-Event-ID` goes on where it was. Heartbeats are comments that move the id along.",
    responses={
        200: {"description": "The feed; it has no end.",
              "content": {EVENT_STREAM: {"schema": {"type": "string"}, "example": _MESSAGE_EXAMPLE}}},
        **documented("validation", "wrong-database", "collection-not-found", "not-acceptable", "overloaded",
                     "dependency-unavailable"),
    },
)  # fmt: skip
async def feed(
    request: Request,
    service: Service,
    parameters: Annotated[FeedParameters, Query()],
    last_event_id: Annotated[
        str | None, Header(alias="Last-Event-ID", description="The id of the last message; goes before `after`.")
    ] = None,
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> StreamingResponse:
    _check_accepted(accept)
    parameter = "after" if last_event_id is None else "Last-Event-ID"
    start = _start(parameters.after if last_event_id is None else last_event_id, parameter)
    collection_id = parameters.collection_id
    if parameters.collection is not None or collection_id is not None:
        demand = Demand((), time.monotonic())
        collection_id = await service.collection_id(parameters.collection or "", collection_id, demand)
    include = include_of(parameters.include, parameters.embedding_format)
    selection = Selection(service.principal.tenant, collection_id, parameters.type or None, include)
    messages = await service.feeds.open(selection, start, parameter)
    request.state.time_limit.reschedule(None)
    return StreamingResponse(messages, media_type=EVENT_STREAM, headers={"Cache-Control": "no-store"})


def _check_accepted(accept: str | None) -> None:
    ranges = {part.split(";", 1)[0].strip().lower() for part in (accept or "*/*").split(",")}
    if not ranges & {EVENT_STREAM, "text/*", "*/*"}:
        raise ProblemError("not-acceptable", f"the feed is {EVENT_STREAM}; Accept asks for {accept}")


def _start(text: str | None, parameter: str) -> FeedPosition | None:
    if text is None:
        return None
    start = read_message_id(text)
    if start is None:
        detail = "a position, or the id of a message of this feed, is expected"
        error = FieldError(pointer=parameter, type="feed-position", detail=detail)
        raise ProblemError("validation", f"{parameter}: {detail}", errors=[error])
    return start
