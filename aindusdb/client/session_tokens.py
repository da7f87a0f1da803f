"""What a session has written and read, as the tokens that its next read carries."""

from __future__ import annotations

import threading

from aindusdb.client.models import (
    AliasPage,
    AliasWritten,
    Answer,
    BatchAnswer,
    ChangedByFilter,
    CollectionPage,
    CountAnswer,
    CreatedCollection,
    EventPage,
    Freshness,
    GroupsAnswer,
    ImportAnswer,
    ReadAlias,
    ReadCollection,
    ReadVector,
    Restored,
    SearchAnswer,
    SearchBatchAnswer,
    VectorPage,
    VectorWritten,
)

MAX_TOKENS = 8
"""So many a read may carry."""


class SessionTokens:
    """Of the tokens with a known position the newest one covers all others. Those of imports and restores, and of
    changes by a filter that found all as it was to be, say no position: they are kept beside it, until a read has
    carried them, whose own token covers them too."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._newest: tuple[int, str] | None = None
        self._others: tuple[str, ...] = ()

    def carried(self) -> tuple[str, ...]:
        with self._lock:
            return (*self._others, *(() if self._newest is None else (self._newest[1],)))

    @property
    def is_full(self) -> bool:
        """The next one might not find room: a read has to make one of all first."""
        return len(self._others) >= MAX_TOKENS - 1

    def learn(self, answer: Answer, carried: tuple[str, ...]) -> None:
        """`carried` is what the request carried, if it was a read."""
        match answer:
            case VectorWritten() | CreatedCollection() | AliasWritten():
                self._written(answer.consistency_token, answer.position)
            case BatchAnswer():
                self._written(answer.consistency_token, answer.last_position)
            case ChangedByFilter(consistency_token=str(token), last_position=int(position)):
                self._written(token, position)
            case ImportAnswer() | Restored() | ChangedByFilter():
                if answer.consistency_token is not None:
                    with self._lock:
                        self._others = (*self._others, answer.consistency_token)
            case (
                ReadCollection() | CollectionPage() | ReadAlias() | AliasPage() | ReadVector() | VectorPage()
                | SearchAnswer() | SearchBatchAnswer() | GroupsAnswer() | CountAnswer() | EventPage()
            ):  # fmt: skip
                # What the past looked like says nothing of the present.
                if answer.freshness is not None and getattr(answer, "as_of", None) is None:
                    self._read(answer.freshness, carried)
            case _:
                pass

    def _written(self, token: str, position: int) -> None:
        with self._lock:
            if self._newest is None or position > self._newest[0]:
                self._newest = (position, token)

    def _read(self, freshness: Freshness, carried: tuple[str, ...]) -> None:
        if freshness.token is None:
            return
        self._written(freshness.token, freshness.position)
        with self._lock:
            self._others = tuple(token for token in self._others if token not in carried)
