"""Refusals of a read, and what can be in its way."""

from __future__ import annotations


class CollectionNotFoundError(Exception):
    def __init__(self, name: str) -> None:
        super().__init__(f"there is no collection {name!r}")


class VectorNotFoundError(Exception):
    def __init__(self, vector_id: str) -> None:
        super().__init__(f"there is no vector {vector_id!r}")


class DimensionMismatchError(Exception):
    def __init__(self, expected: int, got: int) -> None:
        super().__init__(f"the collection's dimension is {expected}, this embedding has {got} numbers")
        self.expected = expected
        self.got = got


class ZeroVectorError(Exception):
    """Under cosine the embedding has no direction: it is zero, or so short that its squared norm is."""


class NotFiniteError(Exception):
    """The embedding, or a distance to it, is beyond what the collection's type and metric can hold."""


class ProjectionParkedError(Exception):
    """`positions`: what the token's holder wrote and the projector had to set aside."""

    def __init__(self, positions: list[int]) -> None:
        shown = ", ".join(map(str, positions))
        super().__init__(f"the events at these positions could not be projected and are set aside: {shown}")
        self.positions = positions


class ForeignTokenError(Exception):
    """The token is of another event log than the one that the read model is built from."""


class NotFreshEnoughError(Exception):
    """Positions: `expected` is the token's last, `current` how far the read model has come."""

    def __init__(self, expected: int, current: int) -> None:
        super().__init__(f"the read model is at position {current}, the token asks for {expected}")
        self.expected = expected
        self.current = current


class TooManyReadsError(Exception):
    """So many reads are under way that another one would only wait. Try again in a second."""

    def __init__(self, under_way: int) -> None:
        super().__init__(f"{under_way} reads are under way already; try again in a second")


class ServerUnavailableError(Exception):
    """A read server is away, going, not yet back, or not yet set up. The read may be tried again."""

    def __init__(self, server: str, reason: str) -> None:
        super().__init__(f"the read database at {server} cannot be used: {reason}")
