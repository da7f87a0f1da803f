"""The one table from this service's refusals to HTTP problems."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from query_service.errors import (
    AliasNotFoundError,
    AnswerTooLargeError,
    BeyondTheHeadError,
    CollectionNotFoundError,
    DimensionMismatchError,
    EventLogUnavailableError,
    ExamplesNotFoundError,
    NotFiniteError,
    OutsideTheLogError,
    ProjectionParkedError,
    RefusedPartError,
    ServerUnavailableError,
    SnapshotNotFoundError,
    SnapshotNotReadyError,
    TooManyFeedsError,
    TooManyReadsError,
    UnusableExamplesError,
    VectorNotFoundError,
    VersionNotFoundError,
    ZeroVectorError,
)
from shared.embedding.errors import ModelMismatchError
from shared.embedding.problems import problem_of_texts, unavailability
from shared.freshness import ForeignTokenError, NotFreshEnoughError
from shared.http.problems import FieldError, ProblemError
from shared.read_model.filters import InvalidFilterError
from shared.tokens import MalformedCursorError, MalformedTokenError, WrongDatabaseError

_SOON = {"Retry-After": "1"}
_LATER = {"Retry-After": "5"}


def problem_of(error: Exception) -> ProblemError | None:
    """The problem that tells a caller of this error; None for an error that is not of this service's making."""
    match error:
        case MalformedTokenError():
            return ProblemError("malformed-token", str(error))
        case MalformedCursorError():
            return ProblemError("malformed-cursor", str(error))
        case WrongDatabaseError() | ForeignTokenError():
            return ProblemError("wrong-database", str(error))
        case InvalidFilterError():
            return _of_field("invalid-filter", f"/filter{error.pointer}", error.detail)
        case RefusedPartError():
            return _of_part(error)
        case DimensionMismatchError():
            return _of_field(
                "dimension-mismatch", "/embedding", str(error), {"expected": error.expected, "got": error.got}
            )
        case ZeroVectorError():
            return _of_field("zero-vector", "/embedding", str(error))
        case NotFiniteError():
            return _of_field("not-finite", "/embedding", str(error))
        case AnswerTooLargeError():
            return ProblemError("answer-too-large", str(error), found=error.found, limit=error.limit)
        case CollectionNotFoundError():
            return ProblemError("collection-not-found", str(error))
        case AliasNotFoundError():
            return ProblemError("alias-not-found", str(error))
        case VectorNotFoundError():
            return ProblemError("vector-not-found", str(error))
        case ExamplesNotFoundError():
            errors = [
                FieldError(pointer=pointer, type="vector-not-found", detail=f"there is no vector {vector_id!r}")
                for pointer, vector_id in error.missing
            ]
            return ProblemError("vector-not-found", str(error), errors=errors)
        case UnusableExamplesError():
            return _of_field(error.problem, "/positive", str(error))
        case ProjectionParkedError():
            return ProblemError("projection-parked", str(error), positions=error.positions)
        case NotFreshEnoughError():
            return ProblemError(
                "not-fresh-enough", str(error), headers=_SOON, expected=error.expected, current=error.current
            )
        case VersionNotFoundError():
            return ProblemError("vector-not-found", str(error))
        case BeyondTheHeadError():
            return _of_field("validation", error.parameter, str(error))
        case OutsideTheLogError():
            return _of_field("validation", error.pointer, str(error), error.positions)
        case SnapshotNotFoundError():
            extra = {} if error.position is None else {"position": error.position}
            return ProblemError("snapshot-not-found", str(error), **dict[str, Any](extra))
        case SnapshotNotReadyError():
            return ProblemError(
                "snapshot-not-ready", str(error), headers=_LATER if error.is_coming else {},
                expected=error.expected, current=error.current,
            )  # fmt: skip
        case EventLogUnavailableError():
            return ProblemError("dependency-unavailable", str(error), headers=_SOON)
        case TooManyReadsError() | TooManyFeedsError():
            return ProblemError("overloaded", str(error), headers=_SOON)
        case ModelMismatchError():
            return problem_of_texts(error, [("/query", "")])
        case ServerUnavailableError():
            return ProblemError("dependency-unavailable", str(error), headers=_SOON)
        case _:
            return unavailability(error)


def _of_part(error: RefusedPartError) -> ProblemError | None:
    """The same problem, with its addresses in the request as a whole."""
    problem = problem_of(error.error)
    if problem is None:
        return None
    inside = problem.errors or [FieldError(pointer="", type=problem.name, detail=problem.detail)]
    errors = [one.model_copy(update={"pointer": error.pointer + one.pointer}) for one in inside]
    detail = problem.detail if problem.detail.startswith("/") else f": {problem.detail}"
    return ProblemError(
        problem.name, error.pointer + detail, errors=errors, headers=problem.headers, **dict[str, Any](problem.extra)
    )


def _of_field(name: str, pointer: str, detail: str, extra: Mapping[str, int] | None = None) -> ProblemError:
    error = FieldError(pointer=pointer, type=name, detail=detail)
    return ProblemError(name, f"{pointer}: {detail}", errors=[error], **dict[str, Any](extra or {}))
