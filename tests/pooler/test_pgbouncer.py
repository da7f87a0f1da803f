"""Where the pooler of these tests comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pooler import pgbouncer


def test_what_to_install_is_said_where_no_pgbouncer_can_be_had(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(pgbouncer, "_SYSTEM_FOLDERS", ())
    with pytest.raises(pgbouncer.PgBouncerNotAvailableError, match="apt install pgbouncer"):
        pgbouncer.obtain_pgbouncer(None)
