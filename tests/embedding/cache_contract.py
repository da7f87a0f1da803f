"""What every cache of embeddings does, whatever it lies in."""

from __future__ import annotations

from uuid import uuid4

import numpy as np
from numpy.testing import assert_array_equal

from events_schema.embedding import EmbeddingSpec
from shared.embedding.caches import EmbeddingCache, Scope, text_digest
from shared.embedding.texts import TextEmbedding

SPEC = EmbeddingSpec(provider="openai", model="m", dimension=3)


def scope() -> Scope:
    """One that no other test has."""
    return Scope(f"t-{uuid4().hex}", SPEC)


def embedding(*numbers: float, truncated: bool = False) -> TextEmbedding:
    return TextEmbedding(np.array(numbers, dtype=np.float32), truncated)


A, B, C = (text_digest(text, "content") for text in "abc")


class EmbeddingCacheContract:
    async def test_kept_embeddings_are_found_bit_by_bit(self, cache: EmbeddingCache) -> None:
        of = scope()
        kept = {A: embedding(1e-40, -3.4e38, 0.1), B: embedding(1, 2, 3, truncated=True)}
        await cache.keep(of, kept)
        found = await cache.find(of, [C, B, A])
        assert found.keys() == {A, B}
        for digest, one in kept.items():
            assert_array_equal(found[digest].numbers.view(np.uint32), one.numbers.view(np.uint32))
            assert found[digest].truncated is one.truncated

    async def test_another_tenant_and_another_spec_find_nothing(self, cache: EmbeddingCache) -> None:
        of = scope()
        await cache.keep(of, {A: embedding(1, 2, 3)})
        assert await cache.find(scope(), [A]) == {}
        for changed in ({"model": "n"}, {"provider": "fastembed"}, {"dimension": 4}):
            assert await cache.find(Scope(of.tenant, SPEC.model_copy(update=changed)), [A]) == {}

    async def test_the_same_may_be_kept_again(self, cache: EmbeddingCache) -> None:
        of = scope()
        for _ in range(2):
            await cache.keep(of, {A: embedding(1, 2, 3), B: embedding(4, 5, 6)})
        assert (await cache.find(of, [A, B])).keys() == {A, B}

    async def test_nothing_is_asked_and_kept_without_harm(self, cache: EmbeddingCache) -> None:
        await cache.keep(scope(), {})
        assert await cache.find(scope(), []) == {}

    async def test_a_thousand_are_found_at_once(self, cache: EmbeddingCache) -> None:
        of = scope()
        many = {text_digest(str(number), "content"): embedding(number, 0, 1) for number in range(1_000)}
        await cache.keep(of, many)
        found = await cache.find(of, list(many))
        assert [found[digest].numbers[0] for digest in many] == list(range(1_000))
