"""Whether a long log is as fast as a short one: appends, stream loads, ordered reads and replays, by turns."""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import asyncpg
from uuid_utils.compat import uuid7

from aindusdb.local_stack import databases
from aindusdb.local_stack.logs import LogFile
from aindusdb.local_stack.ports import free_port
from aindusdb.local_stack.postgres import PostgresServer, find_binaries
from aindusdb.local_stack.processes import SupervisedProcess
from aindusdb.local_stack.users import postgres_user
from benchmarks.figures import Target, conclude, say
from benchmarks.long_logs import (
    AGGREGATE_ID,
    COLLECTION_EVENTS,
    COLLECTION_ID,
    TENANT,
    bring_into_use,
    collections_of,
    fill,
)
from command_service.append_lock import begin_locked
from command_service.domain.vectors import VectorState, evolve
from command_service.event_store import NewEvent, append, read_log_end
from command_service.stream_states import StreamStates
from events_schema.registry import decode_event
from events_schema.vectors import VectorCreated, VectorDeleted, VectorUpdated
from shared.event_log import read_collection_events, read_events
from shared.migrations import upgrade

APPENDED = 100
"""Events of one group commit."""
LOADED = 100
"""Streams of one sample, one after the other."""
READ = 1_000
"""Events of one ordered read."""
OPERATIONS = ("append", "stream_load", "ordered_read", "replay")
LEAST_RATIO = 0.9
SHARED_BUFFERS = "2GB"
"""Room for the indexes of ten million events."""
_START_SECONDS = 60.0
_REPLAY_PAGE = 1_000

_SIZES = """
SELECT pg_table_size('events') AS table_bytes, pg_indexes_size('events') AS index_bytes
"""
_STREAMS = f"""
SELECT {AGGREGATE_ID.format(collection="collection", vector="vector")} FROM unnest($1::bigint[], $2::bigint[])
    AS wanted(collection, vector)
"""
_COLLECTION = f"SELECT {COLLECTION_ID.format(number='$1::bigint')}"


@dataclass(frozen=True, slots=True)
class Log:
    """`events` is how long it was at the beginning."""

    events: int
    connection: asyncpg.Connection[asyncpg.Record]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit with 1 when a target is missed")
    parser.add_argument(
        "--events",
        type=int,
        nargs="+",
        default=[1_000_000, 10_000_000],
        help="the lengths of the logs; the first is the short one",
    )
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    figures = asyncio.run(_run(options.events, options.rounds))
    targets = [
        Target(f"{operation}_ratio_{events}", LEAST_RATIO) for events in options.events[1:] for operation in OPERATIONS
    ]
    return conclude(figures, targets, check=options.check)


