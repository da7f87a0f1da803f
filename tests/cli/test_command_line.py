"""What the command line does of itself, whatever the command."""

from __future__ import annotations

import builtins
from importlib.metadata import version
from typing import Any

import pytest
from typer.testing import CliRunner

from aindusdb.__main__ import main
from aindusdb.cli import build_app


def test_ctrl_c_before_anything_runs_ends_it_without_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    find = builtins.__import__

    def interrupted(name: str, *arguments: Any) -> Any:
        if name == "aindusdb.cli":
            raise KeyboardInterrupt
        return find(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", interrupted)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130


def test_it_says_which_version_it_is() -> None:
    assert CliRunner().invoke(build_app(), ["--version"]).stdout == f"AindusDB Core {version('aindusdb-core')}\n"
