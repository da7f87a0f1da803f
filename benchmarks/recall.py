"""overlap@10 of each metric, type and index at default settings, over clustered vectors, which are harder than uniform
ones."""

from __future__ import annotations

import itertools
import sys

import numpy as np

from benchmarks.figures import Target, arguments, conclude, say
from benchmarks.loading import load, new_collection, wait_until_indexed, wait_until_searchable
from benchmarks.overlap import overlap_at_10
from benchmarks.stack import stack
from events_schema.embedding import Float32Array

DIMENSION = 384
CLUSTERS = 100
SPREAD = 0.6
METRICS, TYPES, INDEXES = ("cosine", "l2", "ip"), ("vector", "halfvec"), ("hnsw", "ivfflat", "none")
TARGETS = [
    Target(f"{metric}_{vector_type}_hnsw_overlap_at_10", 0.95)
    for metric, vector_type in itertools.product(METRICS, TYPES)
]


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--vectors", type=int, default=20_000)
    parser.add_argument("--queries", type=int, default=100)
    options = parser.parse_args()
    drawn = mixture_of_gaussians(options.vectors + options.queries, seed=1)
    embeddings, queries = drawn[: options.vectors], drawn[options.vectors :]
    ids = [str(number) for number in range(options.vectors)]
    figures: dict[str, object] = {"vectors": options.vectors, "queries": options.queries}
    with stack(options) as running:
        for metric, vector_type, index in itertools.product(METRICS, TYPES, INDEXES):
            say(f"{metric}, {vector_type}, {index}")
            collection = new_collection(running, DIMENSION, metric=metric, type=vector_type, index={"kind": index}).name
            token = load(running, collection, ids, embeddings)
            wait_until_searchable(running, collection, token, queries[0])
            if index != "none":
                wait_until_indexed(running, collection)
            found = overlap_at_10(running, collection, queries, token)
            say(f"    {found}")
            name = f"{metric}_{vector_type}_{index}"
            figures |= {f"{name}_{figure}": found[figure] for figure in ("overlap_at_10", "search_p50_ms")}
    return conclude(figures, TARGETS, check=options.check)


def mixture_of_gaussians(count: int, *, seed: int) -> Float32Array:
    """Shape (count, 384): `CLUSTERS` centres of unit variance, points around them with `SPREAD`."""
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((CLUSTERS, DIMENSION))
    points = centres[generator.integers(0, CLUSTERS, count)] + SPREAD * generator.standard_normal((count, DIMENSION))
    return points.astype(np.float32)


if __name__ == "__main__":
    sys.exit(main())
