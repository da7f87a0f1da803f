"""The command line through the pooler, which it is not told of."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys

from shared.status import read_status
from tests.pooler.leftovers import leftovers
from tests.pooler.pooling import Pooled
from tests.projector.log_writer import LogWriter
from tests.servers import connected


def aindusdb(*arguments: str, **environment: str) -> str:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AINDUSDB_")}
    done = subprocess.run(
        [sys.executable, "-m", "aindusdb", *arguments],
        env={**inherited, **environment}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_commands_leave_nothing_for_the_next_one_to_stumble_over(pooled: Pooled) -> None:
    direct, through = pooled.direct, pooled.through
    async with connected(direct.events_dsn) as log:
        await LogWriter(log).create_collection()
    owner, reader = pooled.pooler.through(direct.events_owner_dsn), through.events_reader_dsn
    for _ in range(2):
        await asyncio.to_thread(aindusdb, "schema", "upgrade", "--events-dsn", owner)
        shown = await asyncio.to_thread(aindusdb, "events", "tail", "--json", AINDUSDB_EVENTS_DSN=reader)
        assert json.loads(shown)["position"] == 1
        assert (await read_status(reader, through.read_reader_dsn)).head_position == 1
    for dsn in (owner, reader, through.read_reader_dsn):
        assert await leftovers(dsn) == []


async def test_following_the_log_through_the_pooler_polls(pooled: Pooled) -> None:
    reader = pooled.through.events_reader_dsn
    following = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "aindusdb", "events", "tail", "--follow",
        env={**os.environ, "AINDUSDB_EVENTS_DSN": reader, "AINDUSDB_EVENTS_LISTEN_DSN": ""},
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert following.stdout is not None
    async with connected(pooled.direct.events_dsn) as log, asyncio.timeout(30):
        await LogWriter(log).create_collection("before")
        while b"before" not in await following.stdout.readline():
            pass
        await LogWriter(log).create_collection("after")
        while b"after" not in await following.stdout.readline():
            pass
    following.send_signal(2)
    assert await following.wait() == 0
    assert await leftovers(reader) == []
