"""What the query service counts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

_FAST = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30)


class QueryMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.searches = Counter(
            "aindusdb_query_searches_total",
            "Searches answered by how: index, exact (asked for, or no index), finished_exactly (the index fell short).",
            ["kind"],
            registry=registry,
        )
        self.freshness_wait = Histogram(
            "aindusdb_query_freshness_wait_seconds",
            "How long reads with a consistency token waited for it, those that gave up included.",
            buckets=_FAST,
            registry=registry,
        )
        self.poll = Histogram(
            "aindusdb_query_poll_seconds",
            "Duration of a poll of a read server.",
            ["server"],
            buckets=_FAST,
            registry=registry,
        )
