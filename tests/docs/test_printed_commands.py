"""What a page prints in a `bash` block runs as it stands there, on a real stack, and answers what the page shows.

Only the port is another one, and `.venv` in the current folder leads to the environment of this test.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.builder.api_reference import operations, tags
from docs.builder.repository import DOCS, ROOT, repository_files
from tests.docs.printed_commands import Step, differences, is_refusal, steps_of
from tests.stack.running import StackUnderTest

_SHELL_TIMEOUT_SECONDS = 60
_SHOWN_ADDRESS = "127.0.0.1:8000"

_OF_THE_STATE = {
    f"/problems/{name}"
    for name in (
        "alias-not-found",
        "collection-aliased",
        "collection-exists",
        "collection-not-found",
        "vector-exists",
        "vector-not-found",
        "model-mismatch",
    )
}
"""How an example may be refused for what is there, or not there; everything else would be its own fault."""

PAGES = sorted(
    page
    for page in repository_files()
    if page.suffix == ".md" and (page == ROOT / "README.md" or page.is_relative_to(DOCS)) and steps_of(page.read_text())
)


@pytest.fixture(scope="module")
def stack() -> Iterator[StackUnderTest]:
    with tempfile.TemporaryDirectory(prefix="aindusdb-docs-") as folder:
        Path(folder, ".venv").symlink_to(sys.prefix)
        under_test = StackUnderTest(Path(folder, ".aindusdb"), module="aindusdb")
        under_test.up()
        yield under_test
        under_test.remove()


# Backwards, so that a page that needs another one, read earlier, is found.
@pytest.mark.parametrize("page", PAGES[::-1], ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_run_and_answer_as_printed(page: Path, stack: StackUnderTest) -> None:
    steps = steps_of(page.read_text())
    for step, printed in zip(steps, printed_by(steps, stack), strict=True):
        assert differences(step, printed) == [], step.command


def test_the_example_of_every_operation_is_understood(stack: StackUnderTest) -> None:
    commands = re.findall(r"```sh\n(.*?)```", "".join(map(operations, tags())), re.DOTALL)
    assert commands
    for command in commands:
        # A feed has no end.
        bounded = command.replace("curl -sN", "timeout 2 curl -sN").rstrip("\n") + " || [ $? = 124 ]\n"
        [printed] = printed_by([Step(bounded)], stack)
        assert not is_refusal(printed) or json.loads(printed)["type"] in _OF_THE_STATE, command + printed


def printed_by(steps: list[Step], stack: StackUnderTest) -> list[str]:
    """What each step printed; one shell runs them all, so that later ones know the variables of earlier ones."""
    folder = stack.data_dir.parent
    outputs = [folder / f"output-{number}" for number in range(len(steps))]
    script = "\n".join(
        [
            "set -euo pipefail",
            *(f"{{\n{step.command}}} > {output}" for step, output in zip(steps, outputs, strict=True)),
        ]
    )
    done = subprocess.run(
        ["bash", "-c", script.replace(_SHOWN_ADDRESS, f"127.0.0.1:{stack.port}")],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.startswith("AINDUSDB_")},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=_SHELL_TIMEOUT_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return [output.read_text() for output in outputs]


def test_readme_and_quickstart_are_among_the_pages() -> None:
    assert {ROOT / "README.md", DOCS / "quickstart.md"} <= set(PAGES)


@pytest.mark.parametrize(
    ("shown", "printed", "found"),
    [
        ('{"a": 1, "b": "AdIq…"}', '{"a": 2.5, "b": "x"}', 0),
        ('{"a": [{"b": null}]}', '{"a": [{"b": null}]}', 0),
        ('{"a": 1}', '{"a": 1, "b": 2}', 1),
        ('{"a": 1, "b": 2}', '{"a": 1}', 1),
        ('{"a": 1}', '{"a": "1"}', 1),
        ('{"a": 1}', '{"a": true}', 1),
        ('{"a": null}', '{"a": 1}', 1),
        ('{"a": [1]}', '{"a": [1, 2]}', 1),
        ('{"a": [{"b": 1}]}', '{"a": [{"c": 1}]}', 2),
        ('{"type": "/problems/validation"}', '{"type": "/problems/timeout"}', 1),
        ('{"a": 1}', "curl: no", 1),
    ],
)
def test_an_answer_of_another_shape_is_found(shown: str, printed: str, found: int) -> None:
    assert len(differences(Step("curl", shown, answers_json=True), printed)) == found


def test_a_refusal_that_the_page_does_not_show_is_found() -> None:
    assert differences(Step("curl"), '{"type": "/problems/validation"}')
    assert not differences(Step("curl"), '{"type": "vector"}')
    assert differences(Step("curl", "201\n201\n"), "201\n409\n")
    assert not differences(Step("curl", "201\n201\n"), "201\n201\n")
