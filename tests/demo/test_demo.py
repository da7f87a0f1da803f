"""The demonstration is the end-to-end test: text in through Kafka, answers out of a replica."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from benchmarks.material import REPOSITORY, model_dir, shared_dir


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.skipif(
    not model_dir().is_dir() or not (shared_dir() / "data" / "cranfield").is_dir(),
    reason="AINDUSDB_SHARED_DIR has no model and no Cranfield collection",
)
def test_the_demonstration_meets_its_targets() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.demo", "--check"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=880,
    )
    assert done.returncode == 0, done.stderr[-4000:] + done.stdout[-2000:]
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["ndcg_at_10"] >= 0.49
    assert figures["overlap_at_10"] >= 0.98
    assert (figures["index_used"], figures["replica"], figures["transport"]) == (True, True, "kafka")
    assert (figures["documents"], figures["missing"], figures["duplicated"]) == (1_400, 0, 0)
