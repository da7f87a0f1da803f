"""The provider `openai` on a real HTTP server that does what endpoints do on bad days."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from pydantic import SecretStr
from starlette.responses import JSONResponse, PlainTextResponse, Response

from aindusdb.local_stack.ports import free_port
from shared.embedding import openai_provider
from shared.embedding.errors import ProviderUnavailableError, TextRefusedError
from shared.embedding.openai_provider import OpenAIProvider
from tests.embedding.endpoint import DIMENSION, Endpoint, answered, numbers_of

KEY = "a-secret-key"


@pytest_asyncio.fixture
async def provider(endpoint: Endpoint) -> AsyncIterator[OpenAIProvider]:
    made = OpenAIProvider("a-model", endpoint.url, SecretStr(KEY), timeout_seconds=0.5)
    yield made
    await made.close()


async def test_embeddings_come_in_the_order_of_the_texts_whatever_the_order_of_the_answer(
    provider: OpenAIProvider, endpoint: Endpoint
) -> None:
    texts = [f"text {number}" for number in range(20)]
    embeddings = await provider.embed(texts, "content")
    assert [one.numbers.tolist() for one in embeddings] == [numbers_of(text) for text in texts]
    assert endpoint.requests == [texts]
    assert (endpoint.keys, endpoint.models) == ([f"Bearer {KEY}"], ["a-model"])


async def test_dimension_is_asked_for_once(provider: OpenAIProvider, endpoint: Endpoint) -> None:
    assert await provider.dimension() == DIMENSION
    assert await provider.dimension() == DIMENSION
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_passing_failure_is_tried_again_after_a_pause(
    provider: OpenAIProvider, endpoint: Endpoint, status: int
) -> None:
    endpoint.fault = lambda number, _texts: PlainTextResponse("no", status) if number < 3 else None
    started = time.monotonic()
    assert len(await provider.embed(["a"], "content")) == 1
    assert len(endpoint.requests) == 3
    assert time.monotonic() - started > openai_provider.FIRST_PAUSE_SECONDS


async def test_retry_after_is_respected(provider: OpenAIProvider, endpoint: Endpoint) -> None:
    endpoint.fault = lambda number, _texts: Response(None, 429, {"Retry-After": "1"}) if number == 1 else None
    started = time.monotonic()
    await provider.embed(["a"], "content")
    assert time.monotonic() - started >= 1


async def test_rate_limit_that_lasts_longer_is_told_to_the_caller(provider: OpenAIProvider, endpoint: Endpoint) -> None:
    endpoint.fault = lambda _number, _texts: Response(None, 429, {"Retry-After": "60"})
    with pytest.raises(ProviderUnavailableError, match="429") as refused:
        await provider.embed(["a"], "content")
    assert refused.value.retry_after_seconds == 60
    assert len(endpoint.requests) == 1


async def test_endpoint_that_times_out_is_given_up_within_its_time(
    provider: OpenAIProvider, endpoint: Endpoint
) -> None:
    endpoint.fault = lambda _number, _texts: 5.0
    started = time.monotonic()
    with pytest.raises(ProviderUnavailableError, match=r"no answer within 0\.5 seconds"):
        await provider.embed(["a"], "content")
    assert time.monotonic() - started < 4
    assert "no answer" in (provider.fault() or "")


async def test_endpoint_that_is_not_there_is_named_without_the_key() -> None:
    provider = OpenAIProvider("m", f"http://127.0.0.1:{free_port()}/v1", SecretStr(KEY), timeout_seconds=0.5)
    with pytest.raises(ProviderUnavailableError, match=r"http://127\.0\.0\.1:\d+/v1/embeddings failed") as refused:
        await provider.embed(["a"], "content")
    assert KEY not in str(refused.value)
    await provider.close()


def _with(row: Any, **more: Any) -> Response:
    return JSONResponse({"data": [{"index": 0, "embedding": row}, {"index": 1, "embedding": row, **more}]})


NONSENSE = {
    "no JSON": PlainTextResponse("<html>Welcome</html>"),
    "another document": JSONResponse({"models": []}),
    "a list": JSONResponse([1, 2]),
    "half of the batch": answered([[1.0]]),
    "more than the batch": answered([[1.0], [1.0], [1.0]]),
    "an index twice": _with([1.0], index=0),
    "a negative index": _with([1.0], index=-1),
    "different lengths": answered([[1.0], [1.0, 2.0]]),
    "no numbers": answered([["a"], ["b"]]),
    "truths": answered([[True], [False]]),
    "empty embeddings": answered([[], []]),
    "embeddings in embeddings": answered([[[1.0]], [[1.0]]]),
    "not a number": Response(b'{"data": [{"index": 0, "embedding": [NaN]}, {"index": 1, "embedding": [1.0]}]}'),
    "beyond 32 bits": answered([[1e300], [1.0]]),
    "a redirection": Response(None, 307, {"Location": "/elsewhere"}),
}


@pytest.mark.parametrize("answer", NONSENSE.values(), ids=NONSENSE.keys())
async def test_nonsense_is_refused_at_once(provider: OpenAIProvider, endpoint: Endpoint, answer: Response) -> None:
    endpoint.fault = lambda _number, _texts: answer
    with pytest.raises(ProviderUnavailableError):
        await provider.embed(["a", "b"], "content")
    assert len(endpoint.requests) == 1


async def test_answer_without_end_is_cut_off(
    provider: OpenAIProvider, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai_provider, "MAX_ANSWER_BYTES", 1_000)
    endpoint.fault = lambda _number, _texts: PlainTextResponse("x" * 10_000)
    with pytest.raises(ProviderUnavailableError, match="larger than 1,000 bytes"):
        await provider.embed(["a"], "content")


async def test_refused_key_is_said_to_be_that(provider: OpenAIProvider, endpoint: Endpoint) -> None:
    endpoint.fault = lambda _number, _texts: JSONResponse({"error": {"message": "bad key"}}, 401)
    with pytest.raises(ProviderUnavailableError, match=r"401 \(bad key\).*AINDUSDB_EMBEDDING_API_KEY"):
        await provider.embed(["a"], "content")


async def test_text_that_the_endpoint_refuses_is_found_in_its_batch(
    provider: OpenAIProvider, endpoint: Endpoint
) -> None:
    def refuse(_number: int, texts: list[str]) -> Response | None:
        return JSONResponse({"error": {"message": "too long"}}, 400) if "bad" in texts else None

    endpoint.fault = refuse
    with pytest.raises(TextRefusedError, match="too long") as refused:
        await provider.embed([*map(str, range(40)), "bad", *map(str, range(40, 60))], "content")
    assert refused.value.text == "bad"
    assert len(endpoint.requests) < 2 * 7


async def test_circuit_opens_after_failures_and_closes_after_a_trial(
    provider: OpenAIProvider, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()
    monkeypatch.setattr(provider._breaker, "_clock", lambda: now)
    endpoint.fault = lambda _number, _texts: PlainTextResponse("no", 503)
    for _ in range(2):
        with pytest.raises(ProviderUnavailableError):
            await provider.embed(["a"], "content")
    assert len(endpoint.requests) == openai_provider.FAILURES_UNTIL_OPEN
    with pytest.raises(ProviderUnavailableError, match="not asked for now") as refused:
        await provider.embed(["a"], "content")
    assert 0 < refused.value.retry_after_seconds <= openai_provider.OPEN_SECONDS
    assert len(endpoint.requests) == openai_provider.FAILURES_UNTIL_OPEN
    endpoint.healthy()
    now += openai_provider.OPEN_SECONDS
    assert len(await provider.embed(["a"], "content")) == 1
    assert provider.fault() is None
