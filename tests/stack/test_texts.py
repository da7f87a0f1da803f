"""Texts through the whole product: imported twice, searched, and no second computation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from aindusdb.local_stack.ports import HOST
from tests.embedding.tiny_model import DIMENSION, write_tiny_model
from tests.stack.running import REPOSITORY, StackUnderTest

TEXTS = [f"the text with the number {number}" for number in range(500)]


@pytest.fixture
def product(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StackUnderTest]:
    monkeypatch.setenv("AINDUSDB_EMBEDDING_PATH", str(write_tiny_model(tmp_path / "tiny")))
    under_test = StackUnderTest(tmp_path / "data", module="aindusdb")
    under_test.up()
    yield under_test
    under_test.remove()


def test_texts_are_imported_once_and_found(product: StackUnderTest, tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    file.write_text("".join(json.dumps({"id": f"t-{at}", "content": text}) + "\n" for at, text in enumerate(TEXTS)))
    first = run(product, "import", str(file), "--collection", "texts", "--create", "--json")
    assert (first["created"], first["skipped"]) == (len(TEXTS), 0)
    computed, head = counted(product, "computed"), product.status()["log"]["head_position"]
    assert computed >= len(TEXTS)

    second = run(product, "import", str(file), "--collection", "texts", "--restart", "--json")
    assert (second["created"], second["updated"], second["unchanged"]) == (0, 0, len(TEXTS))
    assert counted(product, "computed") == computed
    assert product.status()["log"]["head_position"] == head

    shown = run(product, "collections", "show", "texts", "--json")
    assert (shown["dimension"], shown["model"], shown["provider"]) == (DIMENSION, "tiny", "fastembed")
    wanted = ("search", "--collection", "texts", "--query", TEXTS[111], "-k", "1", "--json")
    found = run(product, *wanted, "--token", second["consistency_token"])
    assert [hit["content"] for hit in found["hits"]] == [TEXTS[111]]


def run(product: StackUnderTest, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "aindusdb", *arguments, "--url", f"http://{HOST}:{product.port}"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def counted(product: StackUnderTest, source: str) -> float:
    start = f'aindusdb_embedding_texts_total{{source="{source}"}} '
    lines = httpx.get(f"http://{HOST}:{product.port + 1}/metrics", trust_env=False).text.splitlines()
    return next(float(line.removeprefix(start)) for line in lines if line.startswith(start))
