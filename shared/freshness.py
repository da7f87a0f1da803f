"""Consistency tokens: a read that carries one is answered from a snapshot that covers it, or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shared.read_model.snapshot import Snapshot
from shared.tokens import MAX_TOKENS, ConsistencyToken, MalformedTokenError, Signer, WrongDatabaseError

DEFAULT_TIMEOUT_MS = 2_000
MAX_TIMEOUT_MS = 30_000
MAX_STALENESS_MS = 3_600_000


class ForeignTokenError(Exception):
    """The token is of another event log than the one that the read model is built from."""


class NotFreshEnoughError(Exception):
    """Positions: `expected` is the token's last, `current` how far the read model has come."""

    def __init__(self, expected: int, current: int) -> None:
        super().__init__(f"the read model is at position {current}, the token asks for {expected}")
        self.expected = expected
        self.current = current


def read_tokens(signer: Signer, tenant: str, texts: Sequence[str]) -> tuple[ConsistencyToken, ...]:
    """The tokens in these texts, each of which holds one or several with commas between.

    Raises:
        MalformedTokenError: one is not ours, or they are too many.
        WrongDatabaseError: one is another tenant's.
    """
    each = [token.strip() for text in texts for token in text.split(",")]
    if len(each) > MAX_TOKENS:
        raise MalformedTokenError(f"a read takes at most {MAX_TOKENS} consistency tokens, not {len(each)}")
    tokens = tuple(signer.read_token(token) for token in each)
    if any(token.tenant != tenant for token in tokens):
        raise WrongDatabaseError("the consistency token is another tenant's")
    return tokens


@dataclass(frozen=True, slots=True)
class Demand:
    """What a read asks of its snapshot, and until when (monotonic time) it is willing to wait.

    `max_staleness_seconds`: the statement or poll that vouches for the answer may be so much older than the request;
    None: as the settings say.
    """

    tokens: tuple[ConsistencyToken, ...]
    deadline: float
    max_staleness_seconds: float | None = None

    @property
    def position(self) -> int:
        return max((token.last for token in self.tokens), default=0)

    def vouched_since(self, moment: float) -> float | None:
        """The monotonic time from which on what vouches for an answer to a request of this moment must be; None: as
        the settings say."""
        return None if self.max_staleness_seconds is None else moment - self.max_staleness_seconds

    def covered_by(self, snapshot: Snapshot) -> bool:
        """
        Raises:
            ForeignTokenError: the tokens are of another log.
        """
        if not self.tokens:
            return True
        if snapshot.log_id is None:
            return False
        if any(token.log_id != snapshot.log_id for token in self.tokens):
            raise ForeignTokenError("the consistency token belongs to another event log, perhaps from before a restore")
        return snapshot.low >= self.position

    def written(self, position: int) -> bool:
        """Whether the position is one that a token's holder wrote."""
        return any(token.first <= position <= token.last for token in self.tokens)

    def not_met(self, snapshot: Snapshot) -> NotFreshEnoughError:
        return NotFreshEnoughError(self.position, snapshot.low)