async def _run(lengths: list[int], rounds: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory(prefix="longlog-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # PostgreSQL runs as another user when we are root
        async with AsyncExitStack() as stack:
            names = {events: f"log_{events}" for events in lengths}
            # Nothing is worth waiting for a disk until the logs are there.
            async with _server(Path(folder), {"fsync": "off", "maintenance_work_mem": "1GB"}) as server:
                for events, name in names.items():
                    await _filled(server, name, events)
            server = await stack.enter_async_context(_server(Path(folder), {"shared_buffers": SHARED_BUFFERS}))
            logs = [Log(events, await asyncpg.connect(server.dsn(name))) for events, name in names.items()]
            for log in logs:
                await bring_into_use(log.connection, log.events)
            figures = await _measured(logs, rounds)
            for log in logs:
                row = await log.connection.fetchrow(_SIZES)
                assert row is not None
                figures |= {f"{what}_{log.events}": size for what, size in row.items()}
                await log.connection.close()
            return figures


@asynccontextmanager
async def _server(folder: Path, settings: dict[str, str]) -> AsyncIterator[PostgresServer]:
    """As the local stack runs it, with these settings besides."""
    user = postgres_user()
    server = PostgresServer(find_binaries(user), folder / "postgres", free_port(), "benchmark", user, settings)
    server.initialise()
    process = SupervisedProcess(server.spec(), LogFile(folder / "postgres.log"), report=say, changed=lambda: None)
    process.start()
    try:
        await process.wait_ready(_START_SECONDS)
        yield server
    finally:
        await process.stop()


async def _filled(server: PostgresServer, name: str, events: int) -> None:
    admin = await asyncpg.connect(server.dsn("postgres"))
    try:
        await databases.execute_quoted(admin, "CREATE DATABASE %I", name)
    finally:
        await admin.close()
    await upgrade(server.dsn(name), "command_service")
    owner = await asyncpg.connect(server.dsn(name))
    try:
        await fill(owner, events)
        await owner.execute("CHECKPOINT")
    finally:
        await owner.close()


async def _measured(logs: list[Log], rounds: int) -> dict[str, object]:
    chosen = random.Random(1)
    seconds: dict[tuple[str, int], list[float]] = {}
    operations: dict[str, Callable[[Log, random.Random], Awaitable[float]]] = {
        "append": _append, "stream_load": _load_streams, "ordered_read": _read, "replay": _replay,
    }  # fmt: skip
    for number in range(-3, rounds):
        for operation in OPERATIONS:
            # Each log comes first as often as the others.
            turn = number % len(logs)
            for log in (*logs[turn:], *logs[:turn]):
                took = await operations[operation](log, chosen)
                if number >= 0:
                    seconds.setdefault((operation, log.events), []).append(took)
    medians = {key: statistics.median(taken) for key, taken in seconds.items()}
    figures: dict[str, object] = {}
    for (operation, events), median in medians.items():
        figures[f"{operation}_ms_{events}"] = round(median * 1000, 3)
        if events != logs[0].events:
            figures[f"{operation}_ratio_{events}"] = round(medians[operation, logs[0].events] / median, 3)
    return figures


async def _append(log: Log, chosen: random.Random) -> float:
    """One group commit of new vectors, without the deciding."""
    collection_id = await log.connection.fetchval(_COLLECTION, chosen.randrange(collections_of(log.events)))
    data = VectorCreated(id="new", embeddings=(), metadata={"kind": "benchmark"}).serialised
    began = time.perf_counter()
    await begin_locked(log.connection)
    end = await read_log_end(log.connection, [])
    events = [
        NewEvent(
            position, uuid7(), TENANT, collection_id, UUID(int=chosen.getrandbits(128)), "vector", 1, "VectorCreated",
            1, data, '{"actor": "benchmark", "request_id": "benchmark"}', end.timestamp,
        )
        for position in range(end.position + 1, end.position + 1 + APPENDED)
    ]  # fmt: skip
    await append(log.connection, events)
    await log.connection.execute("COMMIT")
    return time.perf_counter() - began


async def _load_streams(log: Log, chosen: random.Random) -> float:
    """The states of vectors anywhere in the log, as a transaction needs them."""
    collections = [chosen.randrange(collections_of(log.events)) for _ in range(LOADED)]
    vectors = [chosen.randrange(COLLECTION_EVENTS // 2) for _ in range(LOADED)]
    streams = [row[0] for row in await log.connection.fetch(_STREAMS, collections, vectors)]
    states = StreamStates()
    began = time.perf_counter()
    for stream in streams:
        assert await states.vectors(log.connection, {stream: None})
    return time.perf_counter() - began


async def _read(log: Log, chosen: random.Random) -> float:
    """As the projector, the relay and the change feed read."""
    after = chosen.randrange(log.events - READ)
    began = time.perf_counter()
    events = await read_events(log.connection, after, limit=READ)
    took = time.perf_counter() - began
    assert len(events) == READ
    return took


async def _replay(log: Log, chosen: random.Random) -> float:
    """One collection's events, folded from the first to the last."""
    number = chosen.randrange(collections_of(log.events))
    collection_id = await log.connection.fetchval(_COLLECTION, number)
    began = time.perf_counter()
    states: dict[UUID, VectorState] = {}
    folded = after = 0
    while folded < COLLECTION_EVENTS:
        events = await read_collection_events(
            log.connection, collection_id, after, log.events, limit=_REPLAY_PAGE, max_bytes=16 * 1024 * 1024
        )
        for event in events:
            decoded = decode_event(event.event_type, event.schema_version, event.event_data)
            assert isinstance(decoded, VectorCreated | VectorUpdated | VectorDeleted)
            before = states.get(event.aggregate_id, VectorState())
            states[event.aggregate_id] = evolve(
                before, decoded, version=event.version, position=event.position, timestamp=event.timestamp
            )
        folded, after = folded + len(events), events[-1].position
    took = time.perf_counter() - began
    assert len(states) == COLLECTION_EVENTS // 2
    return took


if __name__ == "__main__":
    sys.exit(main())
