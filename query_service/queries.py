"""What the query bus executes."""

from __future__ import annotations

from typing import Protocol

from query_service.catalogue import LiveCollection
from shared.postgres import Connection
from shared.read_model.snapshot import FoundT, Reading


class Query(Protocol[FoundT]):
    """A read of one collection in one statement."""

    async def read(self, connection: Connection, collection: LiveCollection) -> Reading[FoundT]: ...


class KeptQuery(Query[FoundT], Protocol[FoundT]):
    """One whose answer is worth keeping."""

    def identity(self) -> bytes:
        """What tells it from all other queries over the same tables."""

    def dump(self, found: FoundT) -> bytes: ...

    def load(self, payload: bytes) -> FoundT: ...
