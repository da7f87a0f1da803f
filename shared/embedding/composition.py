"""Makes a process's embedder from its settings."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from prometheus_client import CollectorRegistry

from shared.embedding.caches import EmbeddingCache, MemoryCache
from shared.embedding.embedder import TextEmbedder
from shared.embedding.fastembed_provider import FastembedProvider
from shared.embedding.metrics import EmbeddingMetrics
from shared.embedding.openai_provider import OpenAIProvider
from shared.embedding.settings import EmbeddingSettings, ProviderSettings
from shared.embedding.texts import Provider

SWITCHED_OFF = (
    "text is not embedded here: AINDUSDB_EMBEDDING_PROVIDER is none; set it to fastembed (a model in the service) or "
    "to openai (any endpoint of that protocol), or bring an embedding"
)
NOT_INSTALLED = (
    "text is not embedded here: the package fastembed is not installed; install aindusdb-core[embed], or set "
    "AINDUSDB_EMBEDDING_PROVIDER to openai (any endpoint of that protocol), or bring an embedding"
)


def create_embedder(
    settings: EmbeddingSettings, registry: CollectorRegistry, farther_caches: Sequence[EmbeddingCache]
) -> TextEmbedder:
    """Loads and opens nothing."""
    first = settings.provider_settings()
    absence = ""
    if first is None:
        absence = SWITCHED_OFF
    elif first.provider == "fastembed" and find_spec("fastembed") is None:
        first, absence = None, NOT_INSTALLED
    return TextEmbedder(
        None if first is None else _provider(first, settings),
        MemoryCache(),
        farther_caches,
        EmbeddingMetrics(registry),
        others=[_provider(one, settings) for one in settings.other_provider_settings()],
        absence=absence,
        max_waiting_texts=settings.embedding_max_waiting_texts,
    )


def _provider(one: ProviderSettings, settings: EmbeddingSettings) -> Provider:
    match one.provider:
        case "fastembed":
            return FastembedProvider(
                one.model,
                one.path,
                threads=settings.embedding_threads,
                load_wait_seconds=settings.embedding_load_wait_seconds,
            )
        case "openai":
            return OpenAIProvider(one.model, one.url, one.api_key, timeout_seconds=settings.embedding_timeout_seconds)
