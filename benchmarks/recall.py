"""overlap@10 at default settings over clustered vectors, which are harder than uniform ones."""

from __future__ import annotations

import sys

import numpy as np

from benchmarks.figures import Target, arguments, conclude
from benchmarks.loading import load, new_collection, wait_until_searchable
from benchmarks.overlap import overlap_at_10
from benchmarks.stack import stack
from events_schema.embedding import Float32Array

DIMENSION = 384
CLUSTERS = 100
SPREAD = 0.6
TARGETS = (Target("overlap_at_10", 0.95),)


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--vectors", type=int, default=20_000)
    parser.add_argument("--queries", type=int, default=200)
    options = parser.parse_args()
    drawn = mixture_of_gaussians(options.vectors + options.queries, seed=1)
    embeddings, queries = drawn[: options.vectors], drawn[options.vectors :]
    with stack(options) as running:
        collection = new_collection(running, DIMENSION).name
        token = load(running, collection, [str(number) for number in range(options.vectors)], embeddings)
        waited = wait_until_searchable(running, collection, token, queries[0])
        figures = {
            "vectors": options.vectors,
            "searchable_after_seconds": round(waited, 2),
            **overlap_at_10(running, collection, queries, token),
        }
    return conclude(figures, TARGETS, check=options.check)


def mixture_of_gaussians(count: int, *, seed: int) -> Float32Array:
    """Shape (count, 384): `CLUSTERS` centres of unit variance, points around them with `SPREAD`."""
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((CLUSTERS, DIMENSION))
    points = centres[generator.integers(0, CLUSTERS, count)] + SPREAD * generator.standard_normal((count, DIMENSION))
    return points.astype(np.float32)


if __name__ == "__main__":
    sys.exit(main())
