"""The event store's contract, on a real PostgreSQL: one order without gaps, whatever happens to who writes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from uuid_utils.compat import uuid7

from command_service import event_store
from command_service.append_lock import APPEND_LOCK, begin_locked
from command_service.command_bus import AppendFailedError, CommandBus
from command_service.domain.commands import (
    CommandContext,
    CreateCollection,
    CreateVector,
    DeleteCollection,
    IdempotencyKey,
    PatchVector,
    UpdateCollection,
    UpsertVector,
    VectorOperation,
    WriteVectors,
)
from command_service.domain.refusals import (
    BatchRefusedError,
    CollectionDeletedError,
    CollectionExistsError,
    IdempotencyKeyReusedError,
)
from command_service.domain.vectors import created
from command_service.event_store import TAIL_EVENTS, NewEvent
from command_service.log_identity import renew_identity
from command_service.notifier import AppendNotifier
from command_service.outcomes import CollectionOutcome, VectorsOutcome
from events_schema.base import EventMetadata
from events_schema.collections import IndexSpec
from events_schema.embedding import EmbeddingSpec, StoredEmbedding
from shared.event_log import read_events
from tests.command.conftest import command_settings
from tests.command.tcp_proxy import Cut, cutting_proxy
from tests.servers import DatabaseFactory, Databases, connected

RawConnection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

_names = (f"store-{number}" for number in count())
METADATA = EventMetadata(actor="test", request_id="r")
CONTEXT = CommandContext("default", METADATA)
SPEC = EmbeddingSpec(provider="client", dimension=3)
EMBEDDINGS = (StoredEmbedding(spec=SPEC, data="AACAPwAAAEAAAEBA"),)  # [1, 2, 3]


@asynccontextmanager
async def running_bus(databases: Databases, dsn: str | None = None, **changes: Any) -> AsyncIterator[CommandBus]:
    settings = command_settings(databases, **changes)
    if dsn is not None:
        settings = settings.model_copy(update={"events_dsn": SecretStr(dsn)})
    notifier = AppendNotifier(settings)
    bus = CommandBus(settings, notifier, CollectorRegistry())
    await notifier.start()
    await bus.start()
    try:
        yield bus
    finally:
        await bus.stop()
        await notifier.stop()


@pytest_asyncio.fixture(scope="module")
async def bus(databases: Databases) -> AsyncIterator[CommandBus]:
    async with running_bus(databases) as running:
        yield running


async def make_collection(bus: CommandBus, name: str | None = None) -> tuple[str, UUID]:
    name = name or next(_names)
    outcome = await bus.execute(CreateCollection(CONTEXT, name, uuid7(), "cosine", "vector", IndexSpec(), SPEC))
    assert isinstance(outcome, CollectionOutcome)
    return name, outcome.collection_id


def write(
    collection: tuple[str, UUID], *operations: VectorOperation, context: CommandContext = CONTEXT
) -> WriteVectors:
    return WriteVectors(context, *collection, operations)


def create(vector_id: str | None = None, content: str | None = None) -> CreateVector:
    return CreateVector(created(vector_id or str(uuid4()), EMBEDDINGS, content, {}))


async def whole_log(log: RawConnection) -> list[Any]:
    """Every event; the ordered reader itself refuses a gap."""
    found: list[Any] = []
    while batch := await read_events(log, len(found)):
        found += batch
    assert [event.position for event in found] == list(range(1, len(found) + 1))
    assert len({event.event_id for event in found}) == len(found)
    times = [event.timestamp for event in found]
    assert times == sorted(times)
    return found


async def test_interleaved_and_aborted_transactions_leave_no_gap_and_no_late_position(
    databases: Databases, log: RawConnection
) -> None:
    chosen = random.Random(1)
    stop, written = asyncio.Event(), asyncio.Event()

    async def append_or_abort(worker: int) -> None:
        while not stop.is_set():
            connection = await asyncpg.connect(databases.events_dsn)
            with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                for _ in range(10):
                    await begin_locked(connection)
                    end = await event_store.read_log_end(connection, [])
                    events = [
                        NewEvent(
                            position=end.position + number + 1,
                            event_id=uuid7(),
                            tenant="raw",
                            collection_id=uuid4(),
                            aggregate_id=uuid4(),
                            aggregate_type="vector",
                            version=1,
                            event_type="VectorDeleted",
                            schema_version=1,
                            event_data=f'{{"id": "{worker}"}}',
                            metadata="{}",
                            timestamp=end.timestamp,
                        )
                        for number in range(chosen.randint(1, 5))
                    ]
                    await event_store.append(connection, events)
                    match chosen.randint(0, 3):
                        case 0:
                            await connection.execute("ROLLBACK")
                        case 1:
                            connection.terminate()
                            break
                        case _:
                            await asyncio.sleep(chosen.random() * 0.003)
                            await connection.execute("COMMIT")
            connection.terminate()

    async def follow() -> int:
        """A reader that never looks back: were a position late, it would miss it and fail at the end."""
        seen = 0
        while not written.is_set():
            seen += len(await read_events(log, seen))
            await asyncio.sleep(0.001)
        return seen + len(await read_events(log, seen, limit=10_000))

    workers = [asyncio.create_task(append_or_abort(worker)) for worker in range(6)]
    reader = asyncio.create_task(follow())
    await asyncio.sleep(2.5)
    stop.set()
    await asyncio.gather(*workers)
    written.set()
    assert await reader == len(await whole_log(log)) > 100


async def test_two_services_appending_at_once_keep_one_order(databases: Databases, log: RawConnection) -> None:
    async with running_bus(databases) as one, running_bus(databases) as other:
        collection = await make_collection(one)
        before = len(await whole_log(log))

        async def writer(bus: CommandBus, number: int) -> list[int]:
            positions = []
            for turn in range(25):
                outcome = await bus.execute(write(collection, create(f"{number}-{turn}"), create()))
                assert isinstance(outcome, VectorsOutcome)
                assert outcome.last_position == outcome.first_position + 1
                positions += [outcome.first_position, outcome.last_position]
            return positions

        answers = await asyncio.gather(*(writer((one, other)[number % 2], number) for number in range(10)))
    positions = sorted(position for answer in answers for position in answer)
    assert positions == list(range(before + 1, before + 501))
    assert len(await whole_log(log)) == before + 500


async def test_same_id_raced_for_by_two_services_is_created_once(databases: Databases) -> None:
    async with running_bus(databases) as one, running_bus(databases) as other:
        collection = await make_collection(one)
        answers = await asyncio.gather(
            *(bus.execute(write(collection, create("same"))) for bus in (one, other) * 10), return_exceptions=True
        )
    assert sum(isinstance(answer, VectorsOutcome) for answer in answers) == 1
    assert sum(isinstance(answer, BatchRefusedError) for answer in answers) == 19


async def test_writer_whose_backend_is_killed_leaves_nothing_half_written(
    databases: Databases, log: RawConnection
) -> None:
    admin = await asyncpg.connect(databases.events_admin_dsn)
    killed = 0
    async with running_bus(databases) as bus:
        collection = await make_collection(bus)
        stop = asyncio.Event()
        acknowledged: list[VectorsOutcome] = []

        async def kill() -> None:
            nonlocal killed
            seen = 0
            while not stop.is_set():
                await asyncio.sleep(random.random() * 0.05)
                if len(acknowledged) == seen:
                    continue  # however slow the machine is, something is written between two kills
                seen = len(acknowledged)
                killed += await admin.fetchval(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                    "WHERE usename = 'aindusdb_command' AND datname = current_database() AND query NOT LIKE 'LISTEN%'"
                )

        killer = asyncio.create_task(kill())

        async def writer() -> None:
            written = 0
            while written < 20 or killed < 8:
                written += 1
                with suppress(Exception):
                    outcome = await bus.execute(write(collection, *(create() for _ in range(30))))
                    assert isinstance(outcome, VectorsOutcome)
                    acknowledged.append(outcome)

        await asyncio.gather(*(writer() for _ in range(8)))
        stop.set()
        await killer
    await admin.close()
    assert killed >= 8
    assert len(acknowledged) >= 80, len(acknowledged)
    events = {event.event_data["id"]: event for event in await whole_log(log) if event.collection_id == collection[1]
              and event.aggregate_type == "vector"}  # fmt: skip
    assert len(events) % 30 == 0
    for outcome in acknowledged:
        for operation in outcome.operations:
            assert events[operation.id].position == operation.position


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_unknown_outcome_of_a_commit_is_settled_by_the_log(
    databases: Databases, log: RawConnection, moment: Cut
) -> None:
    turns = count()

    def every_third() -> Cut:
        return moment if next(turns) % 3 == 1 else "no"

    async with (
        cutting_proxy(databases.events_dsn, b"COMMIT\x00", every_third) as (dsn, proxy),
        running_bus(databases, dsn) as bus,
    ):
        collection = await make_collection(bus)
        outcomes = [await bus.execute(write(collection, create(f"{moment}-{n}"), create())) for n in range(12)]
    assert proxy.cuts >= 4
    recorded = {event.position: event for event in await whole_log(log) if event.collection_id == collection[1]}
    assert len(recorded) == 25
    for outcome in outcomes:
        assert isinstance(outcome, VectorsOutcome)
        for operation in outcome.operations:
            assert recorded[operation.position].event_data["id"] == operation.id


@pytest.mark.parametrize("poison", ["a\x00b", "a\ud800b"], ids=["found by COPY", "found on the way there"])
async def test_poisonous_command_does_not_fail_its_neighbours(bus: CommandBus, log: RawConnection, poison: str) -> None:
    collection = await make_collection(bus)
    commands = [write(collection, create(f"n{number}")) for number in range(20)]
    # The HTTP edge refuses both.
    commands.insert(7, write(collection, create("poison", poison)))
    answers = await asyncio.gather(*map(bus.execute, commands), return_exceptions=True)
    assert isinstance(answers.pop(7), AppendFailedError)
    assert all(isinstance(answer, VectorsOutcome) for answer in answers)
    recorded = [event.event_data["id"] for event in await whole_log(log) if event.collection_id == collection[1]
                and event.aggregate_type == "vector"]  # fmt: skip
    assert sorted(recorded) == sorted(f"n{number}" for number in range(20))


async def test_refused_command_does_not_fail_its_neighbours_and_sees_their_effect(bus: CommandBus) -> None:
    collection = await make_collection(bus)
    patch = PatchVector("a", (), frozenset({"content"}), "x")
    answers = await asyncio.gather(
        bus.execute(write(collection, patch)),
        bus.execute(write(collection, create("a"))),
        bus.execute(write(collection, create("a"))),
        bus.execute(write(collection, patch)),
        return_exceptions=True,
    )
    assert [isinstance(answer, VectorsOutcome) for answer in answers] == [False, True, False, True]


async def test_bulk_does_not_hold_up_single_writes(bus: CommandBus) -> None:
    """Counted in positions, which no load on the machine changes: before a single write come the transaction under way,
    one more of bulk at most, and what is committed but not yet known to its caller."""
    collection = await make_collection(bus)
    at = (await single(bus, collection)).last_position
    bulk = [asyncio.create_task(bus.execute(write(collection, *(create() for _ in range(500))))) for _ in range(40)]
    for turn in range(15):
        await asyncio.sleep(0.02)
        known = at + 500 * sum(task.done() for task in bulk) + turn
        outcome = await single(bus, collection)
        assert outcome.first_position - known <= 3 * 500
    assert not all(task.done() for task in bulk), "bulk was over before the single writes were"
    await asyncio.gather(*bulk)


async def single(bus: CommandBus, collection: tuple[str, UUID]) -> VectorsOutcome:
    outcome = await bus.execute(write(collection, create()))
    assert isinstance(outcome, VectorsOutcome)
    return outcome


async def test_one_key_in_many_requests_at_once_takes_effect_once(bus: CommandBus, log: RawConnection) -> None:
    collection = await make_collection(bus)
    key = IdempotencyKey("k", b"hash")
    commands = [write(collection, create(), context=CommandContext("default", METADATA, key)) for _ in range(10)]
    before = len(await whole_log(log))
    answers = await asyncio.gather(*map(bus.execute, commands))
    assert all(answer == answers[0] for answer in answers)
    assert len(await whole_log(log)) == before + 1
    other = CommandContext("default", METADATA, IdempotencyKey("k", b"other"))
    with pytest.raises(IdempotencyKeyReusedError):
        await bus.execute(write(collection, create(), context=other))


async def test_key_is_kept_only_with_its_events(bus: CommandBus, log: RawConnection) -> None:
    collection = await make_collection(bus)
    context = CommandContext("default", METADATA, IdempotencyKey("refused", b"hash"))
    with pytest.raises(BatchRefusedError):
        await bus.execute(write(collection, PatchVector("a", (), frozenset()), context=context))
    assert await log.fetchval("SELECT count(*) FROM idempotency_keys WHERE key = 'refused'") == 0


async def test_expired_key_can_be_used_again(bus: CommandBus, log: RawConnection) -> None:
    collection = await make_collection(bus)
    context = CommandContext("default", METADATA, IdempotencyKey("old", b"hash"))
    first = await bus.execute(write(collection, create(), context=context))
    await log.execute("UPDATE idempotency_keys SET created_at = created_at - interval '25 hours' WHERE key = 'old'")
    second = await bus.execute(write(collection, create(), context=context))
    assert first != second


@pytest.mark.parametrize("frozen", ["idle", "inside COPY"])
async def test_frozen_holder_of_the_append_lock_is_ended(databases: Databases, bus: CommandBus, frozen: str) -> None:
    collection = await make_collection(bus)
    holder = await asyncpg.connect(databases.events_dsn)
    await holder.execute(f"BEGIN; SELECT pg_advisory_xact_lock({APPEND_LOCK})")
    stuck: asyncio.Task[Any] | None = None
    if frozen == "inside COPY":

        async def never() -> AsyncIterator[tuple[Any, ...]]:
            await asyncio.sleep(3600)
            yield ()

        stuck = asyncio.create_task(holder.copy_records_to_table("events", records=never()))
    started = asyncio.get_running_loop().time()
    assert isinstance(await bus.execute(write(collection, create())), VectorsOutcome)
    assert asyncio.get_running_loop().time() - started < 10
    if stuck is not None:
        stuck.cancel()
        await asyncio.gather(stuck, return_exceptions=True)
    holder.terminate()


async def test_log_is_append_only_by_grant_and_by_trigger(databases: Databases, bus: CommandBus) -> None:
    await make_collection(bus)
    statements = ("UPDATE events SET tenant = 'x'", "DELETE FROM events", "TRUNCATE events")
    application = await asyncpg.connect(databases.events_dsn)
    for statement in (*statements, "DROP TABLE events", "UPDATE log_identity SET log_id = gen_random_uuid()"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await application.execute(statement)
    await application.close()
    for dsn in (databases.events_owner_dsn, databases.events_admin_dsn):
        owner = await asyncpg.connect(dsn)
        for statement in statements:
            with pytest.raises(asyncpg.RestrictViolationError):
                await owner.execute(statement)
        await owner.close()


async def test_write_to_a_collection_deleted_meanwhile_is_refused(bus: CommandBus) -> None:
    collection = await make_collection(bus)
    await bus.execute(DeleteCollection(CONTEXT, collection[0]))
    with pytest.raises(CollectionDeletedError):
        await bus.execute(write(collection, create()))
    again = await make_collection(bus, collection[0])
    assert again[1] != collection[1]
    with pytest.raises(CollectionDeletedError):
        await bus.execute(write(collection, create()))
    with pytest.raises(CollectionExistsError):
        await make_collection(bus, collection[0])


async def test_vector_with_a_long_stream_is_loaded_right(databases: Databases, bus: CommandBus) -> None:
    collection = await make_collection(bus)
    await bus.execute(write(collection, create("long", "the content of the beginning")))
    for number in range(TAIL_EVENTS * 2 + 3):
        patch = PatchVector("long", (), frozenset({"metadata"}), metadata={f"k{number}": number})
        await bus.execute(write(collection, patch))
    everything = {f"k{number}": number for number in range(TAIL_EVENTS * 2 + 3)}
    unchanged = UpsertVector(created("long", EMBEDDINGS, "the content of the beginning", everything))
    async with running_bus(databases) as fresh:
        for some_bus in (bus, fresh, fresh):
            outcome = await some_bus.execute(write(collection, unchanged))
            assert isinstance(outcome, VectorsOutcome)
            assert outcome.operations[0].result == "unchanged"
            assert outcome.operations[0].version == TAIL_EVENTS * 2 + 4


def patch(**metadata: Any) -> PatchVector:
    return PatchVector("long", (), frozenset({"metadata"}), metadata=metadata)


@pytest.mark.parametrize("renewed", [True, False], ids=["another log", "an earlier end"])
async def test_what_is_remembered_of_a_log_is_forgotten_when_it_was_restored(
    database_factory: DatabaseFactory, renewed: bool
) -> None:
    """A service that was not stopped goes by the events that there are, not by those that there were."""
    async with (
        database_factory.pair() as pair,
        running_bus(pair) as remembers,
        connected(pair.events_admin_dsn) as admin,
    ):
        collection = await make_collection(remembers)

        def described(text: str) -> UpdateCollection:
            return UpdateCollection(CONTEXT, collection[0], {"description": text})

        await remembers.execute(write(collection, create("long", "as it was")))
        kept = await admin.fetchval("SELECT max(position) FROM events")
        rewritten = 2 * TAIL_EVENTS
        for number in range(rewritten):
            await remembers.execute(write(collection, patch(lost=number)))
        await remembers.execute(described("lost"))
        await admin.execute("ALTER TABLE events DISABLE TRIGGER USER")
        await admin.execute("DELETE FROM events WHERE position > $1", kept)
        if renewed:
            await renew_identity(admin, in_use=True)
        async with running_bus(pair) as fresh:
            for number in range(rewritten - (0 if renewed else 1)):
                await fresh.execute(write(collection, patch(kept=number)))
            await fresh.execute(described("kept"))
            if renewed:
                await make_collection(fresh)
        same = UpsertVector(created("long", EMBEDDINGS, "as it was", {"kept": rewritten - (1 if renewed else 2)}))
        outcome = await remembers.execute(write(collection, same))
        assert isinstance(outcome, VectorsOutcome)
        assert outcome.operations[0].result == "unchanged"
        again = await remembers.execute(described("kept"))
        assert isinstance(again, CollectionOutcome)
        assert again.result == "unchanged"
