"""What routes take from a request besides its body: who asks, for which collection, under which conditions."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from typing import Annotated

from fastapi import Depends, Header, Request
from pydantic import AfterValidator
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from command_service.domain.commands import CommandContext, IdempotencyKey
from command_service.service import CommandService
from events_schema.base import EventMetadata
from shared.freshness import read_tokens
from shared.http.consistency import TokenHeader, given_tokens
from shared.http.problems import FieldError, ProblemError
from shared.principal import Principal
from shared.tokens import ConsistencyToken

_ETAG = re.compile(r'"(\d{1,10})"\Z')
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}\Z")
_KEY = re.compile(r"[\x20-\x7e]{1,255}\Z")


async def service_of(request: Request) -> CommandService:
    service: CommandService = request.app.state.service
    return service


Service = Annotated[CommandService, Depends(service_of)]


async def _in_pace(service: Service) -> None:
    service.backpressure.check()


IN_PACE = [Depends(_in_pace)]
"""For routes that write vectors: they are refused while the projection lags. Collections are few, and deleting one
helps."""


def _if_match(value: str | None) -> str | None:
    if value is not None and not _ETAG.match(value):
        raise PydanticCustomError("etag", 'one ETag of this API is expected, such as "3"')
    return value


IfMatch = Annotated[
    str | SkipJsonSchema[None],
    Header(
        alias="If-Match",
        description="The ETag of the version that the write expects.",
        json_schema_extra={"pattern": r'^"\d{1,10}"$'},
    ),
    AfterValidator(_if_match),
]


def expected_version(if_match: str | None) -> int | None:
    return None if if_match is None else int(if_match.strip('"'))


async def keyless_context(request: Request, service: Service) -> CommandContext:
    principal: Principal = service.principal
    metadata = EventMetadata(
        actor=principal.actor,
        request_id=request.state.request_id,
        traceparent=_traceparent(request),
    )
    return CommandContext(principal.tenant, metadata)


KeylessContext = Annotated[CommandContext, Depends(keyless_context)]
"""For routes that take no Idempotency-Key."""


async def command_context(
    request: Request,
    context: KeylessContext,
    idempotency_key: Annotated[
        str | SkipJsonSchema[None],
        Header(
            alias="Idempotency-Key",
            description="1 to 255 printable ASCII characters. The same request under the same key takes effect once.",
            json_schema_extra={"pattern": "^[ -~]{1,255}$"},
        ),
    ] = None,
) -> CommandContext:
    if idempotency_key is None:
        return context
    if not _KEY.match(idempotency_key):
        error = FieldError(
            pointer="Idempotency-Key", type="idempotency-key", detail="1 to 255 printable ASCII characters are allowed"
        )
        raise ProblemError("validation", f"{error.pointer}: {error.detail}", errors=[error])
    return replace(context, idempotency=IdempotencyKey(idempotency_key, await _request_hash(request)))


Context = Annotated[CommandContext, Depends(command_context)]


async def _tokens(request: Request, service: Service, header: TokenHeader = None) -> tuple[ConsistencyToken, ...]:
    return read_tokens(service.signer, service.principal.tenant, await given_tokens(request))


Tokens = Annotated[tuple[ConsistencyToken, ...], Depends(_tokens)]


def _traceparent(request: Request) -> str | None:
    """As W3C Trace Context has it: one that is not well-formed is as good as none."""
    given = request.headers.get("traceparent", "")
    return given if _TRACEPARENT.match(given) else None


async def _request_hash(request: Request) -> bytes:
    digest = hashlib.sha256()
    for part in (
        request.method.encode(),
        request.url.path.encode(),
        request.url.query.encode(),
        request.headers.get("if-match", "").encode(),
        await request.body(),
    ):
        digest.update(len(part).to_bytes(8))
        digest.update(part)
    return digest.digest()
