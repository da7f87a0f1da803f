"""What the embedding of texts counts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class EmbeddingMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.texts = Counter(
            "aindusdb_embedding_texts_total",
            "Texts whose embedding was needed, by where it came from: l1, l2, l3, or computed.",
            ["source"],
            registry=registry,
        )
        for source in ("l1", "l2", "l3", "computed"):
            self.texts.labels(source)
        self.failures = Counter(
            "aindusdb_embedding_failures_total", "Batches of texts that could not be embedded.", registry=registry
        )
        self.seconds = Histogram(
            "aindusdb_embedding_batch_seconds",
            "From handing a batch of texts to the provider to its embeddings.",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=registry,
        )
        self.waiting = Gauge("aindusdb_embedding_texts_waiting", "Texts that wait to be embedded.", registry=registry)
