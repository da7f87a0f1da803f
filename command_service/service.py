"""What the routes work with: the bus, and collections by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Self

from uuid_utils.compat import uuid7

from command_service import event_store
from command_service.command_bus import CommandBus
from command_service.domain.collections import Collection, planned
from command_service.domain.commands import (
    CollectionCommand,
    CommandContext,
    CreateCollection,
    CreateVector,
    DeleteVector,
    PatchVector,
    UpsertVector,
    VectorOperation,
    WriteVectors,
)
from command_service.domain.refusals import BatchRefusedError, CollectionDeletedError
from command_service.outcomes import CollectionOutcome, Outcome, VectorsOutcome
from events_schema.collections import IndexSpec
from events_schema.embedding import EmbeddingSpec
from events_schema.streams import collection_stream
from shared.embedding.embedder import TextEmbedder
from shared.postgres import Connection, Pool
from shared.principal import Principal
from shared.tokens import ConsistencyToken, Signer

_OPERATION_BYTES = 256


@dataclass(frozen=True, slots=True)
class WriteTarget:
    """The collection that a write is for. One that is not there yet comes into being with the write, by `creation`."""

    collection: Collection
    creation: CreateCollection | None = None

    @classmethod
    def new(cls, context: CommandContext, name: str, spec: EmbeddingSpec) -> Self:
        """A collection under this spec, and every default besides."""
        creation = CreateCollection(
            context=context,
            name=name,
            collection_id=uuid7(),
            metric="cosine",
            type="vector",
            index=IndexSpec(kind="hnsw", m=16, ef_construction=64, lists=None),
            embedding_spec=spec,
        )
        return cls(planned(creation, datetime.now(UTC)), creation)


class CommandService:
    def __init__(
        self, bus: CommandBus, pool: Pool, signer: Signer, principal: Principal, embedder: TextEmbedder
    ) -> None:
        self.bus = bus
        self.principal = principal
        self.embedder = embedder
        self._pool = pool
        self.signer = signer

    def events(self) -> AbstractAsyncContextManager[Connection]:
        """A connection to the event database, for reading."""
        return self._pool.acquire()

    async def resolve(self, tenant: str, name: str) -> Collection | None:
        """The collection that lives under a name now, as far as this process knows; the append looks again."""
        stream = collection_stream(tenant, name)
        known = self.bus.states.known_collection(stream)
        if known is None or known.live is None:
            return await self.look_again(tenant, name)
        return known.live

    async def look_again(self, tenant: str, name: str) -> Collection | None:
        """The same as the event database knows it; another process may have changed it."""
        stream = collection_stream(tenant, name)
        async with self._pool.acquire() as connection:
            state = await event_store.load_collection(connection, stream)
        self.bus.states.remember_collections({stream: state})
        return state.live

    async def is_outdated(self, tenant: str, known: Collection) -> bool:
        """Whether what was refused for what is known of the collection might fit what it is now."""
        found = await self.look_again(tenant, known.name)
        return found is not None and found.collection_id == known.collection_id and not _alike(found, known)

    async def change_collection(self, command: CollectionCommand) -> CollectionOutcome:
        outcome = await self.bus.execute(command)
        assert isinstance(outcome, CollectionOutcome)
        return outcome

    async def write(
        self, context: CommandContext, target: WriteTarget, operations: Sequence[VectorOperation]
    ) -> VectorsOutcome:
        """
        Raises:
            BatchRefusedError: with every operation that was refused.
            CollectionDeletedError: the name stands for another collection by now, or for none.
            CollectionChangedError: the operations are to be prepared again.
        """
        collection = target.collection
        command = WriteVectors(
            context=context,
            collection=collection.name,
            collection_id=collection.collection_id,
            operations=tuple(operations),
            size_bytes=sum(map(_size_bytes, operations)),
            creation=target.creation,
            checked=(collection.metric, collection.type),
        )
        try:
            outcome = await self.bus.execute(command)
        except CollectionDeletedError:
            found = await self.resolve(context.tenant, collection.name)
            if target.creation is None or found is None or not _alike(found, collection):
                raise
            # Another request was first to bring it into being.
            outcome = await self.bus.execute(replace(command, collection_id=found.collection_id, creation=None))
        assert isinstance(outcome, VectorsOutcome)
        return outcome

    def token(self, tenant: str, outcome: Outcome) -> str:
        return self.signer.sign_token(
            ConsistencyToken(outcome.log_id, tenant, outcome.first_position, outcome.last_position)
        )


@contextmanager
def refused_alone() -> Iterator[None]:
    """The only operation of a write is refused for its own reason."""
    try:
        yield
    except BatchRefusedError as refused:
        raise refused.refusals[0][1] from refused


def _alike(one: Collection, other: Collection) -> bool:
    """Whether what is fit to be written to the one is fit for the other."""
    return (one.embedding_spec, one.metric, one.type) == (other.embedding_spec, other.metric, other.type)


def _size_bytes(operation: VectorOperation) -> int:
    match operation:
        case CreateVector() | UpsertVector():
            return _OPERATION_BYTES + len(operation.event.serialised)
        case PatchVector():
            return _OPERATION_BYTES + len(operation.embedding or "") + len(operation.content or "")
        case DeleteVector():
            return _OPERATION_BYTES
