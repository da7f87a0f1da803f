"""Imports of arrays and tables against the whole stack: client and command service are killed half way."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.stack.running import REPOSITORY


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["npy", "parquet"])
def test_client_and_command_service_killed_half_way_leave_each_vector_once(kind: str) -> None:
    command = [sys.executable, "-m", "benchmarks.million", "--vectors", "40000", "--dimension", "64", "--format", kind]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=280)
    figures = json.loads(done.stdout.splitlines()[-1])
    assert (figures["vectors"], figures["events"], figures["ids_wrong"]) == (40_000, 40_000, 0)
    assert 20_000 <= figures["killed_at_row"] < 40_000
