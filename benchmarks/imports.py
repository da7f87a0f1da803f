"""An import over HTTP until it can be searched and until it is indexed, against COPY and CREATE INDEX by themselves."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from typing import Any

import asyncpg
import orjson
from pgvector.asyncpg import register_vector

from aindusdb.client import Client
from benchmarks.figures import Target, arguments, conclude, say
from benchmarks.lean_http import Load, request_of_bytes
from benchmarks.loading import BATCH, new_collection, wait_until_indexed, wait_until_searchable
from benchmarks.recall import DIMENSION, mixture_of_gaussians
from benchmarks.stack import Stack, stack
from events_schema.collections import IndexSpec
from events_schema.embedding import EmbeddingSpec, Float32Array, encode
from projector.generations import Shape
from projector.indexes import build_memory_mb, index_statement
from projector.settings import ProjectorSettings

CONNECTIONS = 2
TARGETS = (Target("indexed_over_bare", 0.65), Target("refused", 0, at_most=True))

_TABLE = "bare_embeddings"
_CREATE = f"""
CREATE TABLE {_TABLE} (
    id text COLLATE "C" PRIMARY KEY, embedding vector({DIMENSION}) STORAGE PLAIN NOT NULL
)
"""


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--vectors", type=int, default=100_000)
    options = parser.parse_args()
    embeddings = mixture_of_gaussians(options.vectors, seed=1)
    with stack(options) as running:
        # Before and after, because a machine that others use too is not always as fast.
        before = asyncio.run(_bare(running, embeddings))
        figures = _imported(running, embeddings)
        after = asyncio.run(_bare(running, embeddings))
    bare = {name: (before[name] + after[name]) / 2 for name in before}
    bare_seconds = sum(bare.values())
    figures |= {name: round(seconds, 2) for name, seconds in bare.items()}
    figures |= {
        "vectors": options.vectors,
        "bare_vectors_per_second": round(options.vectors / bare_seconds),
        "searchable_over_bare": round(bare_seconds / figures["searchable_seconds"], 3),
        "indexed_over_bare": round(bare_seconds / figures["indexed_seconds"], 3),
    }
    return conclude(figures, TARGETS, check=options.check)


async def _bare(running: Stack, embeddings: Float32Array) -> dict[str, float]:
    """Seconds, with the memory and the helpers that the projector gives itself."""
    settings = ProjectorSettings(events_dsn="unused", read_dsn="unused")
    index = IndexSpec(kind="hnsw", m=None, ef_construction=None, lists=None)
    shape = Shape(EmbeddingSpec(provider="client", model=None, dimension=DIMENSION), "cosine", "vector", index)
    memory_mb = min(build_memory_mb(shape, len(embeddings), None), settings.index_memory_mb)
    connection = await asyncpg.connect(running.read_dsn(), command_timeout=600)
    try:
        await register_vector(connection)
        await connection.execute(_CREATE)
        started = time.perf_counter()
        rows = ((str(number), embedding) for number, embedding in enumerate(embeddings))
        await connection.copy_records_to_table(_TABLE, records=rows, columns=("id", "embedding"))
        copied = time.perf_counter()
        await connection.execute(f"SET maintenance_work_mem = '{max(memory_mb, 64)}MB'")
        await connection.execute(f"SET max_parallel_maintenance_workers = {settings.index_parallel_workers}")
        await connection.execute(index_statement(_TABLE, shape))
        found = {"bare_copy_seconds": copied - started, "bare_index_seconds": time.perf_counter() - copied}
        await connection.execute(f"DROP TABLE {_TABLE}")
    finally:
        await connection.close()
    say(f"bare: {found}")
    return found


def _imported(running: Stack, embeddings: Float32Array) -> dict[str, Any]:
    collection = new_collection(running, DIMENSION).name
    say(f"importing {len(embeddings):,} embeddings, {BATCH} a request, over {CONNECTIONS} connections")
    started = time.perf_counter()
    load = asyncio.run(_sent(running, collection, embeddings))
    acknowledged = time.perf_counter() - started
    token = orjson.loads(load.last_body)["consistency_token"]
    say(f"acknowledged after {acknowledged:.2f} s, {running.backlog_events()} events wait")
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
