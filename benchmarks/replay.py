"""How fast a collection is folded anew from the log: the load against reading and decoding the same events alone, the
whole rebuild with its index against a bare COPY and CREATE INDEX of the same rows, by turns in one run."""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg

from aindusdb.client import CreatedCollection
from benchmarks.figures import Target, arguments, conclude, say
from benchmarks.loading import new_collection
from benchmarks.log_filling import fill_log
from benchmarks.replay_commands import BARE_INDEX_WORKERS, Memory, make_index, projector_settings, replay, state_of
from benchmarks.stack import Stack, stack
from events_schema.embedding import decode_many
from projector.event_log import opened_event_log
from projector.folding import ahead, events_of
from projector.generations import Generation, read_generations
from projector.indexes import build_memory_mb, index_statement
from projector.settings import ProjectorSettings
from projector.tables import create_metadata_index, create_tables
from projector.vectors import Under, fold_vectors
from shared.postgres import connect

DIMENSION = 384
_PATIENCE_SECONDS = 3_600.0

_Step: TypeAlias = tuple[str, Callable[[], Awaitable[float]]]

TARGETS = (
    Target("replay_over_read", 0.5),
    Target("rebuild_over_bare", 0.85),
    Target("replay_growth_mb", 32, at_most=True),
)


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--vectors", type=int, default=200_000, help="that are loaded without an index")
    parser.add_argument("--indexed-vectors", type=int, default=100_000, help="that are rebuilt with their index")
    parser.add_argument("--dimension", type=int, default=DIMENSION)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with stack(options) as running:
        measured = _Measured(running, options.vectors, options.indexed_vectors, options.dimension)
        figures = asyncio.run(measured.run(options.rounds))
    return conclude(figures, TARGETS, check=options.check)


@dataclass
class _Measured:
    running: Stack
    vectors: int
    indexed_vectors: int
    dimension: int
    rates: dict[str, list[float]] = field(default_factory=dict)
    memory: list[Memory] = field(default_factory=list)

    async def run(self, rounds: int) -> dict[str, Any]:
        unindexed = new_collection(self.running, self.dimension, index={"kind": "none"})
        indexed = new_collection(self.running, self.dimension, index={"kind": "none"})
        state = state_of(self.running)
        await fill_log(state, unindexed, self.vectors, self.dimension)
        await fill_log(state, indexed, self.indexed_vectors, self.dimension)
        await asyncio.to_thread(make_index, self.running, indexed)
        pairs: tuple[tuple[_Step, _Step], ...] = (
            (("read", partial(self._read, unindexed)), ("replay", partial(self._replay, unindexed))),
            (("bare", partial(self._bare, indexed)), ("rebuild", partial(self._rebuild, indexed))),
        )
        for number in range(rounds):
            # Each of a pair comes first as often as the other.
            for pair in pairs:
                for name, step in reversed(pair) if number % 2 else pair:
                    rate = await step()
                    say(f"{name}: {rate:,.0f} a second")
                    self.rates.setdefault(name, []).append(rate)
        return {
            "vectors": self.vectors,
            "indexed_vectors": self.indexed_vectors,
            "replay_over_read": self._ratio("replay", "read"),
            "rebuild_over_bare": self._ratio("rebuild", "bare"),
            **{f"{name}_per_second": round(statistics.median(rates)) for name, rates in self.rates.items()},
            "replay_peak_mb": max(one.peak_mb() for one in self.memory),
            "replay_growth_mb": max(one.growth_mb() for one in self.memory),
        }

    def _ratio(self, one: str, other: str) -> float:
        pairs = zip(self.rates[one], self.rates[other], strict=True)
        return round(statistics.median(first / second for first, second in pairs), 3)

    async def _read(self, collection: CreatedCollection) -> float:
        """Events a second that are read and decoded, and no more."""
        settings = projector_settings(self.running)
        async with _opened(settings) as connection, opened_event_log(settings) as log:
            beginning = replace(await _active(connection, collection), checkpoints=(0,))
            head = (await log.head()).position
            began, count = time.perf_counter(), 0
            async for events in ahead(events_of(log, beginning, [head], settings.batch_max_events)):
                of_vectors = [event for event in events if event.aggregate_type == "vector"]
                effects = fold_vectors(of_vectors, Under(beginning.shape.spec))
                decode_many([one.embedding for one in effects.values() if one.embedding], self.dimension)
                count += len(events)
            return count / (time.perf_counter() - began)

    async def _replay(self, collection: CreatedCollection) -> float:
        """Events a second that `aindusdb replay build` folds into a generation."""
        built = await asyncio.to_thread(replay, self.running, "build", collection)
        await asyncio.to_thread(replay, self.running, "discard", collection)
        self.memory.append(built.memory)
        return float(built.answer["events_per_second"])

    async def _rebuild(self, collection: CreatedCollection) -> float:
        """Vectors a second, from the first event that is read to the end of the promotion; nothing is verified."""
        built = await asyncio.to_thread(replay, self.running, "build", collection)
        promoted = await asyncio.to_thread(replay, self.running, "promote", collection, "--force", "--drop-old")
        return self.indexed_vectors / float(built.answer["seconds"] + promoted.answer["seconds"])

    async def _bare(self, collection: CreatedCollection) -> float:
        """Rows a second of the same tables copied from files, with the same indexes made with the same memory."""
        settings = projector_settings(self.running)
        async with _opened(settings) as connection:
            active = await _active(connection, collection)
            bare = Generation(uuid4(), 1, active.shape, "building", indexed=False, projection_version=1)
            memory_mb = min(build_memory_mb(bare.shape, self.indexed_vectors, None), settings.index_memory_mb)
            with tempfile.TemporaryDirectory(prefix="aindusdb-bare-") as folder:
                files = [Path(folder, name) for name in ("records", "embeddings")]
                for table, file in zip((active.records, active.embeddings), files, strict=True):
                    await connection.copy_from_table(table, output=file, format="binary", timeout=_PATIENCE_SECONDS)
                await create_tables(connection, bare, metadata_index=False)
                began = time.perf_counter()
                for table, file in zip((bare.records, bare.embeddings), files, strict=True):
                    await connection.copy_to_table(table, source=file, format="binary", timeout=_PATIENCE_SECONDS)
            await create_metadata_index(connection, bare, _PATIENCE_SECONDS)
            await connection.execute(f"SET maintenance_work_mem = '{memory_mb}MB'")
            await connection.execute(f"SET max_parallel_maintenance_workers = {BARE_INDEX_WORKERS}")
            await connection.execute(index_statement(bare.embeddings, bare.shape), timeout=_PATIENCE_SECONDS)
            seconds = time.perf_counter() - began
            await connection.execute(f"DROP TABLE {bare.records}, {bare.embeddings}")
            return self.indexed_vectors / seconds


@asynccontextmanager
async def _opened(settings: ProjectorSettings) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await connect(settings.read_direct_address(), settings, vectors=True)
    try:
        yield connection
    finally:
        connection.terminate()


async def _active(connection: asyncpg.Connection[asyncpg.Record], collection: CreatedCollection) -> Generation:
    there = await read_generations(connection, UUID(collection.collection_id))
    [active] = [one for one in there if one.state == "active"]
    return active


if __name__ == "__main__":
    sys.exit(main())
