"""An import over HTTP until it can be searched and until it is indexed, against COPY and CREATE INDEX by themselves."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson

from aindusdb.client import Client
from benchmarks.figures import Target, arguments, conclude, say
from benchmarks.lean_http import Load, request_of_bytes
from benchmarks.loading import BATCH, new_collection, wait_until_indexed, wait_until_searchable
from benchmarks.recall import DIMENSION, mixture_of_gaussians
from benchmarks.replay_commands import BARE_INDEX_WORKERS, projector_settings
from benchmarks.stack import Stack, stack
from events_schema.collections import IndexSpec
from events_schema.embedding import EmbeddingSpec, Float32Array, encode
from projector.generations import Generation, Shape
from projector.indexes import build_memory_mb, index_statement
from projector.settings import ProjectorSettings
from projector.tables import create_metadata_index, create_tables
from projector.versions import current_version
from shared.postgres import Connection, connect

CONNECTIONS = 2
TARGETS = (Target("indexed_over_bare", 0.65), Target("refused", 0, at_most=True))

_PATIENCE_SECONDS = 600.0


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--vectors", type=int, default=100_000)
    options = parser.parse_args()
    embeddings = mixture_of_gaussians(options.vectors, seed=1)
    with stack(options) as running, tempfile.TemporaryDirectory(prefix="aindusdb-bare-") as folder:
        bare = _Bare(projector_settings(running), Path(folder), embeddings)
        # Before and after, because a machine that others use too is not always as fast.
        before = asyncio.run(bare.measured())
        figures = _imported(running, embeddings)
        after = asyncio.run(bare.measured())
    both = {name: (before[name] + after[name]) / 2 for name in before}
    bare_seconds = sum(both.values())
    figures |= {name: round(seconds, 2) for name, seconds in both.items()}
    figures |= {
        "vectors": options.vectors,
        "bare_vectors_per_second": round(options.vectors / bare_seconds),
        "searchable_over_bare": round(bare_seconds / figures["searchable_seconds"], 3),
        "indexed_over_bare": round(bare_seconds / figures["indexed_seconds"], 3),
    }
    return conclude(figures, TARGETS, check=options.check)


class _Bare:
    """The same rows copied from files into the same tables, with the same indexes made afterwards, with the memory that
    the projector has and PostgreSQL's own number of processes."""

    def __init__(self, settings: ProjectorSettings, folder: Path, embeddings: Float32Array) -> None:
        self._settings = settings
        self._files = [folder / name for name in ("records", "embeddings")]
        self._embeddings = embeddings

    async def measured(self) -> dict[str, float]:
        """Seconds."""
        settings, index = self._settings, IndexSpec(kind="hnsw", m=None, ef_construction=None, lists=None)
        shape = Shape(EmbeddingSpec(provider="client", model=None, dimension=DIMENSION), "cosine", "vector", index)
        connection = await connect(settings.read_direct_address(), settings, vectors=True)
        try:
            if not self._files[0].exists():
                await self._write_files(connection, shape)
            bare = await _new_tables(connection, shape)
            started = time.perf_counter()
            for table, file in zip((bare.records, bare.embeddings), self._files, strict=True):
                await connection.copy_to_table(table, source=file, format="binary", timeout=_PATIENCE_SECONDS)
            copied = time.perf_counter()
            await create_metadata_index(connection, bare, _PATIENCE_SECONDS)
            memory_mb = min(build_memory_mb(shape, len(self._embeddings), None), settings.index_memory_mb)
            await connection.execute(f"SET maintenance_work_mem = '{max(memory_mb, 64)}MB'")
            await connection.execute(f"SET max_parallel_maintenance_workers = {BARE_INDEX_WORKERS}")
            await connection.execute(index_statement(bare.embeddings, shape), timeout=_PATIENCE_SECONDS)
            found = {"bare_copy_seconds": copied - started, "bare_index_seconds": time.perf_counter() - copied}
            await connection.execute(f"DROP TABLE {bare.records}, {bare.embeddings}")
        finally:
            connection.terminate()
        say(f"bare: {found}")
        return found

    async def _write_files(self, connection: Connection, shape: Shape) -> None:
        """Through tables, so that PostgreSQL itself writes them."""
        made = await _new_tables(connection, shape)
        now = datetime.now(UTC)
        records = ((str(number), "{}", now, now, 1, number) for number in range(len(self._embeddings)))
        await connection.copy_records_to_table(
            made.records,
            records=records,
            columns=("id", "metadata", "created_at", "updated_at", "version", "position"),
            timeout=_PATIENCE_SECONDS,
        )
        rows = ((str(number), embedding) for number, embedding in enumerate(self._embeddings))
        await connection.copy_records_to_table(
            made.embeddings, records=rows, columns=("id", "embedding"), timeout=_PATIENCE_SECONDS
        )
        for table, file in zip((made.records, made.embeddings), self._files, strict=True):
            await connection.copy_from_table(table, output=file, format="binary", timeout=_PATIENCE_SECONDS)
        await connection.execute(f"DROP TABLE {made.records}, {made.embeddings}")


async def _new_tables(connection: Connection, shape: Shape) -> Generation:
    generation = Generation(uuid4(), 1, shape, "building", indexed=False, projection_version=current_version())
    await create_tables(connection, generation, metadata_index=False)
    return generation


def _imported(running: Stack, embeddings: Float32Array) -> dict[str, Any]:
    collection = new_collection(running, DIMENSION).name
    say(f"importing {len(embeddings):,} embeddings, {BATCH} a request, over {CONNECTIONS} connections")
    started = time.perf_counter()
    load = asyncio.run(_sent(running, collection, embeddings))
    acknowledged = time.perf_counter() - started
    token = orjson.loads(load.last_body)["consistency_token"]
    say(f"acknowledged after {acknowledged:.2f} s")
    wait_until_searchable(running, collection, token, embeddings[0])
    searchable = time.perf_counter() - started
    say(f"searchable after {searchable:.2f} s")
    wait_until_indexed(running, collection)
    indexed = time.perf_counter() - started
    with Client(running.query_url) as client:
        assert client.count(collection, token=token).count == len(embeddings)
    return {
        "acknowledged_seconds": round(acknowledged, 2),
        "searchable_seconds": round(searchable, 2),
        "indexed_seconds": round(indexed, 2),
        "refused": sum(load.refusals.values()),
    }


async def _sent(running: Stack, collection: str, embeddings: Float32Array) -> Load:
    path = f"/api/v1/collections/{collection}/vectors/batch"
    return await Load().run(running.command_url, _requests(running.command_url, path, embeddings), CONNECTIONS)


def _requests(url: str, path: str, embeddings: Float32Array) -> Iterator[bytes]:
    for start in range(0, len(embeddings), BATCH):
        operations = ",".join(
            f'{{"op":"upsert","id":"{start + number}","embedding":"{encode(embedding)}"}}'
            for number, embedding in enumerate(embeddings[start : start + BATCH])
        )
        yield request_of_bytes(url, "POST", path, f'{{"operations":[{operations}]}}'.encode())


if __name__ == "__main__":
    sys.exit(main())
