"""What the query service counts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_FAST = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30)


class QueryMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.searches = Counter(
            "aindusdb_query_searches_total",
            "Searches by how: index, exact (asked for, no index, few match), finished_exactly (the index fell short).",
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
        self.reads = Counter(
            "aindusdb_query_reads_total",
            "Reads of a server by what became of them: answered, conflict, unavailable, tables_changed, not_fresh.",
            ["server", "outcome"],
            registry=registry,
        )
        self.server_state = Gauge(
            "aindusdb_query_server_state",
            "1 while a server is left out, by why: lags, resting (it failed a moment ago or is silent).",
            ["server", "state"],
            registry=registry,
        )
        self.cache = Counter(
            "aindusdb_query_cache_total",
            "Answers looked for in the caches, by where they were: l1, l2, none.",
            ["found"],
            registry=registry,
        )
