"""The repository keeps its own promises."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from shared.http.problems import PROBLEMS

ROOT = Path(__file__).parents[2]


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def test_every_problem_has_its_page() -> None:
    assert {page.stem for page in (ROOT / "docs/problems").glob("*.md")} == {*PROBLEMS, "README"}
    listed = (ROOT / "docs/problems/README.md").read_text()
    for name, (status, title) in PROBLEMS.items():
        assert f"| {status} | [{name}]({name}.md) | {title} |" in listed


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock", "requirements-uv.lock"])
def test_lock_file_pins_by_hash_and_names_no_host(lock: str) -> None:
    text = (ROOT / lock).read_text()
    pins = re.split(r"\n(?=[a-z0-9])", text)
    assert pins
    assert all("==" in pin and "--hash=sha256:" in pin for pin in pins)
    assert "://" not in text


FORBIDDEN = ("pypi%org", "pythonhosted%", "registry%npm", "repo%maven", "/home%/", "/work%main")
"""Each with a percent sign in one place, so that this list does not find itself."""


def test_no_file_names_a_registry_or_an_absolute_path_of_a_developer() -> None:
    forbidden = re.compile("|".join(text.replace("%", "[./]") for text in FORBIDDEN))
    found = [str(path.relative_to(ROOT)) for path in tracked() if forbidden.search(path.read_text(errors="ignore"))]
    assert found == []


@pytest.mark.parametrize(
    "package", ["aindusdb.cli", "command_service.app", "events_schema.registry", "projector", "query_service.app"]
)
def test_importing_opens_nothing_and_starts_nothing(package: str) -> None:
    program = f"""
import socket, threading
def refuse(*_arguments, **_options): raise AssertionError("a socket was opened")
socket.socket.connect = refuse
import {package}
assert threading.active_count() == 1, threading.enumerate()
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd="/", timeout=60)


def test_shared_is_ours_also_where_another_lies_in_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "__init__.py").write_text("raise AssertionError('the wrong package')")
    found = subprocess.run(
        [sys.executable, "-c", "import shared; print(shared.__file__)"],
        cwd=tmp_path, env={"PYTHONSAFEPATH": "1"}, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert Path(found.stdout.strip()) == ROOT / "shared" / "__init__.py"
