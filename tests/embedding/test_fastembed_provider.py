"""The provider `fastembed` on real models: a tiny one made here, and that of the shared folder where it is there."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.material import corpus, model_dir
from shared.embedding.errors import ProviderUnavailableError
from shared.embedding.fastembed_provider import FastembedProvider
from tests.embedding.tiny_model import DIMENSION, MAX_TOKENS

REAL_MODEL = "sentence-transformers/all-MiniLM-L6-v2"


def provider(path: Path | None, model: str = "tiny-model", **changes: float) -> FastembedProvider:
    wait = changes.get("load_wait_seconds", 60.0)
    return FastembedProvider(model, path, threads=int(changes.get("threads", 1)), load_wait_seconds=wait)


async def test_model_of_a_folder_gives_unit_vectors_of_its_dimension(tiny_model: Path) -> None:
    tiny = provider(tiny_model)
    assert tiny.fault() is None
    assert await tiny.dimension() == DIMENSION
    embeddings = await tiny.embed(["wing", "flutter", "wing"], "content")
    assert all(one.numbers.dtype == np.float32 and one.numbers.shape == (DIMENSION,) for one in embeddings)
    assert [float(np.linalg.norm(one.numbers)) for one in embeddings] == pytest.approx([1, 1, 1], abs=1e-6)
    assert (embeddings[0].numbers == embeddings[2].numbers).all()
    assert not (embeddings[0].numbers == embeddings[1].numbers).all()


async def test_text_that_is_longer_than_the_model_sees_is_truncated_and_said_to_be(tiny_model: Path) -> None:
    tiny = provider(tiny_model)
    texts = ["a" * MAX_TOKENS, "a" * MAX_TOKENS + "b" * 1_000, "é" * (MAX_TOKENS // 2), "é" * MAX_TOKENS, ""]
    embeddings = await tiny.embed(texts, "content")
    assert [one.truncated for one in embeddings] == [False, True, False, True, False]
    assert (embeddings[0].numbers == embeddings[1].numbers).all()


async def test_several_threads_give_the_same_as_one(tiny_model: Path) -> None:
    texts = [f"text {number}" for number in range(200)]
    one, four = provider(tiny_model), provider(tiny_model, threads=4)
    expected = await one.embed(texts, "content")
    parts = await asyncio.gather(*(four.embed(texts[start : start + 8], "content") for start in range(0, 200, 8)))
    got = [embedding for part in parts for embedding in part]
    assert all((a.numbers == b.numbers).all() for a, b in zip(expected, got, strict=True))


@pytest.mark.parametrize("gone", ["model.onnx", "tokenizer.json", "tokenizer_config.json"])
async def test_folder_that_lacks_a_file_is_refused_with_its_name(tiny_model: Path, tmp_path: Path, gone: str) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "m")
    (folder / gone).unlink()
    lacking = provider(folder, f"lacks-{gone}")
    with pytest.raises(ProviderUnavailableError, match=f"AINDUSDB_EMBEDDING_PATH names, lacks .*{gone}") as refused:
        await lacking.embed(["a"], "content")
    assert lacking.fault() == str(refused.value)


async def test_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProviderUnavailableError, match="no folder that can be read"):
        await provider(tmp_path / "nowhere").dimension()


async def test_damaged_model_is_refused_and_not_tried_again_at_once(tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "damaged")
    (folder / "model.onnx").write_bytes(b"no model")
    damaged = provider(folder, "damaged")
    with pytest.raises(ProviderUnavailableError, match="cannot be loaded"):
        await damaged.embed(["a"], "content")
    shutil.copy(tiny_model / "model.onnx", folder)
    with pytest.raises(ProviderUnavailableError, match="cannot be loaded") as refused:
        await damaged.embed(["a"], "content")
    assert 0 < refused.value.retry_after_seconds <= 30
    damaged._failed_at = float("-inf")
    assert len(await damaged.embed(["a"], "content")) == 1
    assert damaged.fault() is None


async def test_model_that_nobody_knows_is_refused_with_what_to_do() -> None:
    with pytest.raises(ProviderUnavailableError, match=r"has no model 'nobody/knows'.*AINDUSDB_EMBEDDING_PATH"):
        await provider(None, "nobody/knows").embed(["a"], "content")


async def test_dimension_of_a_known_model_is_told_without_loading_it() -> None:
    known = provider(None, REAL_MODEL)
    assert await known.dimension() == 384
    assert known._loaded is None
    assert known._loading is None


ASK = """
import asyncio, sys
from shared.embedding.fastembed_provider import FastembedProvider
from shared.embedding.errors import ProviderUnavailableError
async def main():
    provider = FastembedProvider(sys.argv[1], None, threads=1, load_wait_seconds=float(sys.argv[2]))
    try:
        await provider.embed(["a"], "content")
    except ProviderUnavailableError as refused:
        print(refused)
asyncio.run(main())
"""


def asked(hub: str, cache: Path, *, wait: float = 60.0) -> tuple[str, float]:
    """What a process of its own says that needs a model from the hub, and after how many seconds it has ended."""
    started = time.monotonic()
    environment = {**os.environ, "HF_ENDPOINT": hub, "FASTEMBED_CACHE_PATH": str(cache), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", ASK, REAL_MODEL, str(wait)], env=environment, capture_output=True, text=True,
        timeout=60, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()[-1], time.monotonic() - started


def test_hub_that_is_away_is_said_to_be_with_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        said, seconds = asked(f"http://127.0.0.1:{taken.getsockname()[1]}", tmp_path)
    assert "is not on this machine, and the hub that it comes from cannot be reached" in said
    assert "name that by AINDUSDB_EMBEDDING_PATH" in said
    assert seconds < 20


def test_hub_that_keeps_silent_is_given_up_soon(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        said, seconds = asked(f"http://127.0.0.1:{silent.getsockname()[1]}", tmp_path)
    assert "cannot be reached" in said
    assert seconds < 25


def test_caller_does_not_wait_for_a_slow_hub_and_the_process_ends_without_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        said, seconds = asked(f"http://127.0.0.1:{silent.getsockname()[1]}", tmp_path, wait=0.1)
    assert "is still being loaded" in said
    assert seconds < 10


@pytest.mark.skipif(not (model_dir() / "model.onnx").is_file(), reason="the real model is not in AINDUSDB_SHARED_DIR")
class TestRealModel:
    async def test_near_texts_are_near_and_long_ones_truncated(self) -> None:
        real = provider(model_dir(), REAL_MODEL)
        assert await real.dimension() == 384
        wing, flutter, bread = await real.embed(
            ["an experiment with a wing in a slipstream", "flutter of thin wings", "how to bake bread"], "content"
        )
        assert float(wing.numbers @ flutter.numbers) > float(wing.numbers @ bread.numbers) + 0.2
        long = max((document.text for document in corpus()), key=len)
        assert [one.truncated for one in await real.embed([long, "short"], "content")] == [True, False]

    async def test_a_text_gets_the_same_embedding_in_whatever_company(self) -> None:
        real = provider(model_dir(), REAL_MODEL)
        texts = [document.text for document in corpus()[:6]]
        together = await real.embed(texts, "content")
        alone = [(await real.embed([text], "content"))[0] for text in reversed(texts)][::-1]
        assert all((a.numbers == b.numbers).all() for a, b in zip(together, alone, strict=True))
