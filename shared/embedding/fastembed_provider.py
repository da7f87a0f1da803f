"""The provider `fastembed`: a model in this process, loaded when the first text comes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import structlog

from shared.embedding.errors import ProviderUnavailableError
from shared.embedding.fastembed_model import FastembedModel, ModelMissingError, known_dimension, load_model
from shared.embedding.texts import Purpose, TextEmbedding

RELOAD_SECONDS = 30.0
"""After a model could not be loaded it is not tried again for so long."""

_log = structlog.get_logger("embedding")

Result = TypeVar("Result")


class FastembedProvider:
    """`threads` texts are embedded side by side, each on one core."""

    name = "fastembed"
    batch_size = 8
    """Between two batches another request has its turn: about 0.2 seconds for long texts."""

    def __init__(self, model: str, path: Path | None, *, threads: int, load_wait_seconds: float) -> None:
        self.model = model
        self.concurrency = threads
        self._path = path
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="embedding")
        self._load_wait_seconds = load_wait_seconds
        self._dimension: int | None = None
        self._loaded: FastembedModel | None = None
        self._loading: asyncio.Future[FastembedModel] | None = None
        self._fault: str | None = None
        self._failed_at = float("-inf")

    async def dimension(self) -> int:
        if self._dimension is None and self._path is None:
            try:
                self._dimension = await in_daemon_thread(lambda: known_dimension(self.model))
            except ModelMissingError as error:
                raise ProviderUnavailableError(str(error), RELOAD_SECONDS) from error
        if self._dimension is None:
            self._dimension = (await self._model()).dimension
        return self._dimension

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> list[TextEmbedding]:
        model = await self._model()
        return await asyncio.get_running_loop().run_in_executor(self._threads, model.embed, texts, purpose)

    def fault(self) -> str | None:
        if self._loading is not None:
            return f"the model {self.model!r} is being loaded"
        return self._fault

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _model(self) -> FastembedModel:
        """
        Raises:
            ProviderUnavailableError: it cannot be loaded, or not soon enough.
        """
        if self._loaded is not None:
            return self._loaded
        if self._loading is None:
            left = self._failed_at + RELOAD_SECONDS - time.monotonic()
            if self._fault is not None and left > 0:
                raise ProviderUnavailableError(self._fault, left)
            self._begin_loading()
        assert self._loading is not None
        try:
            async with asyncio.timeout(self._load_wait_seconds):
                return await asyncio.shield(self._loading)
        except ModelMissingError as error:
            raise ProviderUnavailableError(str(error), RELOAD_SECONDS) from error
        except TimeoutError:
            raise ProviderUnavailableError(
                f"the model {self.model!r} is still being loaded, which includes its download where that is the first "
                "time; try again in a few seconds",
                5.0,
            ) from None

    def _begin_loading(self) -> None:
        _log.info("loading the embedding model", model=self.model, path=str(self._path) if self._path else None)
        started = time.monotonic()

        def settled(loading: asyncio.Future[FastembedModel]) -> None:
            self._loading = None
            if loading.cancelled():
                return
            failure = loading.exception()
            if failure is None:
                self._loaded, self._fault = loading.result(), None
                _log.info(
                    "the embedding model is loaded",
                    model=self.model,
                    dimension=self._loaded.dimension,
                    seconds=round(time.monotonic() - started, 2),
                )
            else:
                self._fault, self._failed_at = str(failure), time.monotonic()
                _log.error("the embedding model cannot be loaded; texts are refused", reason=self._fault)

        self._loading = in_daemon_thread(lambda: load_model(self.model, self._path))
        self._loading.add_done_callback(settled)


def in_daemon_thread(work: Callable[[], Result]) -> asyncio.Future[Result]:
    """The outcome of work that may take minutes, in a thread that does not keep the process from ending."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def settle(result: Result | None, failure: Exception | None) -> None:
        if future.done():
            return
        if failure is not None:
            future.set_exception(failure)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except Exception as error:
            failure = error
        with suppress(RuntimeError):  # the loop has ended before the work
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, name="embedding-load", daemon=True).start()
    return future
