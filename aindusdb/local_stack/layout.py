"""The data folder: where everything lies, which version wrote it, and who holds it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from aindusdb.local_stack.errors import (
    AlreadyRunningError,
    DiskFullError,
    FolderUnusableError,
    ForeignFolderError,
    LayoutMismatchError,
    PostgresVersionMismatchError,
)
from aindusdb.local_stack.state import read_state
from aindusdb.local_stack.users import UnixUser, can_enter

LAYOUT_VERSION = 1
POSTGRES_MAJOR = 18
NEEDED_MEGABYTES = 500
REACHABLE_ROOT = Path("/var/lib/aindusdb")
"""Where root's stack keeps PostgreSQL's data when PostgreSQL's own user cannot reach the data folder."""


@dataclass(frozen=True, slots=True)
class DataFolder:
    """Paths inside one data folder. Nothing is created by naming them."""

    root: Path

    @property
    def layout_file(self) -> Path:
        return self.root / "layout.json"

    @property
    def lock_file(self) -> Path:
        return self.root / "lock"

    @property
    def state_file(self) -> Path:
        return self.root / "state.json"

    @property
    def secrets_file(self) -> Path:
        return self.root / "secrets.json"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def redis(self) -> Path:
        return self.root / "redis"

    @property
    def kafka(self) -> Path:
        return self.root / "kafka"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def supervisor_log(self) -> Path:
        return self.logs / "supervisor.log"

    def check(self) -> None:
        """Refuses a folder that is not ours or not of this version. Reads only; a missing or empty one is fine."""
        try:
            if self.layout_file.exists():
                self._check_layout()
            elif self.root.is_dir() and any(entry.name not in ("lock", "logs") for entry in self.root.iterdir()):
                raise ForeignFolderError(self.root)
            elif self.root.exists() and not self.root.is_dir():
                raise FolderUnusableError(self.root, "it is a file")
        except OSError as error:
            raise FolderUnusableError(self.root, error.strerror or str(error)) from error

    def _check_layout(self) -> None:
        layout = self._read_layout()
        if layout.get("layout") != LAYOUT_VERSION:
            raise LayoutMismatchError(self.root, LAYOUT_VERSION, layout.get("layout", "unknown"))
        if "postgres_data" in layout:
            with suppress(FileNotFoundError):
                version = Path(str(layout["postgres_data"]), "PG_VERSION").read_text().strip()
                if version != str(POSTGRES_MAJOR):
                    raise PostgresVersionMismatchError(self.root, POSTGRES_MAJOR, version)

    def _read_layout(self) -> dict[str, object]:
        try:
            layout = json.loads(self.layout_file.read_text())
        except ValueError as error:
            raise LayoutMismatchError(self.root, LAYOUT_VERSION, "unknown (layout.json is damaged)") from error
        return layout if isinstance(layout, dict) else {}

    def create(self) -> None:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self.logs.mkdir(exist_ok=True)
            if not self.layout_file.exists():
                self._write_layout({"layout": LAYOUT_VERSION})
        except OSError as error:
            raise FolderUnusableError(self.root, error.strerror or str(error)) from error

    def postgres_data(self, user: UnixUser | None) -> Path:
        """Where PostgreSQL's data lies, decided at the first start and kept in layout.json.

        `user` is whom PostgreSQL runs as when that is not us.
        """
        layout = self._read_layout()
        if "postgres_data" in layout:
            return Path(str(layout["postgres_data"]))
        data = self.root / "postgres"
        if user is not None and not can_enter(self.root, user):
            data = _unused_reachable_folder(self.root) / "postgres"
        self._write_layout({**layout, "postgres_data": str(data)})
        return data

    def _write_layout(self, layout: dict[str, object]) -> None:
        written = self.layout_file.with_suffix(".new")
        written.write_text(json.dumps(layout) + "\n")
        written.replace(self.layout_file)


def _unused_reachable_folder(root: Path) -> Path:
    """Named by the data folder's path. One that is there belongs to a folder since removed and is left alone."""
    name = hashlib.sha256(str(root).encode()).hexdigest()[:16]
    attempt = 1
    while (folder := REACHABLE_ROOT / (name if attempt == 1 else f"{name}-{attempt}")).exists():
        attempt += 1
    return folder


def check_room(folder: Path) -> None:
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free_megabytes = shutil.disk_usage(existing).free // 1_000_000
    if free_megabytes < NEEDED_MEGABYTES:
        raise DiskFullError(folder, free_megabytes, NEEDED_MEGABYTES)


class FolderLock:
    """Held for as long as a stack runs on a data folder. The kernel releases it when the holder dies."""

    def __init__(self, folder: DataFolder) -> None:
        self._folder = folder
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        """Raises:
        AlreadyRunningError: another process holds the folder.
        """
        try:
            descriptor = os.open(self._folder.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise FolderUnusableError(self._folder.root, error.strerror or str(error)) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            state = read_state(self._folder.state_file)
            raise AlreadyRunningError(
                self._folder.root, state.url if state else None, state.supervisor.pid if state else None
            ) from error
        self._descriptor = descriptor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def is_held(folder: DataFolder) -> bool:
    """Whether a stack runs on the folder right now."""
    try:
        with FolderLock(folder):
            return False
    except AlreadyRunningError:
        return True
