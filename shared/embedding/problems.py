"""How it is said over HTTP that a text cannot be embedded."""

from __future__ import annotations

from collections.abc import Sequence

from shared.embedding.errors import (
    ModelMismatchError,
    NoProviderError,
    ProviderUnavailableError,
    TextRefusedError,
    TooManyTextsError,
)
from shared.http.problems import FieldError, ProblemError

TextError = NoProviderError | ModelMismatchError | TextRefusedError


def problem_of_texts(error: TextError, texts: Sequence[tuple[str, str]]) -> ProblemError:
    """The problem of those texts, each with its address in the request, that are at fault."""
    match error:
        case NoProviderError():
            return _problem("validation", "embedding-provider", str(error), [pointer for pointer, _ in texts])
        case ModelMismatchError():
            problem = _problem("model-mismatch", "model-mismatch", str(error), [pointer for pointer, _ in texts])
            problem.extra["expected"] = error.expected.model_dump()
            return problem
        case TextRefusedError():
            pointers = [pointer for pointer, text in texts if text == error.text]
            return _problem("validation", "text-refused", str(error), pointers)


def unavailability(error: Exception) -> ProblemError | None:
    """The problem of a provider that cannot be used now; None for any other error."""
    match error:
        case ProviderUnavailableError():
            headers = {"Retry-After": f"{max(error.retry_after_seconds, 1.0):.0f}"}
            return ProblemError("dependency-unavailable", f"text cannot be embedded now: {error}", headers=headers)
        case TooManyTextsError():
            return ProblemError("overloaded", str(error), headers={"Retry-After": str(error.retry_after_seconds)})
        case _:
            return None


def _problem(name: str, kind: str, detail: str, pointers: Sequence[str]) -> ProblemError:
    errors = [FieldError(pointer=pointer, type=kind, detail=detail) for pointer in pointers]
    return ProblemError(name, f"{pointers[0]}: {detail}", errors=errors)
