"""How a request says how fresh what it reads must be, and by which filter it chooses."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Header
from pydantic import Field, WithJsonSchema
from starlette.requests import Request

from shared.freshness import MAX_TIMEOUT_MS

TokenHeader = Annotated[
    str | None,
    Header(alias="X-Consistency-Token", description="Up to 8 tokens, comma-separated; the answer covers all."),
]
TimeoutMs = Annotated[int, Field(ge=0, le=MAX_TIMEOUT_MS, description="How long to wait for the consistency token.")]
Token = Annotated[str, Field(description="As the header X-Consistency-Token.")]

# Parsed by its own parser, which says of each fault where it is.
FilterDocument = Annotated[
    Any,
    WithJsonSchema(
        {
            "type": ["object", "null"],
            "title": "Filter",
            "description": "Conditions on metadata and on $id, $content, $created_at, $updated_at and $version, in a "
            "language like Mongo's: see the page about filters.",
            "examples": [{"lang": "en", "year": {"$gte": 2020}, "$or": [{"tags": "news"}, {"pinned": True}]}],
        }
    ),
]


async def given_tokens(request: Request) -> list[str]:
    """The texts that bring consistency tokens: headers, parameters, and the field of the body."""
    texts = [*request.headers.getlist("x-consistency-token"), *request.query_params.getlist("consistency_token")]
    field = await text_in_body(request, "consistency_token")
    return texts if field is None else [*texts, field]


async def text_in_body(request: Request, name: str) -> str | None:
    """A field of the body of a POST, before the body is held against its rules; None if it is no text."""
    if request.method != "POST" or not await request.body():
        return None
    document = await request.json()
    # Of a large body it is the model's instance.
    field = document.get(name) if isinstance(document, dict) else getattr(document, name, None)
    return field if isinstance(field, str) else None
