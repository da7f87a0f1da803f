"""What can come back instead of an answer. The message of each is one sentence for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ClientError(Exception):
    """Root of all errors of the client."""


class UnreachableError(ClientError):
    """No answer came: nothing listens there, the connection broke, or the time ran out."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"{url} cannot be reached: {reason}")
        self.url = url


class UnexpectedAnswerError(ClientError):
    """Something answered, but not this API."""

    def __init__(self, url: str, status: int, reason: str) -> None:
        super().__init__(f"{url} answered {status}, but not as AindusDB does: {reason}")
        self.status = status


class ProblemError(ClientError):
    """The service refused. `document` is its whole problem document (RFC 9457)."""

    def __init__(self, status: int, document: Mapping[str, Any], *, retry_after_seconds: float | None = None) -> None:
        super().__init__(str(document.get("detail") or document.get("title") or f"the service answered {status}"))
        self.status = status
        self.document = dict(document)
        self.retry_after_seconds = retry_after_seconds

    @property
    def name(self) -> str:
        """The last part of the problem's type, such as `collection-not-found`."""
        return str(self.document.get("type", "")).rpartition("/")[2]

    @property
    def errors(self) -> list[dict[str, Any]]:
        """The single faults, each with `pointer`, `type` and `detail`; empty if the problem names none."""
        errors = self.document.get("errors")
        return [error for error in errors if isinstance(error, dict)] if isinstance(errors, list) else []
