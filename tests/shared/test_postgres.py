"""Connections as every process opens them."""

from __future__ import annotations

import asyncio
import subprocess
import sys

from tests.servers import Databases

_NAMES = """
import asyncio, sys
from shared.postgres import connect, create_pool
from shared.settings import ProcessSettings

NAMES = "SELECT name FROM pg_prepared_statements WHERE $1"

async def main():
    connection = await connect(sys.argv[1], ProcessSettings())
    print(*(row["name"] for row in await connection.fetch(NAMES, True)))
    async with await create_pool(sys.argv[1], ProcessSettings(), max_size=1) as pool:
        print(*(row["name"] for row in await pool.fetch(NAMES, True)))

asyncio.run(main())
"""


def _names_of_a_process(dsn: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", _NAMES, dsn], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


async def test_prepared_statements_of_two_processes_never_have_the_same_name(databases: Databases) -> None:
    # Behind a pooler that does not know them, one process would run what the other has prepared.
    names = [
        name
        for of_process in await asyncio.gather(
            *(asyncio.to_thread(_names_of_a_process, databases.events_reader_dsn) for _ in range(2))
        )
        for name in of_process
    ]
    assert len(names) == len(set(names)) == 4
