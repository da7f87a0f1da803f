"""Consistency tokens: a read that carries one is answered from a snapshot that covers it, or not at all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from query_service.errors import ForeignTokenError, NotFreshEnoughError
from query_service.metrics import QueryMetrics
from query_service.polls import Poll
from query_service.replicas import ReadServer
from query_service.snapshot import Snapshot
from shared.tokens import MAX_TOKENS, ConsistencyToken, MalformedTokenError, Signer, WrongDatabaseError

DEFAULT_TIMEOUT_MS = 2_000
MAX_TIMEOUT_MS = 30_000

_SHORTEST_PAUSE_SECONDS = 0.002
_LONGEST_PAUSE_SECONDS = 0.020


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
    """What a read asks of its snapshot, and until when (monotonic time) it is willing to wait."""

    tokens: tuple[ConsistencyToken, ...]
    deadline: float

    @property
    def position(self) -> int:
        return max((token.last for token in self.tokens), default=0)

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


async def covering_poll(server: ReadServer, demand: Demand, metrics: QueryMetrics) -> Poll:
    """A recent poll of the server that covers the demand.

    Raises:
        ForeignTokenError, NotFreshEnoughError, ServerUnavailableError
    """
    poll = await server.recent_poll()
    if not demand.tokens:
        return poll
    with metrics.freshness_wait.time():
        pause = 0.0  # the first poll that is too old is replaced at once
        while not demand.covered_by(poll.snapshot):
            left = demand.deadline - time.monotonic()
            if pause and left <= 0:
                raise demand.not_met(poll.snapshot)
            await asyncio.sleep(min(pause, left))
            poll = await server.poll_since(time.monotonic())
            pause = min(max(2 * pause, _SHORTEST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)
    return poll
