"""RFC 9457 problems: the one shape of every refusal, and the table of all their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

PROBLEM_JSON = "application/problem+json"
MAX_ERRORS = 100

PROBLEMS: Mapping[str, tuple[int, str]] = {
    "malformed-json": (400, "The body is not valid JSON"),
    "malformed-cursor": (400, "The cursor is not valid here"),
    "malformed-token": (400, "The consistency token is not valid"),
    "wrong-database": (400, "The consistency token belongs to another database"),
    "unauthenticated": (401, "Who asks is not known"),
    "forbidden": (403, "This is not permitted"),
    "collection-not-found": (404, "There is no such collection"),
    "alias-not-found": (404, "There is no such alias"),
    "vector-not-found": (404, "There is no such vector"),
    "snapshot-not-found": (404, "There is no such snapshot of the collection"),
    "route-not-found": (404, "There is no such route"),
    "method-not-allowed": (405, "The route has no such method"),
    "not-acceptable": (406, "The answer cannot be given in that form"),
    "collection-exists": (409, "The collection exists already"),
    "collection-aliased": (409, "The collection has aliases"),
    "vector-exists": (409, "The vector exists already"),
    "collection-deleted": (409, "The collection was deleted meanwhile"),
    "reembedding-in-progress": (409, "The collection is moving to another model"),
    "projection-parked": (409, "What was written could not be projected yet"),
    "version-mismatch": (412, "The version is not the expected one"),
    "body-too-large": (413, "The body is too large"),
    "unsupported-media-type": (415, "The body is not of a supported kind"),
    "validation": (422, "The request breaks a rule"),
    "dimension-mismatch": (422, "The embedding's dimension is not the collection's"),
    "not-finite": (422, "The embedding holds a number that is not finite"),
    "zero-vector": (422, "A zero vector has no direction"),
    "model-mismatch": (422, "The embedding is of another model than the collection's"),
    "invalid-filter": (422, "The filter is not valid"),
    "answer-too-large": (422, "The answer would be too large"),
    "idempotency-key-reused": (422, "The Idempotency-Key was used for another request"),
    "projection-lag": (429, "The projection lags behind the log"),
    "internal-error": (500, "Something unforeseen went wrong"),
    "not-fresh-enough": (503, "No server has caught up with the token in time"),
    "snapshot-not-ready": (503, "The snapshot is not built"),
    "overloaded": (503, "Too much is waiting already"),
    "dependency-unavailable": (503, "Something this service depends on is away"),
    "timeout": (504, "The request took too long"),
}
"""Name -> (status, title). The name is the last part of the problem's type, `/problems/<name>`."""


class FieldError(BaseModel):
    """One broken rule. `pointer` is the RFC 6901 address of the field in the body, or the parameter's name."""

    model_config = ConfigDict(extra="allow")

    pointer: str
    type: str
    detail: str


class ProblemDocument(BaseModel):
    """The body of every refusal (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["/problems/validation"])
    title: str
    status: int
    detail: str
    instance: str | None = None
    request_id: str | None = None
    errors: list[FieldError] | None = None


class ProblemError(Exception):
    """A refusal as the HTTP edge says it. `extra` holds the members that this problem type adds."""

    def __init__(
        self,
        name: str,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.name = name
        self.status, self.title = PROBLEMS[name]
        self.detail = detail
        self.errors = list(errors)[:MAX_ERRORS]
        self.headers = dict(headers or {})
        self.extra = extra

    def response(self, *, instance: str | None = None, request_id: str | None = None) -> Response:
        document: dict[str, Any] = {
            "type": f"/problems/{self.name}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            **({"instance": instance} if instance else {}),
            **({"request_id": request_id} if request_id else {}),
            **self.extra,
            **({"errors": [error.model_dump() for error in self.errors]} if self.errors else {}),
        }
        return Response(
            orjson.dumps(document, default=str), status_code=self.status, headers=self.headers, media_type=PROBLEM_JSON
        )


def documented(*names: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that can refuse with these problems, beside those that any route can."""
    by_status: dict[int, list[str]] = {}
    for name in names:
        by_status.setdefault(PROBLEMS[name][0], []).append(name)
    return {
        status: {
            "model": ProblemDocument,
            "description": "Problem: " + ", ".join(f"`{name}`" for name in found),
            "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}},
        }
        for status, found in sorted(by_status.items())
    }
