"""Whom a server runs as. PostgreSQL refuses root, so root's stack gives it an unprivileged user."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from aindusdb.local_stack.errors import NoUnprivilegedUserError


@dataclass(frozen=True, slots=True)
class UnixUser:
    uid: int
    gid: int


def postgres_user(data: Path | None = None) -> UnixUser | None:
    """None when the current user may run PostgreSQL itself; for root the owner of `data`, else a system user."""
    if os.geteuid() != 0:
        return None
    if data is not None:
        with suppress(FileNotFoundError):
            owner = data.stat()
            if owner.st_uid != 0:
                return UnixUser(owner.st_uid, owner.st_gid)
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return UnixUser(entry.pw_uid, entry.pw_gid)
    raise NoUnprivilegedUserError


def own_home(environment: Mapping[str, str]) -> str | None:
    """The home that HOME should name when it names one that this user may not enter, as after `runuser` or `su`.

    The database driver looks for certificates there, and takes a folder that it may not enter for a failed connection.
    """
    home = environment.get("HOME")
    if home is None or os.access(home, os.X_OK):
        return None
    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        return "/"


def succeeds_as(user: UnixUser, *command: str | Path) -> bool:
    """Asked of the kernel, by doing it: permission bits alone do not know of ACLs and mount options."""
    try:
        done = subprocess.run(
            command,
            user=user.uid,
            group=user.gid,
            extra_groups=[],
            capture_output=True,
            timeout=30,
            cwd="/",
            check=False,
        )
    except OSError:
        return False
    return done.returncode == 0


def can_enter(folder: Path, user: UnixUser) -> bool:
    return succeeds_as(user, "/bin/sh", "-c", 'cd "$1"', "sh", folder)
