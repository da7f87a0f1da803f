"""The TypeScript client is installed from its lock, made from the OpenAPI document, compiled, and used."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack.running import REPOSITORY, StackUnderTest

PACKAGE = REPOSITORY / "clients/typescript"
NEEDED = ("node", "npm")


@pytest.fixture
def stack() -> Iterator[StackUnderTest]:
    with tempfile.TemporaryDirectory(prefix="aindusdb-typescript-") as folder:
        under_test = StackUnderTest(Path(folder) / "data", module="aindusdb")
        under_test.up()
        yield under_test
        under_test.remove()


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.skipif(not all(map(shutil.which, NEEDED)), reason="Node and npm are not installed")
def test_the_typescript_client_compiles_and_its_example_runs(stack: StackUnderTest, tmp_path: Path) -> None:
    # Beside a copy of the document that it is made from, so that nothing is written into the repository.
    package = tmp_path / "clients/typescript"
    ignored = shutil.ignore_patterns("node_modules", "dist", "schema.ts")
    shutil.copytree(PACKAGE, package, ignore=ignored)
    shutil.copytree(REPOSITORY / "docs/openapi", tmp_path / "docs/openapi")

    def npm(*arguments: str) -> str:
        environment = {**os.environ, "AINDUSDB_URL": f"http://127.0.0.1:{stack.port}"}
        done = subprocess.run(
            ["npm", *arguments], cwd=package, env=environment, capture_output=True, text=True, check=False, timeout=240
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    npm("ci")
    npm("run", "build")
    said = json.loads(npm("run", "--silent", "example").splitlines()[-1])
    assert said == {
        "hit": "a-1",
        "content": "Wing flutter",
        "bit_for_bit": True,
        "deleted": 1,
        "left": ["a-1"],
        "problem": "/problems/vector-not-found",
    }


def test_the_typescript_lock_pins_by_hash_and_names_no_address() -> None:
    lock = json.loads((PACKAGE / "package-lock.json").read_text())
    packages = {name: one for name, one in lock["packages"].items() if name}
    assert packages
    for name, one in packages.items():
        assert "resolved" not in one, name
        assert one["integrity"].startswith("sha512-"), name
    manifest = json.loads((PACKAGE / "package.json").read_text())
    versions = [*manifest["dependencies"].values(), *manifest["devDependencies"].values()]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions)
