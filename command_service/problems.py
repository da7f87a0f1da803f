"""The one table from this service's refusals to HTTP problems."""

from __future__ import annotations

from typing import Any

from command_service.backpressure import ProjectionLagError
from command_service.command_bus import AppendFailedError, EventDatabaseUnavailableError
from command_service.command_queue import OverloadedError
from command_service.domain.refusals import (
    AliasExistsError,
    AliasNotFoundError,
    BatchRefusedError,
    CollectionAliasedError,
    CollectionChangedError,
    CollectionDeletedError,
    CollectionExistsError,
    CollectionNotFoundError,
    EmbeddingMissingError,
    ExpiresInPastError,
    IdempotencyKeyReusedError,
    MetadataTooLargeError,
    NoPlaceError,
    NotIndexableError,
    ReembeddingInProgressError,
    RefusalError,
    SpecChangedError,
    VectorExistsError,
    VectorNotFoundError,
    VersionMismatchError,
)
from command_service.matching import ReadDatabaseUnavailableError
from command_service.restoring import VectorsKeepChangingError
from shared.embedding.problems import unavailability
from shared.freshness import ForeignTokenError, NotFreshEnoughError
from shared.http.problems import FieldError, ProblemError
from shared.postgres import CONNECTION_LOST
from shared.read_model.filters import InvalidFilterError
from shared.tokens import MalformedCursorError, MalformedTokenError, WrongDatabaseError

_NAMES: dict[type[RefusalError], str] = {
    MetadataTooLargeError: "validation",
    ExpiresInPastError: "validation",
    SpecChangedError: "model-mismatch",
    EmbeddingMissingError: "model-mismatch",
    NotIndexableError: "validation",
    IdempotencyKeyReusedError: "idempotency-key-reused",
    CollectionNotFoundError: "collection-not-found",
    AliasNotFoundError: "alias-not-found",
    VectorNotFoundError: "vector-not-found",
    CollectionExistsError: "collection-exists",
    AliasExistsError: "collection-exists",
    CollectionAliasedError: "collection-aliased",
    VectorExistsError: "vector-exists",
    CollectionDeletedError: "collection-deleted",
    ReembeddingInProgressError: "reembedding-in-progress",
    VersionMismatchError: "version-mismatch",
    CollectionChangedError: "overloaded",
}
"""In the order of checks: of several refusals in a batch, the first in this order names the problem."""

_ORDER = {refusal: order for order, refusal in enumerate(_NAMES)}
_FIELDS: dict[type[RefusalError], str] = {
    MetadataTooLargeError: "metadata",
    ExpiresInPastError: "expires_at",
    VersionMismatchError: "if_version",
}


def problem_of(error: Exception) -> ProblemError | None:
    """The problem that tells a caller of this error; None for an error that is not of this service's making."""
    match error:
        case BatchRefusedError():
            return _batch_problem(error)
        case VersionMismatchError():
            return ProblemError("version-mismatch", str(error), expected=error.expected, current=error.current)
        case NotIndexableError():
            pointed = FieldError(pointer=f"/{error.field}", type="dimension", detail=str(error))
            return ProblemError("validation", f"{pointed.pointer}: {pointed.detail}", errors=[pointed])
        case ExpiresInPastError():
            pointed = FieldError(pointer="/expires_at", type="validation", detail=str(error))
            return ProblemError("validation", f"{pointed.pointer}: {pointed.detail}", errors=[pointed])
        case NoPlaceError():
            return ProblemError(error.problem, str(error))
        case CollectionChangedError():
            return ProblemError("overloaded", str(error), headers={"Retry-After": "1"})
        case RefusalError():
            return ProblemError(_NAMES[type(error)], str(error))
        case MalformedCursorError():
            return ProblemError("malformed-cursor", str(error))
        case MalformedTokenError():
            return ProblemError("malformed-token", str(error))
        case WrongDatabaseError() | ForeignTokenError():
            return ProblemError("wrong-database", str(error))
        case InvalidFilterError():
            pointed = FieldError(pointer=f"/filter{error.pointer}", type="invalid-filter", detail=error.detail)
            return ProblemError("invalid-filter", f"{pointed.pointer}: {pointed.detail}", errors=[pointed])
        case NotFreshEnoughError():
            return ProblemError(
                "not-fresh-enough",
                str(error),
                headers={"Retry-After": "1"},
                expected=error.expected,
                current=error.current,
            )
        case ReadDatabaseUnavailableError():
            return ProblemError("dependency-unavailable", str(error), headers={"Retry-After": "1"})
        case VectorsKeepChangingError():
            return ProblemError("overloaded", str(error), headers={"Retry-After": "1"})
        case ProjectionLagError():
            return ProblemError(
                "projection-lag",
                str(error),
                headers={"Retry-After": str(error.retry_after_seconds)},
                backlog=error.backlog,
                behind_seconds=round(error.behind_seconds, 1),
            )
        case OverloadedError():
            return ProblemError("overloaded", str(error), headers={"Retry-After": str(error.retry_after_seconds)})
        case EventDatabaseUnavailableError():
            return ProblemError("dependency-unavailable", str(error), headers={"Retry-After": "1"})
        case AppendFailedError():
            return ProblemError("internal-error", str(error))
        case _ if isinstance(error, CONNECTION_LOST) and not isinstance(error, TimeoutError):
            return ProblemError(
                "dependency-unavailable",
                "the event database cannot be reached; nothing was written",
                headers={"Retry-After": "1"},
            )
        case _:
            return unavailability(error)


def _batch_problem(error: BatchRefusedError) -> ProblemError:
    _, first = min(error.refusals, key=lambda refusal: (_ORDER[type(refusal[1])], refusal[0]))
    extra: dict[str, Any] = (
        {"expected": first.expected, "current": first.current} if isinstance(first, VersionMismatchError) else {}
    )
    return ProblemError(
        _NAMES[type(first)],
        str(first),
        errors=[
            FieldError(
                pointer=f"/operations/{index}/{_FIELDS.get(type(refusal), 'id')}",
                type=_NAMES[type(refusal)],
                detail=str(refusal),
            )
            for index, refusal in error.refusals
        ],
        **extra,
    )
