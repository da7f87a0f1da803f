"""Cursors of lists of vectors: where the next page begins, in which list, and how far the page before had come.

The next page is read from a snapshot that is not older than that of the page before, whichever server answers: from an
older one, what lies behind the cursor may be missing.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from query_service.answers import origin, shown
from query_service.as_of import Moment
from query_service.requests import cursor_scope
from query_service.scroll import Place, ScrollVectors
from query_service.service import QueryService
from shared.freshness import Demand, ForeignTokenError
from shared.tokens import ConsistencyToken, MalformedCursorError

LIST = "pages"
"""The kind of cursor that lists of vectors have."""


async def page_of(
    service: QueryService,
    target: str,
    demand: Demand,
    query: ScrollVectors,
    cursor: dict[str, Any] | None,
    as_of: Moment | None,
) -> dict[str, Any]:
    """The answer: the first page of the list, or the one that begins at the cursor.

    Raises:
        MalformedCursorError: it is of another list, or of another event log.
        As `QueryBus.execute`.
    """
    tenant = service.principal.tenant
    asked = demand
    of = query.digest() if as_of is None else f"{query.digest()} {as_of}"
    if cursor is not None:
        if cursor["of"] != of:
            raise MalformedCursorError("the cursor belongs to a list with another filter, order or moment")
        seen = ConsistencyToken(UUID(cursor["log_id"]), tenant, first=cursor["seen"] + 1, last=cursor["seen"])
        demand = replace(demand, tokens=(*demand.tokens, seen))
        query = replace(query, after=_place(cursor), of_collection=cursor["collection_id"])
    try:
        answer = await service.read(query, target, demand, as_of)
    except ForeignTokenError as error:
        if asked.tokens:
            raise
        raise MalformedCursorError("the cursor is of another event log; start the list again") from error
    next_cursor = None
    place = answer.found.next
    if place is not None:
        assert answer.snapshot.log_id is not None
        key = {
            "collection_id": answer.collection.collection_id.hex,
            "of": of,
            "log_id": answer.snapshot.log_id.hex,
            "seen": answer.snapshot.high,
            "id": place.id,
            "created_at": place.created_at.isoformat(),
            "until": None if place.until is None else place.until.isoformat(),
        }
        next_cursor = service.signer.sign_cursor(cursor_scope(tenant, LIST), key)
    return {
        "items": [shown(vector, query.include) for vector in answer.found.vectors],
        "next_cursor": next_cursor,
        **origin(service, answer),
    }


def _place(cursor: dict[str, Any]) -> Place:
    until = cursor["until"]
    return Place(
        cursor["id"],
        datetime.fromisoformat(cursor["created_at"]),
        None if until is None else datetime.fromisoformat(until),
    )
