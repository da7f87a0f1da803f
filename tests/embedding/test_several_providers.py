"""Several models in one process: which settings give them, and which of them a collection's texts go to."""

from __future__ import annotations

import json
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from events_schema.embedding import EmbeddingSpec
from shared.embedding.composition import create_embedder
from shared.embedding.errors import ModelMismatchError, NoProviderError
from shared.embedding.settings import EmbeddingSettings
from tests.embedding.endpoint import DIMENSION, Endpoint, numbers_of


def settings(others: Any, **given: Any) -> EmbeddingSettings:
    text = others if isinstance(others, str) else json.dumps(others)
    return EmbeddingSettings.model_validate({"embedding_others": text, **given})


def at(endpoint: Endpoint, model: str, key: str = "") -> dict[str, str]:
    return {"provider": "openai", "model": model, "url": endpoint.url, "api_key": key}


def as_first(endpoint: Endpoint, model: str) -> dict[str, str]:
    return {f"embedding_{name}": value for name, value in at(endpoint, model).items()}


async def test_each_text_goes_to_the_model_of_its_collection(endpoint: Endpoint) -> None:
    wanted = settings([at(endpoint, "new", "k-new")], **as_first(endpoint, "old"))
    embedder = create_embedder(wanted, CollectorRegistry(), [])
    assert embedder.model == "old"
    assert embedder.models == ("old", "new")
    assert await embedder.spec() == EmbeddingSpec(provider="openai", model="old", dimension=DIMENSION)
    new = await embedder.spec("new")
    assert new == EmbeddingSpec(provider="openai", model="new", dimension=DIMENSION)
    [embedded] = await embedder.embed("t", ["wing"], new, "content")
    assert embedded.numbers.tolist() == numbers_of("wing")
    assert (endpoint.models[-1], endpoint.keys[-1]) == ("new", "Bearer k-new")
    foreign = EmbeddingSpec(provider="fastembed", model="new", dimension=DIMENSION)
    with pytest.raises(ModelMismatchError, match=r"'old' \(openai\) or 'new' \(openai\)"):
        embedder.check(foreign)
    with pytest.raises(NoProviderError, match="'other'"):
        await embedder.spec("other")
    await embedder.close()


async def test_fault_names_the_model_that_it_is_of(endpoint: Endpoint) -> None:
    away = {"provider": "openai", "model": "away", "url": "http://127.0.0.1:1/v1"}
    embedder = create_embedder(
        settings([away], **as_first(endpoint, "here"), embedding_timeout_seconds=1), CollectorRegistry(), []
    )
    assert await embedder.fault() is None
    with pytest.raises(Exception, match="failed"):
        await embedder.spec("away")
    fault = await embedder.fault()
    assert fault is not None
    assert fault.startswith("away: the embedding endpoint at http://127.0.0.1:1/v1")
    assert "here:" not in fault
    await embedder.close()


async def test_others_serve_their_collections_where_new_ones_take_no_texts(endpoint: Endpoint) -> None:
    wanted = settings([at(endpoint, "kept")], embedding_provider="none")
    embedder = create_embedder(wanted, CollectorRegistry(), [])
    assert embedder.model is None
    assert await embedder.fault() is None
    with pytest.raises(NoProviderError, match="AINDUSDB_EMBEDDING_PROVIDER is none"):
        await embedder.spec()
    assert len(await embedder.embed("t", ["wing"], await embedder.spec("kept"), "content")) == 1
    await embedder.close()


@pytest.mark.parametrize(
    ("others", "says"),
    [
        ("[{", "is not JSON"),
        ('{"provider": "fastembed"}', "is not a JSON list"),
        ([{"provider": "openai", "model": "m", "url": "x"}], "entry 1, url: must begin with http://"),
        ([{"provider": "openai", "url": "http://x"}], "entry 1, model: is not set"),
        ([{"provider": "fastembed", "model": "m"}, {"provider": "magic"}], "entry 2, provider: Input should be"),
        ([{"provider": "fastembed", "model": "m", "key": "hidden"}], "entry 1, key: Extra inputs"),
        ([3], "entry 1: Input should be"),
        ([{"provider": "fastembed", "model": "first"}], "entry 1: the model 'first' is given twice"),
        ([{"provider": "fastembed", "model": "m"}, {"provider": "openai", "model": "m", "url": "http://x"}],
         "entry 2: the model 'm' is given twice"),
        ([{"provider": "fastembed", "model": str(one)} for one in range(17)], "has at most 16 entries, not 17"),
    ],
)  # fmt: skip
def test_wrong_others_are_refused_by_a_sentence_that_says_where(others: Any, says: str) -> None:
    with pytest.raises(ValidationError) as refused:
        settings(others, embedding_model="first")
    [error] = refused.value.errors(include_input=False)
    assert error["loc"] == ("embedding_others",)
    assert says in error["msg"]
    assert "hidden" not in error["msg"]
