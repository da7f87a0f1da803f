"""`TextEmbedder.embed(texts)`: caches, then the provider, in batches, each text once however many ask for it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import islice

from events_schema.embedding import EmbeddingSpec
from shared.beside_the_loop import beside_the_loop
from shared.embedding.caches import EmbeddingCache, MemoryCache, Scope, text_digest
from shared.embedding.errors import (
    ModelMismatchError,
    NoProviderError,
    ProviderUnavailableError,
    TextRefusedError,
    TooManyTextsError,
)
from shared.embedding.metrics import EmbeddingMetrics
from shared.embedding.texts import Provider, Purpose, TextEmbedding

Found = dict[bytes, TextEmbedding]

_LARGE_CHARACTERS = 64 * 1024
_CLOSING_SECONDS = 2.0


class TextEmbedder:
    """`provider` is that of new collections. None: their texts are refused, and `absence` says why and what to do.
    `others` are for collections of their models; a model's name occurs once. `farther_caches` from the nearer to the
    farther."""

    def __init__(
        self,
        provider: Provider | None,
        memory: MemoryCache,
        farther_caches: Sequence[EmbeddingCache],
        metrics: EmbeddingMetrics,
        *,
        others: Sequence[Provider] = (),
        absence: str = "",
        max_waiting_texts: int,
    ) -> None:
        self._provider = provider
        self._providers = {one.model: one for one in (*([] if provider is None else [provider]), *others)}
        self._nearest = memory
        self._caches: Sequence[EmbeddingCache] = [memory, *farther_caches]
        self._metrics = metrics
        self._absence = absence
        self._max_waiting_texts = max_waiting_texts
        self._waiting = 0
        self._under_way: dict[tuple[Scope, bytes], asyncio.Task[Found]] = {}
        metrics.waiting.set_function(lambda: self._waiting)

    @property
    def model(self) -> str | None:
        """The model that texts of new collections are embedded by; None: they are not embedded."""
        return None if self._provider is None else self._provider.model

    @property
    def models(self) -> tuple[str, ...]:
        """Every model that texts can be embedded by here, that of new collections first."""
        return tuple(self._providers)

    async def spec(self, model: str | None = None) -> EmbeddingSpec:
        """What texts are embedded under by one of `models`, by default by that of new collections.

        Raises:
            NoProviderError
            ProviderUnavailableError: the model's dimension cannot be told now.
        """
        provider = self._provider if model is None else self._providers.get(model)
        if provider is None:
            raise NoProviderError(self._absence if model is None else f"no text is embedded here by {model!r}")
        return EmbeddingSpec(provider=provider.name, model=provider.model, dimension=await provider.dimension())

    def check(self, spec: EmbeddingSpec) -> Provider:
        """The provider, if what it makes can be compared with embeddings of this spec.

        Raises:
            NoProviderError, ModelMismatchError
        """
        if not self._providers:
            raise NoProviderError(self._absence)
        found = None if spec.model is None else self._providers.get(spec.model)
        if found is None or found.name != spec.provider:
            ours = " or ".join(f"{one.model!r} ({one.name})" for one in self._providers.values())
            raise ModelMismatchError(spec, f"and text is embedded here by the model {ours}")
        return found

    async def fault(self) -> str | None:
        """What keeps texts from being embedded, as far as that is known without asking anybody."""
        if not self._providers:
            return self._absence
        faults = {model: fault for model, one in self._providers.items() if (fault := one.fault()) is not None}
        if len(self._providers) == 1:
            return next(iter(faults.values()), None)
        return "; ".join(f"{model}: {fault}" for model, fault in faults.items()) or None

    async def embed(
        self, tenant: str, texts: Sequence[str], spec: EmbeddingSpec, purpose: Purpose
    ) -> list[TextEmbedding]:
        """One for each text, in their order. What a caller that goes away had begun is finished and kept, so the same
        request goes on from there.

        Raises:
            NoProviderError, ModelMismatchError, ProviderUnavailableError, TextRefusedError, TooManyTextsError
        """
        if not texts:
            return []
        provider = self.check(spec)
        scope = Scope(tenant, spec)
        digests = await _digests(texts, purpose)
        wanted = dict(zip(digests, texts, strict=True))
        found = await self._find(scope, list(wanted))
        missing = {digest: text for digest, text in wanted.items() if digest not in found}
        if missing:
            if self._waiting + len(missing) > self._max_waiting_texts:
                raise TooManyTextsError(self._waiting)
            self._waiting += len(missing)
            try:
                found |= await self._computed(provider, scope, missing, purpose)
            finally:
                self._waiting -= len(missing)
        return [found[digest] for digest in digests]

    async def embed_each(
        self, tenant: str, texts: Sequence[str], spec: EmbeddingSpec, purpose: Purpose
    ) -> list[TextEmbedding | TextRefusedError]:
        """As `embed`, but a text that is refused refuses no other: its error stands in its place.

        Raises:
            NoProviderError, ModelMismatchError, ProviderUnavailableError, TooManyTextsError
        """
        refused: dict[str, TextRefusedError] = {}
        while True:
            left = [text for text in texts if text not in refused]
            try:
                embedded = iter(await self.embed(tenant, left, spec, purpose))
            except TextRefusedError as error:
                refused[error.text] = error
            else:
                return [refused[text] if text in refused else next(embedded) for text in texts]

    async def close(self) -> None:
        """What is all but done is kept, for whoever asks next: another batch may have answered its request already."""
        under_way = set(self._under_way.values())
        if under_way:
            _, late = await asyncio.wait(under_way, timeout=_CLOSING_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for provider in self._providers.values():
            await provider.close()

    async def _find(self, scope: Scope, digests: list[bytes]) -> Found:
        """What a farther cache has is put into the nearer ones."""
        found: Found = {}
        passed: list[EmbeddingCache] = []
        for cache in self._caches:
            missing = [digest for digest in digests if digest not in found]
            if not missing:
                break
            here = await cache.find(scope, missing)
            self._metrics.texts.labels(cache.name).inc(len(here))
            if here:
                for nearer in passed:
                    await nearer.keep(scope, here)
            found |= here
            passed.append(cache)
        return found

    async def _computed(self, provider: Provider, scope: Scope, texts: Mapping[bytes, str], purpose: Purpose) -> Found:
        missing = dict(texts)
        found: Found = {}
        own: set[asyncio.Task[Found]] = set()
        while True:
            # What another request's batch has brought in the meantime. This cache is asked without a pause, so nothing
            # happens between its answer and the claims below.
            found |= await self._nearest.find(scope, list(missing))
            missing = {digest: text for digest, text in missing.items() if digest not in found}
            if not missing:
                return {digest: found[digest] for digest in texts}
            own = {task for task in own if not task.done()}
            while len(own) < provider.concurrency:
                unclaimed = (
                    (digest, text) for digest, text in missing.items() if (scope, digest) not in self._under_way
                )
                batch = dict(islice(unclaimed, provider.batch_size))
                if not batch:
                    break
                own.add(self._begin(provider, scope, batch, purpose))
            # Waiting for tasks does not cancel them when this request is.
            awaited = {task for digest in missing if (task := self._under_way.get((scope, digest))) is not None}
            done, _ = await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                found |= _outcome(task, texts)

    def _begin(
        self, provider: Provider, scope: Scope, batch: Mapping[bytes, str], purpose: Purpose
    ) -> asyncio.Task[Found]:
        task = asyncio.create_task(self._compute(provider, scope, batch, purpose), name="embedding")
        for digest in batch:
            self._under_way[scope, digest] = task

        def done(ended: asyncio.Task[Found]) -> None:
            for digest in batch:
                del self._under_way[scope, digest]
            if not ended.cancelled():
                ended.exception()  # whoever waits takes it up; nobody may be left

        task.add_done_callback(done)
        return task

    async def _compute(self, provider: Provider, scope: Scope, batch: Mapping[bytes, str], purpose: Purpose) -> Found:
        try:
            with self._metrics.seconds.time():
                embeddings = await provider.embed(list(batch.values()), purpose)
        except (ProviderUnavailableError, TextRefusedError):
            self._metrics.failures.inc()
            raise
        wrong = next((one for one in embeddings if one.numbers.size != scope.spec.dimension), None)
        if wrong is not None:
            self._metrics.failures.inc()
            raise ProviderUnavailableError(
                f"the model {provider.model!r} gives embeddings of {wrong.numbers.size} dimensions, the collection's "
                f"have {scope.spec.dimension}"
            )
        self._metrics.texts.labels("computed").inc(len(batch))
        found = dict(zip(batch, embeddings, strict=True))
        for cache in self._caches:
            await cache.keep(scope, found)
        return found


async def _digests(texts: Sequence[str], purpose: Purpose) -> list[bytes]:
    def work() -> list[bytes]:
        return [text_digest(text, purpose) for text in texts]

    return await beside_the_loop(work) if sum(map(len, texts)) > _LARGE_CHARACTERS else work()


def _outcome(task: asyncio.Task[Found], texts: Mapping[bytes, str]) -> Found:
    """What a batch brought. That a text of another request was refused does not concern this one."""
    try:
        return task.result()
    except TextRefusedError as refused:
        if refused.text in texts.values():
            raise
        return {}
