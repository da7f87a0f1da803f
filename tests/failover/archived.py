"""An event server that archives its WAL, and servers that are restored from its backup and its archive."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import asyncpg

from aindusdb.local_stack.ports import free_port
from aindusdb.local_stack.postgres import PostgresServer, find_binaries
from aindusdb.local_stack.users import postgres_user
from tests.failover import documented
from tests.projector.projecting import until
from tests.servers import connected, running

_SWITCH = "SELECT pg_walfile_name(pg_switch_wal())"
_IN_RECOVERY = "SELECT pg_is_in_recovery()"


@dataclass(frozen=True, slots=True)
class Archived:
    """`server` may be stopped and its data removed: what is restored takes its port."""

    folder: Path
    server: PostgresServer

    @property
    def archive(self) -> Path:
        return self.folder / "archive"

    @property
    def backup(self) -> Path:
        return self.folder / "backup"

    @asynccontextmanager
    async def started(self, server: PostgresServer) -> AsyncIterator[PostgresServer]:
        spec = server.spec()
        spec = replace(spec, environment={**spec.environment, "ARCHIVE": str(self.archive)})
        async with running(spec, self.folder):
            yield server

    async def back_up(self) -> None:
        await documented.base_backup(self.server, self.backup)

    async def archive_all(self) -> None:
        async with connected(self.server.dsn("postgres")) as admin:
            segment = await admin.fetchval(_SWITCH)
        await until(lambda: (self.archive / segment).exists(), "the WAL is not archived")

    @asynccontextmanager
    async def restored(self, name: str, target: str = "") -> AsyncIterator[PostgresServer]:
        """Another server in the place of the first one, once it takes writes."""
        server = replace(self.server, data=self.folder / name, settings={"fsync": "off"})
        await documented.restore(server, self.backup, self.archive, target)
        async with self.started(server), connected(server.dsn("postgres")) as admin:
            await until(lambda: _is_over(admin), "the recovery does not end")
            yield server


async def _is_over(admin: asyncpg.Connection[asyncpg.Record]) -> bool:
    return not await admin.fetchval(_IN_RECOVERY)


@asynccontextmanager
async def archived_server() -> AsyncIterator[Archived]:
    """Not started yet."""
    folder = Path(tempfile.mkdtemp(prefix="aindusdb-test-"))
    folder.chmod(0o755)  # PostgreSQL runs as another user when we are root
    user = postgres_user()
    settings = {"fsync": "off", "max_wal_size": "1GB", **documented.archiving()}
    server = PostgresServer(find_binaries(user), folder / "events", free_port(), "aindusdb-test", user, settings)
    archived = Archived(folder, server)
    try:
        server.initialise()
        archived.archive.mkdir()
        for path in (folder, archived.archive):
            if user is not None:
                os.chown(path, user.uid, user.gid)
        yield archived
    finally:
        shutil.rmtree(folder, ignore_errors=True)
