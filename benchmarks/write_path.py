"""How much the write path acknowledges: single writes, batches, and single writes beside a bulk import, while the
indexes over what was imported before are made and when nothing else is done."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Iterator

import numpy as np

from benchmarks.figures import Target, arguments, conclude, percentiles_ms, say
from benchmarks.lean_http import Connection, Load, request, request_of_bytes
from benchmarks.loading import new_collection, wait_until_indexed
from benchmarks.stack import Stack, stack
from events_schema.embedding import Float32Array, encode

DIMENSION = 384
CONNECTIONS = 32
BATCH = 500
BATCH_CONNECTIONS = 2
SINGLES_BESIDE_BULK = 8
TARGETS = (
    Target("singles_per_second", 1000),
    Target("batch_numbers_events_per_second", 5000),
    Target("batch_base64_events_per_second", 5000),
    Target("singles_beside_bulk_p99_ms", 50, at_most=True),
    Target("refused", 0, at_most=True),
)


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--singles", type=int, default=10_000)
    parser.add_argument("--batches", type=int, default=40)
    options = parser.parse_args()
    with stack(options) as running:
        figures = asyncio.run(_measure(running, options.singles, options.batches))
        figures["backlog_events_left"] = running.backlog_events()
    return conclude(figures, TARGETS, check=options.check)


async def _measure(running: Stack, singles: int, batches: int) -> dict[str, object]:
    url = running.command_url
    vectors = np.random.default_rng(2).standard_normal((BATCH, DIMENSION)).astype(np.float32)
    figures: dict[str, object] = {}
    refused = 0

    say(f"{singles:,} single writes from {CONNECTIONS} connections")
    path = vectors_path(running)
    prepared = [_put(url, path, f"single-{number}", vectors[number % BATCH]) for number in range(singles)]
    load = await Load().run(url, prepared, CONNECTIONS)
    refused += _refusals(load)
    figures["singles_per_second"] = round(len(load.seconds) / load.elapsed_seconds)
    figures |= percentiles_ms(load.seconds, "singles")
    figures["backlog_events_after_singles"] = running.backlog_events()
    del prepared

    for name, as_numbers in (("numbers", True), ("base64", False)):
        say(f"{batches} batches of {BATCH}, embeddings as {name}")
        path = vectors_path(running)
        bodies = [
            batch_request(url, path, f"{name}-{number}", vectors, as_numbers=as_numbers) for number in range(batches)
        ]
        load = await Load().run(url, bodies, BATCH_CONNECTIONS)
        refused += _refusals(load)
        figures[f"batch_{name}_events_per_second"] = round(BATCH * len(load.seconds) / load.elapsed_seconds)
        figures |= percentiles_ms(load.seconds, f"batch_{name}")
        figures[f"backlog_events_after_batch_{name}"] = running.backlog_events()

    for name, beside_what in (("bulk_and_indexing", "a bulk import and index builds"), ("bulk", "a bulk import")):
        if name == "bulk":
            wait_until_indexed(running, path.split("/")[4])
        say(f"single writes beside {beside_what}")
        path = vectors_path(running)
        beside, bulk = await _singles_beside_bulk(running, path, vectors, batches)
        refused += _refusals(beside) + _refusals(bulk)
        figures |= percentiles_ms(beside.seconds, f"singles_beside_{name}")
        rate = BATCH * len(bulk.seconds) / bulk.elapsed_seconds
        figures[f"{name}_beside_singles_events_per_second"] = round(rate)
    figures["refused"] = refused
    return figures


async def _singles_beside_bulk(running: Stack, path: str, vectors: Float32Array, batches: int) -> tuple[Load, Load]:
    """A few connections write one vector after the other for as long as the bulk import lasts."""
    url = running.command_url
    bodies = [batch_request(url, path, f"bulk-{number}", vectors, as_numbers=False) for number in range(batches)]
    singles = Load()
    connections = [await Connection.open(url) for _ in range(SINGLES_BESIDE_BULK)]
    endless = (_put(url, path, f"beside-{number}", vectors[number % BATCH]) for number in itertools.count())
    ended = asyncio.Event()

    async def write(connection: Connection) -> None:
        while not ended.is_set():
            await singles.timed(connection, next(endless))
            await asyncio.sleep(0.01)

    started = time.perf_counter()
    writing = [asyncio.create_task(write(connection)) for connection in connections]
    bulk = await Load().run(url, bodies, BATCH_CONNECTIONS)
    ended.set()
    await asyncio.gather(*writing)
    singles.elapsed_seconds = time.perf_counter() - started
    for connection in connections:
        connection.close()
    return singles, bulk


def vectors_path(running: Stack) -> str:
    """Of a new collection, so that no measurement finds what another has left."""
    return f"/api/v1/collections/{new_collection(running, DIMENSION).name}/vectors"


def _put(url: str, path: str, vector_id: str, embedding: Float32Array) -> bytes:
    return request(url, "PUT", f"{path}/{vector_id}", {"embedding": encode(embedding)})


def batch_request(url: str, path: str, prefix: str, vectors: Float32Array, *, as_numbers: bool) -> bytes:
    operations: Iterator[str] = (
        f'{{"op":"upsert","id":"{prefix}-{number}","embedding":{embedding}}}'
        for number, embedding in enumerate(_texts(vectors, as_numbers))
    )
    return request_of_bytes(url, "POST", f"{path}/batch", f'{{"operations":[{",".join(operations)}]}}'.encode())


def _texts(vectors: Float32Array, as_numbers: bool) -> list[str]:
    return [json.dumps(vector.tolist() if as_numbers else encode(vector)) for vector in vectors]


def _refusals(load: Load) -> int:
    if load.refusals:
        say(f"refused: {load.refusals}, the last with {load.last_refusal[:300]!r}")
    return sum(load.refusals.values())


if __name__ == "__main__":
    sys.exit(main())
