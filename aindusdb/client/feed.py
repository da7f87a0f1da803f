"""The change feed's messages: where each stands, and what it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import pydantic
from httpx_sse import ServerSentEvent

from aindusdb.client.calls import PREFIX, Call, Parameter, given, shown
from aindusdb.client.errors import UnexpectedAnswerError
from aindusdb.client.models import EventPart, FeedEvent

SILENCE_SECONDS = 60.0
"""Without a heartbeat for so long, the connection is taken for dead."""


def feed_call(
    after: int | str | None,
    collection: str | None,
    collection_id: str | UUID | None,
    types: Sequence[str],
    include: Sequence[EventPart] | None,
) -> Call[FeedEvent]:
    parameters: dict[str, Parameter | None] = {
        "after": None if after is None else str(after),
        "collection": collection,
        "collection_id": None if collection_id is None else str(collection_id),
        "type": types,
        **shown(include),
    }
    return Call(
        "GET",
        f"{PREFIX}/events",
        FeedEvent,
        parameters=given(parameters),
        headers={"Accept": "text/event-stream", "Cache-Control": "no-store"},
    )


def resumed(call: Call[FeedEvent], message_id: str) -> Call[FeedEvent]:
    """The same feed, from behind the message on."""
    return replace(call, headers={**call.headers, "Last-Event-ID": message_id}) if message_id else call


def event_of(message: ServerSentEvent, url: str) -> FeedEvent:
    """
    Raises:
        UnexpectedAnswerError
    """
    try:
        document = message.json()
        return FeedEvent.model_validate({**document, "message_id": message.id})
    except (ValueError, TypeError, pydantic.ValidationError) as error:
        raise UnexpectedAnswerError(url, 200, f"a message of the feed is no event: {error}") from error
