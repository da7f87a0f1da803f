"""Servers that archive their WAL, and servers that are restored from a backup and the archive."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import asyncpg

from aindusdb.local_stack.ports import free_port
from aindusdb.local_stack.postgres import PostgresServer, find_binaries
from aindusdb.local_stack.processes import ProcessSpec
from aindusdb.local_stack.users import postgres_user
from tests.failover import documented
from tests.projector.projecting import until
from tests.servers import connected, running

_SWITCH = "SELECT pg_walfile_name(pg_switch_wal())"
_IN_RECOVERY = "SELECT pg_is_in_recovery()"


@dataclass(frozen=True, slots=True)
class Archive:
    """What the servers of one log archive to, with a base backup beside it."""

    folder: Path

    @property
    def wal(self) -> Path:
        return self.folder / "archive"

    def spec(self, server: PostgresServer) -> ProcessSpec:
        """Of a server that has the settings of one that archives, or is to read the archive."""
        spec = server.spec()
        return replace(spec, environment={**spec.environment, "ARCHIVE": str(self.wal)})

    async def back_up(self, server: PostgresServer) -> None:
        await documented.base_backup(server, self._backup)

    async def archive_all(self, server: PostgresServer) -> None:
        async with connected(server.dsn("postgres")) as admin:
            segment = await admin.fetchval(_SWITCH)
        await until(lambda: (self.wal / segment).exists(), "the WAL is not archived")

    async def restore(self, server: PostgresServer, target: str = "") -> None:
        """Makes the server's data folder, for a server that is then to be started."""
        await documented.restore(server, self._backup, self.wal, target)

    @property
    def _backup(self) -> Path:
        return self.folder / "backup"


async def recovered(server: PostgresServer) -> None:
    """Waits until it takes writes, and does what is then left to be done."""
    async with connected(server.dsn("postgres")) as admin:
        await until(lambda: _is_over(admin), "the recovery does not end")
        for statement in documented.statements("Restoring"):
            await admin.execute(statement)


async def _is_over(admin: asyncpg.Connection[asyncpg.Record]) -> bool:
    return not await admin.fetchval(_IN_RECOVERY)


@contextmanager
def empty_archive() -> Iterator[Archive]:
    """In a folder that PostgreSQL's user owns, who may put more into it."""
    folder = Path(tempfile.mkdtemp(prefix="aindusdb-test-"))
    folder.chmod(0o755)  # PostgreSQL runs as another user when we are root
    archive, user = Archive(folder), postgres_user()
    try:
        archive.wal.mkdir()
        for path in (folder, archive.wal):
            if user is not None:
                os.chown(path, user.uid, user.gid)
        yield archive
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Archived:
    """`server` may be stopped and its data removed: what is restored takes its port."""

    archive: Archive
    server: PostgresServer

    @asynccontextmanager
    async def started(self, server: PostgresServer) -> AsyncIterator[PostgresServer]:
        async with running(self.archive.spec(server), self.archive.folder):
            yield server

    @asynccontextmanager
    async def restored(self, name: str, target: str = "") -> AsyncIterator[PostgresServer]:
        """Another server in the place of the first one, once it takes writes."""
        server = replace(self.server, data=self.archive.folder / name, settings={"fsync": "off"})
        await self.archive.restore(server, target)
        async with self.started(server):
            await recovered(server)
            yield server


@contextmanager
def archived_server() -> Iterator[Archived]:
    """Not started yet."""
    user = postgres_user()
    settings = {"fsync": "off", "max_wal_size": "1GB", **documented.archiving()}
    with empty_archive() as archive:
        data = archive.folder / "events"
        server = PostgresServer(find_binaries(user), data, free_port(), "aindusdb-test", user, settings)
        server.initialise()
        yield Archived(archive, server)
