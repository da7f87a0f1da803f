"""Commands against the whole stack; an import that is killed and started again leaves nothing missing or twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from aindusdb.client import Client
from tests.stack.running import REPOSITORY, StackUnderTest

LINES = 4_000
DIMENSION = 32


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackUnderTest]:
    under_test = StackUnderTest(tmp_path_factory.mktemp("stack") / "data", module="aindusdb")
    under_test.up()
    yield under_test
    under_test.remove()


def test_a_killed_import_is_completed_by_the_same_command(stack: StackUnderTest, tmp_path: Path) -> None:
    vectors = np.random.default_rng(4).standard_normal((LINES, DIMENSION)).round(4)
    file = tmp_path / "vectors.jsonl"
    file.write_text("".join(json.dumps({"embedding": vector.tolist()}) + "\n" for vector in vectors))
    url = f"http://127.0.0.1:{stack.port}"
    options = ["--collection", "a", "--create", "--dimension", str(DIMENSION), "--batch-size", "50", "--json"]
    command = [sys.executable, "-m", "aindusdb", "import", str(file), *options, "--url", url]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}

    first = subprocess.Popen(command, env=environment)
    progress_file = tmp_path / "vectors.jsonl.a.aindusdb-progress"
    while not progress_file.exists() or json.loads(progress_file.read_text())["line"] < LINES // 10:
        assert first.poll() is None, "it ended before it could be killed"
        time.sleep(0.005)
    first.send_signal(signal.SIGKILL)
    first.wait()

    second = subprocess.run(command, env=environment, capture_output=True, check=True, timeout=100)
    report = json.loads(second.stdout)
    assert report["created"] + report["unchanged"] == LINES
    with Client(url) as client:
        listed = [one.id for one in client.vectors("a", token=report["consistency_token"], timeout_ms=30_000)]
    assert len(listed) == len(set(listed)) == LINES


def test_a_collection_is_described_anew(stack: StackUnderTest) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "AINDUSDB_URL": f"http://127.0.0.1:{stack.port}"}
        command = [sys.executable, "-m", "aindusdb", "collections", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)

    run("create", "described", "--dimension", "3", "--description", "first")
    assert json.loads(run("update", "described", "--description", "second", "--json").stdout)["description"] == "second"
    assert "second" in run("update", "described", "--description", "second").stdout
    assert json.loads(run("update", "described", "--no-description", "--json").stdout)["version"] == 3
    assert run("update", "described").returncode == 2
    assert run("update", "described", "--metadata-index", "price").returncode == 2
    indexed = json.loads(run("update", "described", "--metadata-index", "price:number", "--json").stdout)
    assert (indexed["metadata_indexes"][0]["field"], indexed["version"]) == ("price", 4)
    assert "price: number" in run("show", "described").stdout
    assert json.loads(run("update", "described", "--no-metadata-indexes", "--json").stdout)["metadata_indexes"] == []
    assert run("update", "absent", "--no-description").stderr == "there is no collection 'absent'\n"


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["npy", "parquet"])
def test_client_and_command_service_killed_half_way_leave_each_vector_once(kind: str) -> None:
    command = [sys.executable, "-m", "benchmarks.million", "--vectors", "40000", "--dimension", "64", "--format", kind]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=280)
    figures = json.loads(done.stdout.splitlines()[-1])
    assert (figures["vectors"], figures["events"], figures["ids_wrong"]) == (40_000, 40_000, 0)
    assert 20_000 <= figures["killed_at_row"] < 40_000
