"""What can be wrong with an event, and with the log that it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from events_schema.upcasters import UnreadableEventError


class UnprojectableEventError(Exception):
    """The event is readable, but the read model has no place for it: another dimension, an update of nothing."""


class UnaccountedSpecError(UnprojectableEventError):
    """It brings no embedding of the generation's spec. Whether that is a fault, the collection's own events say."""


class AwaitsGenerationError(Exception):
    """The event is not at fault: its turn comes when searches read another generation, which the upkeep makes."""


class CheckpointMismatchError(Exception):
    """The read model was not built from this log. Nothing is applied until someone decides which of them is right."""


class NothingProjectedError(CheckpointMismatchError):
    """There are no checkpoints: the read model is new, or was emptied a moment ago."""

    def __init__(self) -> None:
        super().__init__("no projector has begun yet to build this read model; one that runs does so within seconds")


class LayoutChangedError(Exception):
    """Another projector has dealt the checkpoints out otherwise, or a new feed began. Open the source anew."""


class GenerationGoneError(Exception):
    """The generation is not there any more, or is not what it was: its collection was deleted, or another process has
    replaced it."""

    def __init__(self, collection_id: UUID, number: int | None = None) -> None:
        what = f"the collection {collection_id}" if number is None else f"generation {number} of {collection_id}"
        super().__init__(f"{what} is not there any more")
        self.collection_id = collection_id
        self.number = number


class UnknownProjectionVersionError(Exception):
    """The tables were made by a version of the projection that this software does not know, so it writes none of them.
    Nothing is applied until a release runs that does."""

    def __init__(self, table: str, version: int, known: Sequence[int]) -> None:
        release = "a newer" if version > max(known) else "an older"
        super().__init__(
            f"the table {table} was made by version {version} of the projection, and this projector knows "
            f"{', '.join(map(str, known))}: run {release} release, which knows both"
        )
        self.version = version


class NoSchemaError(Exception):
    """The read database is empty: it was made anew, or never set up."""

    def __init__(self) -> None:
        super().__init__("the read database has no schema yet; run `aindusdb schema upgrade`")


class GenerationBusyError(Exception):
    """The indexes of a generation that is being made are in the making, and whoever writes to it waits for that. The
    projection, which is held up as long, is not to."""

    def __init__(self, number: int) -> None:
        super().__init__(
            f"generation {number} of the collection is getting its indexes and takes no events meanwhile; what waits "
            "stays parked until it has them"
        )


class NoFeedError(Exception):
    """No relay has opened a feed yet, so there is nothing to read."""


class RebuildFailedError(Exception):
    """An event that the projection has applied does not fit the generation that is made, or the index cannot be made
    over it. A rebuild parks nothing of its own: the generation is given up, and the one before it stays."""


class NoRoomError(Exception):
    """The read database's disk has no room for another generation. It is given up, and what it took is given back; the
    one before it stays."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(
            f"the read database has no room for generation {number}; what it took is given back. The database says: "
            f"{reason}"
        )
        self.number = number


class NotCaughtUpError(Exception):
    """More happened meanwhile than can be made up for while the projection stands still."""


class SnapshotError(Exception):
    """The generation ends at a position of the past. What searches read must go on, or tokens and freshness would
    promise what is not in it."""

    def __init__(self, number: int, until_position: int) -> None:
        super().__init__(
            f"generation {number} is a snapshot that ends at position {until_position:,}; --catch-up folds it on to "
            "the present"
        )
        self.number = number
        self.until_position = until_position


class VerificationFailedError(Exception):
    """The two sides cannot be compared, and nothing is said about whether they are the same."""


POISON = (
    UnreadableEventError,
    UnprojectableEventError,
    ValueError,  # an embedding that cannot be decoded; also asyncpg's refusal to encode a parameter
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
)
"""The event itself is at fault, and trying it elsewhere or later would end the same way. Whatever else is raised
(serialisation failures, deadlocks, vanished tables, full disks, lost connections) says nothing against it."""

KEPT_AT_FAULT = (*POISON, asyncpg.SyntaxOrAccessError, asyncpg.InternalServerError)
"""A kept generation cannot be written: it does not take what the active one takes, its tables or its index are broken
or gone. What concerns the whole transaction is raised and tried again."""
