"""A child's log file, bounded in size without the child's help."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class LogFile:
    path: Path
    max_bytes: int = 10 * 1024 * 1024
    kept_files: int = 2

    def open_for_child(self) -> int:
        """A descriptor to write to. The caller closes its own copy once the child has one."""
        self.rotate()
        return os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def rotate(self) -> None:
        """Copies and truncates, as the writer keeps its descriptor; in append mode it goes on at the start."""
        try:
            if self.path.stat().st_size < self.max_bytes:
                return
        except FileNotFoundError:
            return
        for number in range(self.kept_files, 1, -1):
            older = self._numbered(number - 1)
            if older.exists():
                older.replace(self._numbered(number))
        shutil.copyfile(self.path, self._numbered(1))
        os.truncate(self.path, 0)

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")

    def last_lines(self, count: int = 8) -> str:
        try:
            with self.path.open("rb") as file:
                file.seek(max(self.path.stat().st_size - 8192, 0))
                lines = file.read().decode(errors="replace").splitlines()
        except FileNotFoundError:
            return ""
        return "\n".join(lines[-count:])
