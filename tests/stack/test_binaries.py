"""The embedded binaries, where PostgreSQL's user cannot reach the environment that they were installed into."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from aindusdb.local_stack import postgres
from aindusdb.local_stack.postgres import find_binaries
from aindusdb.local_stack.users import postgres_user, succeeds_as


@pytest.fixture
def reachable_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="aindusdb-binaries-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another user")
def test_unreachable_binaries_are_copied_once(reachable_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = postgres_user()
    assert user is not None
    cache = reachable_folder / "cache"

    def reaches(asked: object, command: Path, *arguments: str) -> bool:
        assert asked == user
        return command.is_relative_to(cache) and succeeds_as(user, command, *arguments)

    monkeypatch.setattr(postgres, "BINARY_CACHE", cache)
    monkeypatch.setattr(postgres, "succeeds_as", reaches)
    binaries = find_binaries(user)
    assert binaries.is_relative_to(cache)
    assert succeeds_as(user, binaries / "postgres", "--version")
    copied_at = binaries.stat().st_ctime_ns
    assert find_binaries(user) == binaries
    assert binaries.stat().st_ctime_ns == copied_at
