"""Latency of searches and counts filtered by a range of a number, with a declared index over it and without, by turns.

Two collections hold the same vectors, without a vector index: what so few match is searched exactly in any case.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from aindusdb.client import Client
from benchmarks.figures import Target, arguments, conclude, percentiles_ms, say
from benchmarks.loading import load, new_collection, wait_until_searchable
from benchmarks.stack import Stack, stack
from events_schema.embedding import Float32Array, encode

K = 10
SHARES = (0.01, 0.001)
TARGETS = (Target("search_0.1%_times_as_fast", 2.0), Target("count_0.1%_times_as_fast", 5.0))
INDEXES = {"plain": [], "indexed": [{"field": "price", "type": "number"}]}


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=128)
    parser.add_argument("--queries", type=int, default=100, help="for each share and collection")
    options = parser.parse_args()
    generator = np.random.default_rng(1)
    embeddings = generator.standard_normal((options.vectors, options.dimension)).astype(np.float32)
    prices = generator.permutation(options.vectors)
    metadata = [{"price": int(price), "lang": "en", "tags": ["a", "b"]} for price in prices]
    ids = [str(number) for number in range(options.vectors)]
    figures: dict[str, Any] = {"vectors": options.vectors, "dimension": options.dimension, "queries": options.queries}
    with stack(options) as running:
        collections: dict[str, str] = {}
        for name, indexes in INDEXES.items():
            made = new_collection(running, options.dimension, index={"kind": "none"}, metadata_indexes=indexes)
            collections[name] = made.name
            token = load(running, made.name, ids, embeddings, metadata)
            wait_until_searchable(running, made.name, token, embeddings[0])
        for share in SHARES:
            figures |= _measure(running, collections, embeddings[: options.queries], options.vectors, share, generator)
    return conclude(figures, TARGETS, check=options.check)


def _measure(
    running: Stack,
    collections: dict[str, str],
    queries: Float32Array,
    vectors: int,
    share: float,
    generator: np.random.Generator,
) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {f"{ask}_{name}": [] for ask in ("search", "count") for name in collections}
    matching = int(vectors * share)
    with Client(running.query_url) as client:
        for query in queries:
            low = int(generator.integers(0, vectors - matching))
            wanted = {"price": {"$gte": low, "$lt": low + matching}}
            answers = {}
            for name, collection in collections.items():
                request: dict[str, Any] = {"embedding": encode(query), "k": K, "filter": wanted, "include": []}
                found = _timed(partial(client.search, collection, **request), seconds[f"search_{name}"])
                counted = _timed(partial(client.count, collection, filter=wanted), seconds[f"count_{name}"])
                answers[name] = ([hit.id for hit in found.hits], counted.count)
            if answers["plain"] != answers["indexed"] or answers["plain"][1] != matching:
                raise SystemExit(f"the answers differ: {answers}")
    figures: dict[str, Any] = {}
    for name, taken in seconds.items():
        figures |= percentiles_ms(taken, f"{name}_{share:.1%}")
    for ask in ("search", "count"):
        times = np.median(seconds[f"{ask}_plain"]) / np.median(seconds[f"{ask}_indexed"])
        figures[f"{ask}_{share:.1%}_times_as_fast"] = round(float(times), 2)
    say(f"{share:.1%}: {figures}")
    return figures


def _timed(ask: Callable[[], Any], seconds: list[float]) -> Any:
    started = time.perf_counter()
    answer = ask()
    seconds.append(time.perf_counter() - started)
    return answer


if __name__ == "__main__":
    sys.exit(main())
