from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack.running import StackUnderTest


@pytest.fixture
def stack() -> Iterator[StackUnderTest]:
    """On a folder that everybody may enter; not yet started."""
    with tempfile.TemporaryDirectory(prefix="aindusdb-stack-") as folder:
        Path(folder).chmod(0o755)
        under_test = StackUnderTest(Path(folder) / "data")
        yield under_test
        under_test.remove()


@pytest.fixture(scope="module")
def running_stack() -> Iterator[StackUnderTest]:
    """Started once for the tests of a module, on a folder that only its owner may enter."""
    with tempfile.TemporaryDirectory(prefix="aindusdb-stack-") as folder:
        under_test = StackUnderTest(Path(folder) / "data")
        under_test.up()
        yield under_test
        under_test.remove()
