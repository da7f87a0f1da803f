"""Streaming replicas of the embedded PostgreSQL: copied from it once, then following it through a slot each."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace

import asyncpg

from aindusdb.local_stack.errors import InitialisationFailedError
from aindusdb.local_stack.ports import HOST
from aindusdb.local_stack.postgres import SUPERUSER, PostgresServer
from aindusdb.local_stack.processes import ProcessSpec

_SLOT_PREFIX = "aindusdb_replica_"
_COPY_TIMEOUT_SECONDS = 3600

# Feedback keeps vacuum from removing rows that a search still reads; what conflicts nevertheless waits half a second.
_SETTINGS = {
    "hot_standby": "on",
    "hot_standby_feedback": "on",
    "max_standby_streaming_delay": "500ms",
    "wal_receiver_status_interval": "1s",
    "wal_retrieve_retry_interval": "200ms",
}

_SLOTS = "SELECT slot_name, active_pid, wal_status FROM pg_replication_slots WHERE starts_with(slot_name, $1)"

_DROP_SLOT = "SELECT pg_drop_replication_slot($1)"


@dataclass(frozen=True, slots=True)
class Replica:
    """`number` counts from 1 and names the slot, the data folder and the process."""

    primary: PostgresServer
    number: int
    port: int

    @property
    def server(self) -> PostgresServer:
        primary = self.primary
        return replace(
            primary,
            data=primary.data.with_name(f"{primary.data.name}-replica-{self.number}"),
            port=self.port,
            settings={**primary.settings, **_SETTINGS},
        )

    @property
    def slot(self) -> str:
        return f"{_SLOT_PREFIX}{self.number}"

    def spec(self) -> ProcessSpec:
        return replace(self.server.spec(), name=f"Replica {self.number}", before_start=self.prepare)

    def prepare(self) -> None:
        """Copies the primary, unless there is a copy that can still follow it.

        Raises:
            InitialisationFailedError: the copy failed.
        """
        server = self.server
        server.clear_leftovers()
        if server.data.exists() and asyncio.run(self._can_follow()):
            return
        shutil.rmtree(server.data, ignore_errors=True)
        unfinished = server.data.with_name(server.data.name + ".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        user = server.user
        if user is not None:
            os.chown(unfinished, user.uid, user.gid)
        asyncio.run(drop_slots(self.primary, [self.slot]))
        done = subprocess.run(
            [
                server.binaries / "pg_basebackup",
                f"--pgdata={unfinished}",
                f"--dbname=host={HOST} port={self.primary.port} user={SUPERUSER}",
                "--no-password",
                "--write-recovery-conf",
                "--create-slot",
                f"--slot={self.slot}",
                "--wal-method=stream",
                "--checkpoint=fast",
                *server.unsynced_option,
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd=unfinished,
            env={**server.spec().environment, "PGPASSWORD": self.primary.superuser_password},
            timeout=_COPY_TIMEOUT_SECONDS,
            user=user.uid if user else None,
            group=user.gid if user else None,
            extra_groups=[] if user else None,
        )
        if done.returncode != 0:
            raise InitialisationFailedError(server.data, done.stderr.strip())
        unfinished.rename(server.data)

    async def _can_follow(self) -> bool:
        """Whether the primary has kept what this copy does not have yet."""
        connection = await asyncpg.connect(self.primary.dsn("postgres"), timeout=10)
        try:
            statuses: dict[str, str] = {
                row["slot_name"]: row["wal_status"] for row in await connection.fetch(_SLOTS, _SLOT_PREFIX)
            }
        finally:
            await connection.close()
        return statuses.get(self.slot, "lost") != "lost"


async def drop_slots(primary: PostgresServer, names: Sequence[str]) -> None:
    """Those of them that there are; nobody uses them any more."""
    connection = await asyncpg.connect(primary.dsn("postgres"), timeout=10)
    try:
        for row in await connection.fetch(_SLOTS, _SLOT_PREFIX):
            if row["slot_name"] in names:
                if row["active_pid"] is not None:
                    await connection.execute("SELECT pg_terminate_backend($1, 5000)", row["active_pid"])
                await connection.execute(_DROP_SLOT, row["slot_name"])
    finally:
        await connection.close()


async def retire_replicas(primary: PostgresServer, kept: int) -> None:
    """Forgets the replicas beyond the first `kept`: the primary would keep its log for them for ever."""
    connection = await asyncpg.connect(primary.dsn("postgres"), timeout=10)
    try:
        names = [row["slot_name"] for row in await connection.fetch(_SLOTS, _SLOT_PREFIX)]
    finally:
        await connection.close()
    numbers = [int(name.removeprefix(_SLOT_PREFIX)) for name in names]
    retired = [number for number in numbers if number > kept]
    await drop_slots(primary, [f"{_SLOT_PREFIX}{number}" for number in retired])
    for number in retired:
        shutil.rmtree(Replica(primary, number, 0).server.data, ignore_errors=True)
