"""A disk that is soon full, for what the read database makes from now on: a tablespace in memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from aindusdb.local_stack import databases
from aindusdb.local_stack.users import postgres_user
from tests.servers import Databases, connected


class NoMountError(Exception):
    """A file system of a size of its own cannot be mounted here; that takes root, and the server on this machine."""


@dataclass(frozen=True, slots=True)
class SmallDisk:
    folder: Path
    tablespace: str

    def used_bytes(self) -> int:
        return shutil.disk_usage(self.folder).used

    def resize(self, kilobytes: int) -> None:
        _mount("-o", f"remount,size={kilobytes}k", str(self.folder))

    async def take(self, of: Databases) -> None:
        """New tables of the read database come to lie here."""
        async with connected(of.read_admin_dsn) as admin:
            name = await admin.fetchval("SELECT current_database()")
            role = databases.PROJECTOR
            await databases.execute_quoted(admin, "GRANT CREATE ON TABLESPACE %I TO %I", self.tablespace, role)
            await databases.execute_quoted(
                admin, "ALTER ROLE %I IN DATABASE %I SET default_tablespace = %L", role, name, self.tablespace
            )


@asynccontextmanager
async def mounted(admin_dsn: str) -> AsyncIterator[SmallDisk]:
    """To be entered before the databases are made that take it, so that they are dropped before it goes.

    Raises:
        NoMountError
    """
    if os.geteuid() != 0 or os.environ.get("AINDUSDB_TEST_READ_DSN"):
        raise NoMountError("a small disk takes root and a server on this machine")
    folder = Path(tempfile.mkdtemp(prefix="aindusdb-test-disk-"))
    try:
        with small_folder(folder, 1024):
            disk = SmallDisk(folder, f"small_{uuid4().hex[:8]}")
            async with connected(admin_dsn) as admin:
                await databases.execute_quoted(
                    admin, "CREATE TABLESPACE %I LOCATION %L", disk.tablespace, str(disk.folder)
                )
                yield disk
                await databases.execute_quoted(admin, "DROP TABLESPACE %I", disk.tablespace)
    finally:
        folder.rmdir()


@contextmanager
def small_folder(folder: Path, kilobytes: int) -> Iterator[None]:
    """What is written to this folder of the server's, which is there, is at most so much in all.

    Raises:
        NoMountError
    """
    owner = postgres_user()
    if os.geteuid() != 0 or owner is None:
        raise NoMountError("a small disk takes root")
    options = f"size={kilobytes}k,mode=0700,uid={owner.uid},gid={owner.gid}"
    _mount("-t", "tmpfs", "-o", options, "none", str(folder))
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def _mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NoMountError(f"mounting is not possible here: {done.stderr.strip()}")
