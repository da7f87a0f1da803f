"""Refusals of a read, and what can be in its way."""

from __future__ import annotations

from collections.abc import Mapping


class CollectionNotFoundError(Exception):
    def __init__(self, name: str) -> None:
        super().__init__(f"there is no collection {name!r}")


class AliasNotFoundError(Exception):
    def __init__(self, name: str) -> None:
        super().__init__(f"there is no alias {name!r}")


class VectorNotFoundError(Exception):
    def __init__(self, vector_id: str, position: int | None = None) -> None:
        then = f"at position {position} there was" if position is not None else "there is"
        super().__init__(f"{then} no vector {vector_id!r}")


class RefusedPartError(Exception):
    """`error` is about one of several things that the request holds, the one at `pointer`."""

    def __init__(self, pointer: str, error: Exception) -> None:
        super().__init__(f"{pointer}: {error}")
        self.pointer = pointer
        self.error = error


class DimensionMismatchError(Exception):
    def __init__(self, expected: int, got: int) -> None:
        super().__init__(f"the collection's dimension is {expected}, this embedding has {got} numbers")
        self.expected = expected
        self.got = got


class ZeroVectorError(Exception):
    """Under cosine the embedding has no direction: it is zero, or so short that its squared norm is."""


class NotFiniteError(Exception):
    """The embedding, or a distance to it, is beyond what the collection's type and metric can hold."""


class AnswerTooLargeError(Exception):
    """In bytes: what was asked for takes `found`, an answer at most `limit`."""

    def __init__(self, found: int, limit: int) -> None:
        super().__init__(f"what was asked for takes {found} bytes, an answer has at most {limit}")
        self.found = found
        self.limit = limit


class ExamplesNotFoundError(Exception):
    """`missing`: the address in the request and the id of each stored vector that is not there."""

    def __init__(self, missing: list[tuple[str, str]]) -> None:
        super().__init__("there is no vector " + ", ".join(repr(vector_id) for _, vector_id in missing))
        self.missing = missing


class UnusableExamplesError(Exception):
    """The point between the examples has no distances. `problem` names why."""

    def __init__(self, problem: str, rule: str) -> None:
        super().__init__(rule)
        self.problem = problem


class ProjectionParkedError(Exception):
    """`positions`: what the token's holder wrote and the projector had to set aside."""

    def __init__(self, positions: list[int]) -> None:
        shown = ", ".join(map(str, positions))
        super().__init__(f"the events at these positions could not be projected and are set aside: {shown}")
        self.positions = positions


class VersionNotFoundError(Exception):
    """The vector had no such version, or was deleted with it."""

    def __init__(self, vector_id: str, version: int, *, deleted: bool) -> None:
        said = f"the vector {vector_id!r} was deleted with version {version}"
        super().__init__(said if deleted else f"the vector {vector_id!r} has no version {version}")


class BeyondTheHeadError(Exception):
    """A feed cannot begin at a position that the log has not reached. `parameter` is where it was given."""

    def __init__(self, parameter: str, position: int, head: int) -> None:
        super().__init__(f"the event log ends at position {head}; a feed cannot begin behind {position}")
        self.parameter = parameter


class OutsideTheLogError(Exception):
    """The collection did not exist then, or that is yet to come. `pointer` is where the moment was given."""

    def __init__(self, pointer: str, rule: str, positions: Mapping[str, int]) -> None:
        super().__init__(rule)
        self.pointer = pointer
        self.positions = positions


class SnapshotNotFoundError(Exception):
    """The collection has no snapshot of this name, or none that holds it as it was at this position."""

    def __init__(self, collection: str, name: str | None, position: int | None) -> None:
        if name is None:
            which = f"of position {position}"
            remedy = f"`aindusdb replay build --collection {collection} --until-position {position}` builds one"
        else:
            which = repr(name)
            remedy = "GET …/snapshots lists those that there are"
        super().__init__(f"the collection {collection!r} has no snapshot {which}; {remedy}")
        self.position = position


class SnapshotNotReadyError(Exception):
    """It is being built, and holds the events up to `current` so far; or it could not be built."""

    def __init__(self, name: str, position: int, state: str, current: int) -> None:
        said = "is being built" if state == "building" else "could not be built"
        super().__init__(f"the snapshot {name!r} of position {position} {said}")
        self.expected = position
        self.current = current
        self.is_coming = state == "building"


class SnapshotGoneError(Exception):
    """Between the choice of a snapshot and its reading it was dropped, or became something else."""


class TooManyFeedsError(Exception):
    """Try again later, or follow the topic."""

    def __init__(self, open_feeds: int) -> None:
        super().__init__(f"{open_feeds} feeds are open already")


class EventLogUnavailableError(Exception):
    """The event database is away, or none is configured."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the event log cannot be read: {reason}")


class TooManyReadsError(Exception):
    """So many reads are under way that another one would only wait. Try again in a second."""

    def __init__(self, under_way: int) -> None:
        super().__init__(f"{under_way} reads are under way already; try again in a second")


class ServerUnavailableError(Exception):
    """A read server is away, going, not yet back, or not yet set up. The read may be tried again."""

    def __init__(self, server: str, reason: str) -> None:
        super().__init__(f"the read database at {server} cannot be used: {reason}")
