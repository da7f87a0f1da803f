"""Why a command is refused: one class for each reason, with what a caller needs to go on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


class RefusalError(Exception):
    """A command that breaks a rule of the domain. It appends nothing."""


@dataclass
class CollectionNotFoundError(RefusalError):
    name: str

    def __str__(self) -> str:
        return f"there is no collection {self.name!r}"


@dataclass
class CollectionExistsError(RefusalError):
    name: str

    def __str__(self) -> str:
        return f"the collection {self.name!r} exists already"


@dataclass
class AliasExistsError(RefusalError):
    """Collections and aliases share their names."""

    name: str
    collection: str

    def __str__(self) -> str:
        return f"{self.name!r} is an alias of the collection {self.collection!r}"


@dataclass
class AliasNotFoundError(RefusalError):
    name: str

    def __str__(self) -> str:
        return f"there is no alias {self.name!r}"


@dataclass
class CollectionAliasedError(RefusalError):
    name: str
    aliases: tuple[str, ...]

    def __str__(self) -> str:
        shown = ", ".join(map(repr, self.aliases[:10])) + (", …" if len(self.aliases) > 10 else "")
        return f"the collection {self.name!r} has aliases: {shown}; let them stand for another one, or remove them"


@dataclass
class NotIndexableError(RefusalError):
    """`field` is the one of index, type and model that is to change."""

    field: str
    type: str
    limit: int
    dimension: int

    def __str__(self) -> str:
        return (
            f"an indexed {self.type} has at most {self.limit} dimensions, not {self.dimension}; "
            "use index.kind none or type halfvec"
        )


@dataclass
class ReembeddingInProgressError(RefusalError):
    """The collection's tables are being made by another model, or those of the one before are still there."""

    name: str
    model: str | None

    def __str__(self) -> str:
        return (
            f"the collection {self.name!r} is moving to the model {self.model!r} and every vector has its embedding; "
            "wait until that is over, or go back to the model that it comes from"
        )


@dataclass
class EmbeddingMissingError(RefusalError):
    """The collection is moving from one model to another, and each write brings embeddings of both."""

    id: str
    model: str | None

    def __str__(self) -> str:
        return f"{self.id!r} has no embedding of the model {self.model!r}, which the collection's vectors have"


@dataclass
class CollectionChangedError(RefusalError):
    """Its metric, type or models, or what its alias stands for, changed between the checks of a write and its append;
    the write is to be checked again."""

    name: str

    def __str__(self) -> str:
        return f"{self.name!r} is being changed; send the request again"


@dataclass
class CollectionDeletedError(RefusalError):
    """It went between the request's resolution and its append."""

    name: str

    def __str__(self) -> str:
        return f"the collection {self.name!r} was deleted, or made anew, while the request was under way"


@dataclass
class VersionMismatchError(RefusalError):
    what: str
    expected: int
    current: int

    def __str__(self) -> str:
        return f"{self.what} has version {self.current}, not the expected {self.expected}"


@dataclass
class VectorNotFoundError(RefusalError):
    id: str

    def __str__(self) -> str:
        return f"there is no vector {self.id!r} in the collection"


@dataclass
class VectorExistsError(RefusalError):
    id: str

    def __str__(self) -> str:
        return f"the vector {self.id!r} exists already"


@dataclass
class SpecChangedError(RefusalError):
    """What is to come back was embedded by another model than the collection's, and cannot be embedded by that."""

    id: str

    def __str__(self) -> str:
        return (
            f"the embedding that {self.id!r} had is of another model or dimension than the collection's, by which its "
            "content cannot be embedded"
        )


@dataclass
class NoPlaceError(RefusalError):
    """What is to come back has an embedding that the collection cannot hold or compare any more, for its metric or type
    was changed. `problem` is the problem's name, `rule` the sentence that it breaks."""

    id: str
    problem: str
    rule: str

    def __str__(self) -> str:
        return f"the embedding that {self.id!r} had has no place in the collection any more: {self.rule}"


@dataclass
class MetadataTooLargeError(RefusalError):
    """The patch is small enough, but what it makes of the metadata is not."""

    id: str
    limit_bytes: int
    max_depth: int

    def __str__(self) -> str:
        return (
            f"the patched metadata of {self.id!r} would exceed {self.limit_bytes} bytes of JSON "
            f"or {self.max_depth} levels"
        )


@dataclass
class NotSkippableError(RefusalError):
    """An event that no projection may pass over."""

    position: int
    why: str

    def __str__(self) -> str:
        return f"the event at position {self.position} cannot be passed over: {self.why}"


@dataclass
class ExpiresInPastError(RefusalError):
    id: str
    expires_at: datetime
    now: datetime

    def __str__(self) -> str:
        return (
            f"{self.id!r} is to expire at {self.expires_at.isoformat()}, which is not in the future: "
            f"it is {self.now.isoformat()}"
        )


@dataclass
class IdempotencyKeyReusedError(RefusalError):
    key: str

    def __str__(self) -> str:
        return f"the Idempotency-Key {self.key!r} was used for a different request within the last 24 hours"


@dataclass
class BatchRefusedError(RefusalError):
    """Operations of a batch that were refused, each with its index; at most 100 are kept."""

    refusals: tuple[tuple[int, RefusalError], ...]

    def __str__(self) -> str:
        return f"{len(self.refusals)} operations were refused, so none took effect; the first: {self.refusals[0][1]}"
