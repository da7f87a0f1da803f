"""Wrong settings end a process with sentences that name the variable and keep the secret."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROCESSES = ("command_service", "command_service.relay", "projector", "query_service")


def started(module: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AINDUSDB_")}
    return subprocess.run(
        [sys.executable, "-m", module], env={**inherited, **environment}, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip


@pytest.mark.parametrize("module", PROCESSES)
def test_missing_and_wrong_settings_are_named(module: str) -> None:
    ended = started(module, AINDUSDB_PORT="many", AINDUSDB_POOL_MAX_SIZE="0")
    assert ended.returncode == 1
    assert "_DSN: is not set" in ended.stderr
    assert "AINDUSDB_PORT: Input should be a valid integer" in ended.stderr
    assert "AINDUSDB_POOL_MAX_SIZE: Input should be greater than or equal to 1" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_secret_values_are_not_shown() -> None:
    ended = started(
        "command_service",
        AINDUSDB_EVENTS_DSN="postgresql://user:hidden@127.0.0.1/x",
        AINDUSDB_SIGNING_KEYS="hidden",
        AINDUSDB_PORT="0",
    )
    assert ended.returncode == 1
    assert "hidden" not in ended.stderr + ended.stdout
