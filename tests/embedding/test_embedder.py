"""Caches, batches and single flight, on a provider that counts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from events_schema.embedding import EmbeddingSpec
from shared.embedding import embedder
from shared.embedding.caches import MemoryCache, Scope
from shared.embedding.embedder import TextEmbedder
from shared.embedding.errors import (
    ModelMismatchError,
    NoProviderError,
    ProviderUnavailableError,
    TextRefusedError,
    TooManyTextsError,
)
from shared.embedding.metrics import EmbeddingMetrics
from shared.embedding.texts import Purpose, TextEmbedding
from tests.embedding.endpoint import numbers_of

SPEC = EmbeddingSpec(provider="counting", model="m", dimension=4)


class CountingProvider:
    """A provider that takes its turns when the test lets it, and refuses the text `bad`."""

    name, model, batch_size, concurrency = "counting", "m", 3, 2

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.dimensions = 4

    async def dimension(self) -> int:
        return self.dimensions

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> list[TextEmbedding]:
        self.batches.append(list(texts))
        await self.open.wait()
        if "bad" in texts:
            raise TextRefusedError("bad", "no")
        if "away" in texts:
            raise ProviderUnavailableError("away")
        return [TextEmbedding(np.array(numbers_of(text, self.dimensions), dtype=np.float32), False) for text in texts]

    def fault(self) -> str | None:
        return None

    async def close(self) -> None:
        pass

    @property
    def texts(self) -> list[str]:
        return [text for batch in self.batches for text in batch]


class Counted:
    def __init__(self, *, caches: int = 1, max_waiting_texts: int = 4_000) -> None:
        self.provider = CountingProvider()
        self.registry = CollectorRegistry()
        self.caches = [MemoryCache() for _ in range(caches)]
        for number, cache in enumerate(self.caches, start=1):
            cache.name = f"l{number}"
        self.embedder = TextEmbedder(
            self.provider,
            self.caches[0],
            self.caches[1:],
            EmbeddingMetrics(self.registry),
            max_waiting_texts=max_waiting_texts,
        )

    async def embed(self, *texts: str) -> list[list[float]]:
        found = await self.embedder.embed("t", texts, SPEC, "content")
        return [one.numbers.tolist() for one in found]

    def count(self, source: str) -> float:
        value = self.registry.get_sample_value("aindusdb_embedding_texts_total", {"source": source})
        assert value is not None
        return value


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcdefghijklmnop"), max_size=12), max_size=8))
async def test_each_text_is_computed_once_whoever_asks_and_how_often(requests: list[list[str]]) -> None:
    counted = Counted()
    answers = await asyncio.gather(*(counted.embed(*texts) for texts in requests))
    assert answers == [[numbers_of(text, 4) for text in texts] for texts in requests]
    distinct = {text for texts in requests for text in texts}
    assert sorted(counted.provider.texts) == sorted(distinct)
    assert all(len(batch) <= CountingProvider.batch_size for batch in counted.provider.batches)
    assert counted.count("computed") == len(distinct)


async def test_farther_cache_fills_the_nearer_ones() -> None:
    counted = Counted(caches=3)
    await counted.embed("a", "b")
    counted.caches[0]._entries.clear()
    counted.caches[1]._entries.clear()
    await counted.embed("a", "b")
    assert counted.count("l3") == 2
    await counted.embed("a", "b")
    assert (counted.count("l1"), counted.count("l2"), counted.count("computed")) == (2, 0, 2)


async def test_what_a_caller_that_goes_away_had_begun_is_kept() -> None:
    counted = Counted()
    counted.provider.open.clear()
    texts = [str(number) for number in range(30)]
    asking = asyncio.create_task(counted.embed(*texts))
    await asyncio.sleep(0.01)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    counted.provider.open.set()
    await asyncio.sleep(0.01)
    begun = CountingProvider.batch_size * CountingProvider.concurrency
    assert counted.provider.texts == texts[:begun]
    await counted.embed(*texts)
    assert sorted(counted.provider.texts) == sorted(texts)
    assert counted.count("l1") == begun


class UnhurriedCache(MemoryCache):
    async def keep(self, scope: Scope, found: Mapping[bytes, TextEmbedding]) -> None:
        await asyncio.sleep(0.05)
        await super().keep(scope, found)


async def test_what_was_computed_when_the_process_ends_is_kept() -> None:
    counted = Counted(caches=2)
    farther = UnhurriedCache()
    counted.embedder._caches = [counted.caches[0], farther]
    asking = asyncio.create_task(counted.embed("a", "b"))
    await asyncio.sleep(0.01)
    asking.cancel()
    await counted.embedder.close()
    assert len(farther._entries) == 2


async def test_process_that_ends_does_not_wait_for_a_provider_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(embedder, "_CLOSING_SECONDS", 0.05)
    counted = Counted()
    counted.provider.open.clear()
    asking = asyncio.create_task(counted.embed("a"))
    await asyncio.sleep(0.01)
    asking.cancel()
    async with asyncio.timeout(5):
        await counted.embedder.close()
    assert counted.count("computed") == 0


async def test_request_of_few_texts_does_not_wait_for_all_of_a_large_one() -> None:
    counted = Counted()
    large = asyncio.create_task(counted.embed(*map(str, range(300))))
    await asyncio.sleep(0)
    await counted.embed("single")
    assert not large.done()
    await large


async def test_refused_text_of_another_request_refuses_only_that_one() -> None:
    counted = Counted()
    counted.provider.open.clear()
    theirs = asyncio.create_task(counted.embed("a", "bad", "b"))
    await asyncio.sleep(0.01)
    ours = asyncio.create_task(counted.embed("a", "b", "c"))
    await asyncio.sleep(0.01)
    counted.provider.open.set()
    with pytest.raises(TextRefusedError):
        await theirs
    assert await ours == [numbers_of(text, 4) for text in "abc"]


async def test_failure_reaches_all_who_wait_and_nothing_is_kept() -> None:
    counted = Counted()
    counted.provider.open.clear()
    waiting = [asyncio.create_task(counted.embed("a", "away")) for _ in range(3)]
    await asyncio.sleep(0.01)
    counted.provider.open.set()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(one) for one in outcomes] == [ProviderUnavailableError] * 3
    assert counted.provider.batches == [["a", "away"]]
    assert counted.count("computed") == 0
    assert await counted.embed("a") == [numbers_of("a", 4)]


async def test_model_of_another_dimension_than_the_collection_is_refused() -> None:
    counted = Counted()
    counted.provider.dimensions = 5
    with pytest.raises(ProviderUnavailableError, match="5 dimensions, the collection's have 4"):
        await counted.embed("a")
    assert counted.count("computed") == 0


@pytest.mark.parametrize("changed", [{"model": "n"}, {"provider": "client"}, {"provider": "client", "model": None}])
async def test_collection_of_another_model_is_refused(changed: dict[str, Any]) -> None:
    counted = Counted()
    with pytest.raises(ModelMismatchError, match=r"the collection's embeddings are (of|brought)"):
        await counted.embedder.embed("t", ["a"], SPEC.model_copy(update=changed), "content")
    assert counted.provider.batches == []


async def test_without_a_provider_the_reason_says_how_to_switch_one_on() -> None:
    embedder = TextEmbedder(
        None, MemoryCache(), [], EmbeddingMetrics(CollectorRegistry()), absence="do this", max_waiting_texts=4_000
    )
    assert embedder.model is None
    assert await embedder.fault() == "do this"
    with pytest.raises(NoProviderError, match="do this"):
        await embedder.spec()
    with pytest.raises(NoProviderError, match="do this"):
        await embedder.embed("t", ["a"], SPEC, "content")


async def test_too_many_waiting_texts_are_refused() -> None:
    counted = Counted(max_waiting_texts=10)
    counted.provider.open.clear()
    first = asyncio.create_task(counted.embed(*map(str, range(8))))
    await asyncio.sleep(0.01)
    with pytest.raises(TooManyTextsError, match="8 texts wait"):
        await counted.embed("a", "b", "c")
    counted.provider.open.set()
    await first
    await counted.embed("a", "b", "c")
