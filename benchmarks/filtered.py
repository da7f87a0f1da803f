"""recall@10 and latency of searches with a filter, by the share that matches and by where its matches lie.

`anywhere`: what matches has nothing to do with the query. `near`: it is what lies nearest to where the queries are, and
`far` what lies farthest from there. Recall is against the exact answer, computed here.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

from aindusdb.client import Client
from benchmarks.figures import Target, arguments, conclude, percentiles_ms, say
from benchmarks.loading import load, new_collection, wait_until_indexed, wait_until_searchable
from benchmarks.stack import Stack, stack
from events_schema.embedding import Float32Array, encode

K = 10
CLUSTERS = 100
SPREAD = 0.6
SHARES = (0.5, 0.1, 0.01, 0.001)
FIELDS = ("anywhere", "near", "far")
TARGETS = tuple(Target(f"recall_{field}_{share:.1%}", 0.95) for field in FIELDS for share in SHARES)


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=128)
    parser.add_argument("--queries", type=int, default=50, help="for each field and share")
    options = parser.parse_args()
    generator = np.random.default_rng(1)
    centres = generator.standard_normal((CLUSTERS, options.dimension))
    embeddings = _around(centres[generator.integers(0, CLUSTERS, options.vectors)], generator)
    queries = _around(np.repeat(centres[:1], options.queries, axis=0), generator)
    places = {
        "anywhere": generator.random(options.vectors),
        "near": _ranks(-_similarities(centres[:1], embeddings)[0]),
        "far": _ranks(_similarities(centres[:1], embeddings)[0]),
    }
    metadata = [
        {field: [share for share in SHARES if places[field][number] < share] for field in FIELDS}
        for number in range(options.vectors)
    ]
    figures: dict[str, Any] = {"vectors": options.vectors, "dimension": options.dimension, "queries": options.queries}
    with stack(options) as running:
        collection = new_collection(running, options.dimension).name
        token = load(running, collection, [str(number) for number in range(options.vectors)], embeddings, metadata)
        figures["searchable_after_seconds"] = round(wait_until_searchable(running, collection, token, queries[0]), 2)
        # So large an import is searched exactly until its index is made.
        wait_until_indexed(running, collection)
        similarities = _similarities(queries, embeddings)
        for field in FIELDS:
            for share in SHARES:
                matching = np.flatnonzero(places[field] < share)
                found = _measure(running, collection, queries, {field: share}, similarities, matching)
                figures |= {f"{name}_{field}_{share:.1%}": value for name, value in found.items()}
                say(f"{share:.1%} {field}: {found}")
    return conclude(figures, TARGETS, check=options.check)


def _measure(
    running: Stack,
    collection: str,
    queries: Float32Array,
    condition: dict[str, float],
    similarities: Any,
    matching: Any,
) -> dict[str, Any]:
    recalls, seconds = [], []
    with Client(running.query_url) as client:
        for query, similarity in zip(queries, similarities, strict=True):
            request: dict[str, Any] = {"embedding": encode(query), "k": K, "filter": condition, "include": []}
            started = time.perf_counter()
            found = client.search(collection, **request)
            seconds.append(time.perf_counter() - started)
            nearest = matching[np.argsort(-similarity[matching])[:K]]
            recalls.append(len({int(hit.id) for hit in found.hits} & set(nearest.tolist())) / len(nearest))
    return {"recall": round(float(np.mean(recalls)), 4), **percentiles_ms(seconds, "search")}


def _around(centres: Any, generator: np.random.Generator) -> Float32Array:
    drawn: Float32Array = (centres + SPREAD * generator.standard_normal(centres.shape)).astype(np.float32)
    return drawn


def _similarities(queries: Any, embeddings: Float32Array) -> Any:
    """Cosine, shape (queries, embeddings)."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    return queries / np.linalg.norm(queries, axis=1, keepdims=True) @ unit.T


def _ranks(values: Any) -> Any:
    """From 0 for the least to almost 1 for the greatest."""
    return np.argsort(np.argsort(values)) / len(values)


if __name__ == "__main__":
    sys.exit(main())
