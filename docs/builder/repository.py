"""Where things lie, and which files are the repository's."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


@cache
def repository_files() -> frozenset[Path]:
    """Files that git knows or would take, absolute, links between folders left out."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return frozenset(path for line in listed.stdout.splitlines() if (path := ROOT / line).is_file())


def is_in_repository(path: Path) -> bool:
    """Whether it is a file of the repository or a folder that holds one."""
    files = repository_files()
    return path in files or any(path in file.parents for file in files)
