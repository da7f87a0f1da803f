"""overlap@k: how much of the exact answer the index finds."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from aindusdb.client import Client
from benchmarks.figures import say
from benchmarks.stack import Stack
from events_schema.embedding import Float32Array, encode

K = 10


def overlap_at_10(stack: Stack, collection: str, queries: Float32Array, token: str) -> dict[str, float]:
    """The mean share of the exact ten nearest that the default search returns, over all queries."""
    shares: list[float] = []
    seconds: list[float] = []
    with Client(stack.query_url) as client:
        for number, query in enumerate(queries):
            request: dict[str, Any] = {"embedding": encode(query), "k": K, "include": [], "token": token}
            started = time.perf_counter()
            found = client.search(collection, **request)
            seconds.append(time.perf_counter() - started)
            exact = client.search(collection, **request, exact=True)
            shares.append(len({hit.id for hit in found.hits} & {hit.id for hit in exact.hits}) / K)
            if number % 100 == 99:
                say(f"{number + 1} of {len(queries)} queries")
    return {
        "queries": len(queries),
        "overlap_at_10": round(float(np.mean(shares)), 4),
        "worst_query": min(shares),
        "search_p50_ms": round(float(np.median(seconds)) * 1000, 2),
    }
