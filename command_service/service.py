"""What the routes work with: the bus, and collections by name."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Self, TypeVar

from uuid_utils.compat import uuid7

from command_service import event_store
from command_service.backpressure import Backpressure
from command_service.command_bus import CommandBus
from command_service.domain.collections import Alias, Collection, CollectionState, planned
from command_service.domain.commands import (
    AliasCommand,
    CollectionCommand,
    CommandContext,
    CreateCollection,
    CreateVector,
    DeleteCollection,
    DeleteExpired,
    DeleteVector,
    PatchVector,
    ReembedVector,
    UpdateCollection,
    UpsertVector,
    VectorOperation,
    WriteVectors,
)
from command_service.domain.refusals import (
    BatchRefusedError,
    CollectionChangedError,
    CollectionDeletedError,
    IdempotencyKeyReusedError,
    RefusalError,
)
from command_service.matching import Matching
from command_service.outcomes import OUTCOME, AliasOutcome, CollectionOutcome, Outcome, VectorsOutcome
from events_schema.collections import IndexSpec
from events_schema.embedding import EmbeddingSpec, StoredEmbedding
from events_schema.streams import collection_stream
from shared.embedding.embedder import TextEmbedder
from shared.embedding.errors import ProviderUnavailableError, TooManyTextsError
from shared.http.problems import ProblemError
from shared.postgres import Connection, Pool
from shared.principal import Principal
from shared.tokens import ConsistencyToken, Signer

_OPERATION_BYTES = 256
_MAX_TRIES = 4
_REFUSED = (ProblemError, RefusalError, ProviderUnavailableError, TooManyTextsError)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class WriteTarget:
    """The collection that a write is for. One that is not there yet comes into being with the write, by `creation`.
    `alias`: the name that was given, if it is not the collection's own."""

    collection: Collection
    creation: CreateCollection | None = None
    alias: str | None = None

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
        self,
        bus: CommandBus,
        pool: Pool,
        matching: Matching,
        signer: Signer,
        principal: Principal,
        embedder: TextEmbedder,
        backpressure: Backpressure,
        read: Pool | None,
    ) -> None:
        """`read` leads to the read database, where there is one."""
        self.bus = bus
        self.read = read
        self.principal = principal
        self.embedder = embedder
        self.backpressure = backpressure
        self.matching = matching
        self._pool = pool
        self.signer = signer

    def events(self) -> AbstractAsyncContextManager[Connection]:
        """A connection to the event database, for reading."""
        return self._pool.acquire()

    async def resolve(self, tenant: str, name: str) -> WriteTarget | None:
        """The collection that lives under a name, its own or an alias, now, as far as this process knows; the append
        looks again.

        Raises:
            CollectionChangedError: the alias keeps being changed.
        """
        state = self.bus.states.known_collection(collection_stream(tenant, name))
        if state is None or (state.live is None and state.alias is None):
            state = await self._look_again(tenant, name)
        for _ in range(_MAX_TRIES):
            if state.alias is None:
                return None if state.live is None else WriteTarget(state.live)
            found = await self._aim(tenant, state.alias)
            if found is not None:
                return WriteTarget(found, alias=name)
            # As long as an alias stands for it, no collection is deleted: it stands for another one by now.
            state = await self._look_again(tenant, name)
        raise CollectionChangedError(name)

    async def _aim(self, tenant: str, alias: Alias) -> Collection | None:
        known = self.bus.states.known_collection(collection_stream(tenant, alias.collection))
        for state in (known, None):
            live = (state or await self._look_again(tenant, alias.collection)).live
            if live is not None and live.collection_id == alias.collection_id:
                return live
        return None

    async def present(self, tenant: str, name: str) -> CollectionState:
        """What the event database says of the collection; `name` may be an alias.

        Raises:
            CollectionChangedError: the alias keeps being changed.
        """
        target = await self.resolve(tenant, name)
        return CollectionState() if target is None else await self._look_again(tenant, target.collection.name)

    async def _look_again(self, tenant: str, name: str) -> CollectionState:
        """What bears the name as the event database knows it; another process may have changed it."""
        stream = collection_stream(tenant, name)
        async with self._pool.acquire() as connection:
            state = await event_store.load_collection(connection, stream)
        self.bus.states.remember_collections({stream: state})
        return state

    async def is_outdated(self, tenant: str, target: WriteTarget) -> bool:
        """Whether what was refused for what is known of the collection might fit what it is now, or what its name
        stands for now."""
        known = target.collection
        if target.alias is not None:
            alias = (await self._look_again(tenant, target.alias)).alias
            if alias is None or alias.collection_id != known.collection_id:
                return True
        found = (await self._look_again(tenant, known.name)).live
        if found is None:
            return target.creation is None
        return found.collection_id != known.collection_id or not _alike(found, known)

    async def change_collection(self, command: CollectionCommand) -> CollectionOutcome:
        outcome = await self.bus.execute(command)
        assert isinstance(outcome, CollectionOutcome)
        return outcome

    async def change_named(self, command: UpdateCollection | DeleteCollection) -> CollectionOutcome:
        """The same for a command whose `name` may be an alias.

        Raises:
            CollectionChangedError: the alias keeps being changed.
        """
        for tries_left in reversed(range(_MAX_TRIES)):
            target = await self.resolve(command.context.tenant, command.name)
            aimed = command
            if target is not None and target.alias is not None:
                aimed = replace(command, name=target.collection.name, alias=target.alias)
            try:
                return await self.change_collection(aimed)
            except CollectionChangedError:
                if not tries_left:
                    raise
        raise AssertionError

    async def change_alias(self, command: AliasCommand) -> AliasOutcome:
        outcome = await self.bus.execute(command)
        assert isinstance(outcome, AliasOutcome)
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
            checked=collection.checked,
            alias=target.alias,
        )
        try:
            outcome = await self.bus.execute(command)
        except CollectionDeletedError:
            found = await self.resolve(context.tenant, collection.name)
            if target.creation is None or found is None or not _alike(found.collection, collection):
                raise
            # Another request was first to bring it into being.
            created = found.collection
            outcome = await self.bus.execute(replace(command, collection_id=created.collection_id, creation=None))
        assert isinstance(outcome, VectorsOutcome)
        return outcome

    async def write_what_is_left(
        self, context: CommandContext, target: WriteTarget, operations: Sequence[VectorOperation]
    ) -> VectorsOutcome:
        """Writes those operations that the vectors' states allow. They bring no embeddings.

        Raises:
            CollectionDeletedError: the name stands for another collection by now, or for none.
            CollectionChangedError: the alias does.
        """
        outcome = await self.bus.execute(
            WriteVectors(
                context=context,
                collection=target.collection.name,
                collection_id=target.collection.collection_id,
                operations=tuple(operations),
                size_bytes=sum(map(_size_bytes, operations)),
                alias=target.alias,
                leaves_out=True,
            )
        )
        assert isinstance(outcome, VectorsOutcome)
        return outcome

    async def kept_outcomes(self, contexts: Sequence[CommandContext]) -> list[Outcome | None]:
        """What the transactions of a request came to, by their idempotency keys, as far as that is kept. The first is
        the request's own.

        Raises:
            IdempotencyKeyReusedError: a key is another request's.
        """
        keys = [one.idempotency for one in contexts if one.idempotency is not None]
        async with self.events() as connection:
            found = await event_store.find_keys(
                connection, [(contexts[0].tenant, key.key) for key in keys], self.bus.retention
            )
        outcomes: list[Outcome | None] = []
        for key in keys:
            stored = found.get((contexts[0].tenant, key.key))
            if stored is not None and stored.request_hash != key.request_hash:
                raise IdempotencyKeyReusedError(keys[0].key)
            outcomes.append(None if stored is None else OUTCOME.validate_json(stored.response))
        return outcomes

    async def or_kept(self, context: CommandContext, work: Awaitable[T], kind: type[T]) -> T:
        """What `work` comes to. Where it is refused, what the same request came to before under its idempotency key: a
        collection may not be any more what the first one was made for.

        Raises:
            IdempotencyKeyReusedError, and whatever `work` raises.
        """
        try:
            return await work
        except _REFUSED:
            if context.idempotency is not None:
                [kept] = await self.kept_outcomes([context])
                if isinstance(kept, kind):
                    return kept
            raise

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
    return one.checked == other.checked


def _stored_bytes(embeddings: Sequence[StoredEmbedding]) -> int:
    return sum(len(one.data) for one in embeddings)


def _size_bytes(operation: VectorOperation) -> int:
    match operation:
        case CreateVector() | UpsertVector():
            return _OPERATION_BYTES + len(operation.event.serialised)
        case PatchVector():
            return _OPERATION_BYTES + _stored_bytes(operation.embeddings) + len(operation.content or "")
        case ReembedVector():
            return _OPERATION_BYTES + _stored_bytes(operation.embeddings)
        case DeleteVector() | DeleteExpired():
            return _OPERATION_BYTES
