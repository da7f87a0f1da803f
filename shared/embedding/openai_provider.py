"""The provider `openai`: any endpoint that speaks the protocol of OpenAI's `POST /embeddings`."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

import httpx
import numpy as np
import stamina
import structlog
from pydantic import SecretStr

from events_schema.embedding import Float32Array
from shared.beside_the_loop import beside_the_loop
from shared.embedding.breaker import CircuitBreaker, CircuitOpenError
from shared.embedding.errors import ProviderUnavailableError, TextRefusedError
from shared.embedding.texts import Purpose, TextEmbedding
from shared.embedding_input import MAX_DIMENSION
from shared.strict_json import MalformedJsonError, parse_json

ATTEMPTS = 3
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 3.0
FAILURES_UNTIL_OPEN = 5
OPEN_SECONDS = 10.0
MAX_ANSWER_BYTES = 64 * 1024 * 1024

_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504, 529})
_OF_THE_TEXT = frozenset({400, 413, 422})
_SHOWN_CHARACTERS = 200

_log = structlog.get_logger("embedding")


class AttemptFailedError(Exception):
    """One attempt came to nothing. `may_pass`: another may succeed."""

    def __init__(self, reason: str, *, may_pass: bool) -> None:
        super().__init__(reason)
        self.may_pass = may_pass


class RateLimitedError(Exception):
    """The endpoint works but wants to be asked less often (429)."""

    def __init__(self, retry_after_seconds: float | None) -> None:
        super().__init__("the endpoint limits the rate of requests (429)")
        self.retry_after_seconds = retry_after_seconds


class _TextsRefusedError(Exception):
    """One of these texts is at fault, the endpoint says."""


class OpenAIProvider:
    """`timeout_seconds` bounds one attempt. A batch is tried up to three times; after five failed attempts in a row the
    endpoint is left alone for ten seconds, whoever asks."""

    name = "openai"
    batch_size = 64
    concurrency = 4

    def __init__(self, model: str, url: str, api_key: SecretStr, *, timeout_seconds: float) -> None:
        self.model = model
        self._url = url if url.endswith("/embeddings") else f"{url}/embeddings"
        key = api_key.get_secret_value()
        self._timeout_seconds = timeout_seconds
        self._http = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else None,
            timeout=httpx.Timeout(timeout_seconds, connect=min(3.0, timeout_seconds)),
            limits=httpx.Limits(max_connections=16, max_keepalive_connections=4),
        )
        self._breaker = CircuitBreaker(failures=FAILURES_UNTIL_OPEN, open_seconds=OPEN_SECONDS)
        self._dimension: int | None = None
        self._fault: str | None = None

    async def dimension(self) -> int:
        if self._dimension is None:
            self._dimension = (await self.embed(["dimension"], "content"))[0].numbers.size
        return self._dimension

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> list[TextEmbedding]:
        """`purpose` makes no difference to the protocol."""
        try:
            embeddings = await self._embeddings(texts)
        except _TextsRefusedError as refused:
            if len(texts) == 1:
                raise TextRefusedError(texts[0], f"the embedding endpoint refuses the text: {refused}") from refused
            # The answer does not say which of them; the halves do.
            half = len(texts) // 2
            return [*await self.embed(texts[:half], purpose), *await self.embed(texts[half:], purpose)]
        return [TextEmbedding(numbers, truncated=False) for numbers in embeddings]

    def fault(self) -> str | None:
        return self._fault

    async def close(self) -> None:
        await self._http.aclose()

    async def _embeddings(self, texts: Sequence[str]) -> Float32Array:
        """Shape (texts, dimension).

        Raises:
            ProviderUnavailableError, _TextsRefusedError
        """
        try:
            embeddings = await self._tried(texts)
        except CircuitOpenError as error:
            reason = f"the embedding endpoint is not asked for now: {error}; the last fault: {self._fault}"
            raise ProviderUnavailableError(reason, error.retry_after_seconds) from error
        except AttemptFailedError as error:
            self._fault = f"the embedding endpoint at {self._url} failed: {error}"
            _log.warning("texts could not be embedded", reason=self._fault)
            raise ProviderUnavailableError(self._fault) from error
        except RateLimitedError as error:
            raise ProviderUnavailableError(str(error), error.retry_after_seconds or 1.0) from error
        self._fault = None
        return embeddings

    async def _tried(self, texts: Sequence[str]) -> Float32Array:
        async for attempt in stamina.retry_context(
            on=_pause_before_next,
            attempts=ATTEMPTS,
            timeout=self._timeout_seconds * 2.5,
            wait_initial=FIRST_PAUSE_SECONDS,
            wait_max=LONGEST_PAUSE_SECONDS,
            wait_jitter=FIRST_PAUSE_SECONDS,
        ):
            with attempt, self._breaker.attempt(AttemptFailedError):
                return await self._attempt(texts)
        raise AssertionError("the last attempt's error is raised")

    async def _attempt(self, texts: Sequence[str]) -> Float32Array:
        body = {"model": self.model, "input": list(texts), "encoding_format": "float"}
        try:
            async with asyncio.timeout(self._timeout_seconds):
                async with self._http.stream("POST", self._url, json=body) as response:
                    raw = await _read(response)
        except TimeoutError as error:
            raise AttemptFailedError(f"no answer within {self._timeout_seconds:g} seconds", may_pass=True) from error
        except httpx.HTTPError as error:
            raise AttemptFailedError(f"{type(error).__name__}: {error}", may_pass=True) from error
        if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
            raise RateLimitedError(_retry_after(response))
        if response.status_code in _OF_THE_TEXT:
            raise _TextsRefusedError(_reason(raw, response.status_code))
        if response.status_code != httpx.codes.OK:
            hint = "; see AINDUSDB_EMBEDDING_API_KEY" if response.status_code in (401, 403) else ""
            reason = f"{_reason(raw, response.status_code)}{hint}"
            raise AttemptFailedError(reason, may_pass=response.status_code in _PASSING)
        return await beside_the_loop(read_answer, raw, len(texts))


async def _read(response: httpx.Response) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.aiter_bytes():
        size += len(chunk)
        if size > MAX_ANSWER_BYTES:
            raise AttemptFailedError(f"its answer is larger than {MAX_ANSWER_BYTES:,} bytes", may_pass=False)
        chunks.append(chunk)
    return b"".join(chunks)


def read_answer(raw: bytes, texts: int) -> Float32Array:
    """The embeddings of an answer in the order of the texts, shape (texts, dimension).

    Raises:
        AttemptFailedError: it is not the answer to this many texts.
    """
    try:
        items = parse_json(raw)["data"]
        rows = {item.get("index", place): item["embedding"] for place, item in enumerate(items)}
        if len(items) != texts or rows.keys() != set(range(texts)):
            raise AttemptFailedError(f"it gave {len(items)} embeddings for {texts} texts", may_pass=False)
        if any(type(row) is not list or not set(map(type, row)) <= {int, float} for row in rows.values()):
            raise TypeError("an embedding is no list of numbers")
        with np.errstate(over="ignore"):
            embeddings = np.array([rows[index] for index in range(texts)], dtype=np.float32)
    except (MalformedJsonError, LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        shown = raw[:_SHOWN_CHARACTERS].decode(errors="replace")
        raise AttemptFailedError(f"it did not answer with embeddings of one length: {shown}", may_pass=False) from error
    if not 1 <= embeddings.shape[-1] <= MAX_DIMENSION:
        raise AttemptFailedError(f"its embeddings are not of 1 to {MAX_DIMENSION:,} numbers each", may_pass=False)
    if not np.isfinite(embeddings).all():
        raise AttemptFailedError("an embedding holds a number that is not finite", may_pass=False)
    return embeddings


def _pause_before_next(error: Exception) -> bool | float:
    """Whether an attempt is followed by another; a number is how many seconds later."""
    match error:
        case AttemptFailedError():
            return error.may_pass
        case RateLimitedError():
            asked = error.retry_after_seconds
            if asked is None or asked > LONGEST_PAUSE_SECONDS:
                return asked is None
            return max(asked, FIRST_PAUSE_SECONDS)
        case _:
            return False


def _retry_after(response: httpx.Response) -> float | None:
    try:
        seconds = float(response.headers.get("retry-after", ""))
    except ValueError:  # absent, or a date
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _reason(raw: bytes, status: int) -> str:
    """What the endpoint says of its refusal, shortened."""
    try:
        said = parse_json(raw)["error"]
        message = said["message"] if isinstance(said, dict) else said
    except (MalformedJsonError, KeyError, TypeError):
        message = raw[:_SHOWN_CHARACTERS].decode(errors="replace")
    return f"it answered {status} ({str(message)[:_SHOWN_CHARACTERS]})"
