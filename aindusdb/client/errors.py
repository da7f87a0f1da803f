"""What can come back instead of an answer. The message of each is one sentence for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


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


class MissingExtraError(ClientError):
    """A library is needed that is not installed, because it belongs to an extra."""

    def __init__(self, library: str, extra: str) -> None:
        super().__init__(f"{library} is needed for this; install aindusdb-core[{extra}]")
        self.library = library
        self.extra = extra


class ProblemError(ClientError):
    """The service refused. `document` is its whole problem document (RFC 9457).

    What is raised is of the class of the problem's type, each of which is below; of this class itself, if the service
    is newer than the client and the type has no class here yet.
    """

    problem: ClassVar[str] = ""
    """The last part of the type's URL, such as `collection-not-found`."""
    _classes: ClassVar[dict[str, type[ProblemError]]] = {}

    def __init_subclass__(cls) -> None:
        ProblemError._classes[cls.problem] = cls

    def __init__(self, status: int, document: Mapping[str, Any], *, retry_after_seconds: float | None = None) -> None:
        super().__init__(str(document.get("detail") or document.get("title") or f"the service answered {status}"))
        self.status = status
        self.document = dict(document)
        self.retry_after_seconds = retry_after_seconds

    @staticmethod
    def of(status: int, document: Mapping[str, Any], *, retry_after_seconds: float | None = None) -> ProblemError:
        """The error for a problem document, of the class of its type."""
        named = ProblemError._classes.get(_name_of(document), ProblemError)
        return named(status, document, retry_after_seconds=retry_after_seconds)

    @property
    def name(self) -> str:
        """The last part of the problem's type, such as `collection-not-found`."""
        return _name_of(self.document)

    @property
    def request_id(self) -> str | None:
        """Under which the service's logs name the request."""
        given = self.document.get("request_id")
        return given if isinstance(given, str) else None

    @property
    def errors(self) -> list[dict[str, Any]]:
        """The single faults, each with `pointer`, `type` and `detail`; empty if the problem names none."""
        errors = self.document.get("errors")
        return [error for error in errors if isinstance(error, dict)] if isinstance(errors, list) else []

    def _number(self, member: str) -> int | None:
        value = self.document.get(member)
        return value if isinstance(value, int) else None


def _name_of(document: Mapping[str, Any]) -> str:
    return str(document.get("type", "")).rpartition("/")[2]


class MalformedJsonError(ProblemError):
    problem = "malformed-json"


class MalformedCursorError(ProblemError):
    problem = "malformed-cursor"


class MalformedTokenError(ProblemError):
    problem = "malformed-token"


class WrongDatabaseError(ProblemError):
    """The consistency token is from before a restore, or from elsewhere."""

    problem = "wrong-database"


class UnauthenticatedError(ProblemError):
    problem = "unauthenticated"


class ForbiddenError(ProblemError):
    problem = "forbidden"


class CollectionNotFoundError(ProblemError):
    problem = "collection-not-found"


class AliasNotFoundError(ProblemError):
    problem = "alias-not-found"


class VectorNotFoundError(ProblemError):
    problem = "vector-not-found"


class SnapshotNotFoundError(ProblemError):
    """Nothing holds the collection as it was then. Build a snapshot first."""

    problem = "snapshot-not-found"


class RouteNotFoundError(ProblemError):
    """The address is not that of this API, or the service is older than the client."""

    problem = "route-not-found"


class MethodNotAllowedError(ProblemError):
    problem = "method-not-allowed"


class NotAcceptableError(ProblemError):
    problem = "not-acceptable"


class CollectionExistsError(ProblemError):
    problem = "collection-exists"


class CollectionAliasedError(ProblemError):
    """It bears aliases, which have to be removed or moved first."""

    problem = "collection-aliased"


class ReembeddingInProgressError(ProblemError):
    """It is moving to another model already."""

    problem = "reembedding-in-progress"


class VectorExistsError(ProblemError):
    problem = "vector-exists"


class CollectionDeletedError(ProblemError):
    """It was deleted while the request was under way."""

    problem = "collection-deleted"


class ProjectionParkedError(ProblemError):
    """What the token stands for could not be projected; an operator has to look at it."""

    problem = "projection-parked"


class VersionMismatchError(ProblemError):
    problem = "version-mismatch"

    @property
    def expected(self) -> int | None:
        return self._number("expected")

    @property
    def current(self) -> int | None:
        return self._number("current")


class BodyTooLargeError(ProblemError):
    problem = "body-too-large"


class UnsupportedMediaTypeError(ProblemError):
    problem = "unsupported-media-type"


class ValidationError(ProblemError):
    """`errors` says which field breaks which rule."""

    problem = "validation"


class DimensionMismatchError(ProblemError):
    problem = "dimension-mismatch"

    @property
    def expected(self) -> int | None:
        return self._number("expected")

    @property
    def got(self) -> int | None:
        return self._number("got")


class NotFiniteError(ProblemError):
    problem = "not-finite"


class ZeroVectorError(ProblemError):
    problem = "zero-vector"


class ModelMismatchError(ProblemError):
    problem = "model-mismatch"


class InvalidFilterError(ProblemError):
    problem = "invalid-filter"


class AnswerTooLargeError(ProblemError):
    """Ask for fewer hits or parts. In bytes: what was `found`, and the `limit`."""

    problem = "answer-too-large"

    @property
    def found(self) -> int | None:
        return self._number("found")

    @property
    def limit(self) -> int | None:
        return self._number("limit")


class IdempotencyKeyReusedError(ProblemError):
    problem = "idempotency-key-reused"


class ProjectionLagError(ProblemError):
    """Writes are ahead of the projection by `backlog` events, for which it needs `behind_seconds`."""

    problem = "projection-lag"

    @property
    def backlog(self) -> int | None:
        return self._number("backlog")


class InternalError(ProblemError):
    """A fault of the service; its logs have more under `request_id`."""

    problem = "internal-error"


class NotFreshEnoughError(ProblemError):
    """No server had caught up with the token within `timeout_ms`."""

    problem = "not-fresh-enough"


class SnapshotNotReadyError(ProblemError):
    """It is still being built, and holds the events up to `current`; or it could not be built."""

    problem = "snapshot-not-ready"

    @property
    def current(self) -> int | None:
        return self._number("current")


class OverloadedError(ProblemError):
    problem = "overloaded"


class DependencyUnavailableError(ProblemError):
    problem = "dependency-unavailable"


class RequestTimeoutError(ProblemError):
    problem = "timeout"
