"""Several searches of one collection, all in one snapshot of one server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import orjson

from query_service.catalogue import LiveCollection
from query_service.errors import (
    AnswerTooLargeError,
    DimensionMismatchError,
    NotFiniteError,
    RefusedPartError,
    VectorNotFoundError,
    ZeroVectorError,
)
from query_service.search import Hits, SearchVectors, kept_hits
from shared.postgres import Connection
from shared.read_model.expiry import earliest
from shared.read_model.snapshot import Reading, one_snapshot

_REFUSALS = (DimensionMismatchError, NotFiniteError, ZeroVectorError)


@dataclass(frozen=True, slots=True)
class SearchBatch:
    """At least one search. All their hits together take at most `max_bytes`."""

    searches: Sequence[SearchVectors]
    max_bytes: int

    async def read(self, connection: Connection, collection: LiveCollection) -> Reading[Sequence[Hits]]:
        """The hits of each search, in their order.

        Raises:
            RefusedPartError: of what a search refuses; its address is `/queries/<index>`.
            ModelMismatchError, AnswerTooLargeError
        """
        for number, search in enumerate(self.searches):
            try:
                search.check(collection)
            except _REFUSALS as error:
                raise RefusedPartError(f"/queries/{number}", error) from error
        readings: list[Reading[Hits]] = []
        taken = 0
        async with one_snapshot(connection):
            for number, search in enumerate(self.searches):
                reading = await self._read(connection, collection, number, search, taken)
                if reading.found is None:
                    raise RefusedPartError(f"/queries/{number}/id", VectorNotFoundError(str(search.origin)))
                taken += sum(
                    search.include.bytes_of(hit.content, hit.metadata, hit.embedding) for hit in reading.found.hits
                )
                readings.append(Reading(reading.snapshot, reading.found, reading.valid_until))
        valid_until = earliest(*(one.valid_until for one in readings))
        return Reading(readings[0].snapshot, [one.found for one in readings], valid_until)

    async def _read(
        self, connection: Connection, collection: LiveCollection, number: int, search: SearchVectors, taken: int
    ) -> Reading[Hits | None]:
        try:
            return await replace(search, max_bytes=self.max_bytes - taken).read(connection, collection)
        except AnswerTooLargeError as error:
            raise AnswerTooLargeError(taken + error.found, self.max_bytes) from error
        except _REFUSALS as error:
            raise RefusedPartError(f"/queries/{number}", error) from error

    def identity(self) -> bytes:
        return b"batch:" + b"".join(
            len(identity).to_bytes(4) + identity for identity in (search.identity() for search in self.searches)
        )

    def dump(self, found: Sequence[Hits]) -> bytes:
        pairs = zip(self.searches, found, strict=True)
        return orjson.dumps([orjson.Fragment(search.dump(hits)) for search, hits in pairs])

    def load(self, payload: bytes) -> Sequence[Hits]:
        return [hits for kept in orjson.loads(payload) if (hits := kept_hits(kept)) is not None]
