"""What every route needs, and how an answer says how fresh it is."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from query_service.as_of import AsOf, Moment
from query_service.catalogue import LiveCollection
from query_service.errors import CollectionNotFoundError
from query_service.event_reader import EventReader
from query_service.feed import Feeds
from query_service.metrics import QueryMetrics
from query_service.queries import KeptQuery, Query
from query_service.query_bus import Answer, QueryBus, Target, resolve
from shared.embedding.embedder import TextEmbedder
from shared.freshness import Demand
from shared.principal import Principal
from shared.read_model.snapshot import FoundT, Snapshot
from shared.tokens import ConsistencyToken, Signer


@dataclass(frozen=True, slots=True)
class QueryService:
    bus: QueryBus
    signer: Signer
    principal: Principal
    metrics: QueryMetrics
    events: EventReader
    feeds: Feeds
    embedder: TextEmbedder
    max_answer_bytes: int

    async def collection(self, name: str, demand: Demand) -> LiveCollection:
        """The collection that bears the name, as a poll shows it that covers the demand.

        Raises:
            CollectionNotFoundError, ProjectionParkedError
        """
        poll = await self.bus.poll(demand)
        return resolve(poll, Target(self.principal.tenant, name, demand))[0]

    async def collection_id(self, name: str, given: UUID | None, demand: Demand) -> UUID:
        """The id of the collection that bears the name, or the given one if it is, or was, the tenant's.

        Raises:
            CollectionNotFoundError
        """
        if given is None:
            return (await self.collection(name, demand)).collection_id
        if not await self.events.knows_collection(given, self.principal.tenant):
            raise CollectionNotFoundError(str(given))
        return given

    async def read(
        self, query: Query[FoundT], name: str, demand: Demand, as_of: Moment | None = None
    ) -> Answer[FoundT]:
        """Of the present, or from a snapshot of that moment."""
        return await self.bus.execute(query, self.target(name, demand, as_of))

    async def read_kept(
        self,
        query: KeptQuery[FoundT],
        name: str,
        demand: Demand,
        as_of: Moment | None = None,
    ) -> Answer[FoundT]:
        """The same, from the cache where a kept answer still holds."""
        return await self.bus.execute_kept(query, self.target(name, demand, as_of))

    def target(self, name: str, demand: Demand, as_of: Moment | None) -> Target:
        choice = None if as_of is None else AsOf(self.events, as_of, demand)
        return Target(self.principal.tenant, name, demand, choice)

    def freshness(self, snapshot: Snapshot, began: float, parked: int) -> dict[str, Any]:
        """The member `freshness` of an answer. Its token covers all that can have been seen, and nothing in it is
        the holder's own writing: the range of positions is empty. It is null before anything was projected."""
        token = None
        if snapshot.log_id is not None:
            last = snapshot.high
            token = self.signer.sign_token(
                ConsistencyToken(snapshot.log_id, self.principal.tenant, first=last + 1, last=last)
            )
        return {
            "position": snapshot.low,
            "token": token,
            "age_ms": round((time.monotonic() - began) * 1000, 2),
            "parked": parked,
        }

    def freshness_of(self, answer: Answer[Any]) -> dict[str, Any]:
        return self.freshness(answer.snapshot, answer.began, answer.parked)
