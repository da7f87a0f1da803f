"""How far the database is with making an index, as it says itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from projector.settings import ProjectorSettings
from shared.postgres import CONNECTION_LOST, connect_uncached

_INTERVAL_SECONDS = 0.5

_READ = """
SELECT phase, blocks_done, blocks_total, tuples_done FROM pg_stat_progress_create_index WHERE pid = $1
"""


@dataclass(frozen=True, slots=True)
class IndexProgress:
    """`phase` in PostgreSQL's words; `done` of `total` blocks of the table, 0 of 0 where the phase counts none;
    `rows` that are in the index."""

    phase: str
    done: int
    total: int
    rows: int


@asynccontextmanager
async def watched_index(
    settings: ProjectorSettings, process_id: int, report: Callable[[IndexProgress], None]
) -> AsyncIterator[None]:
    """Inside the block, `report` is told twice a second what the session of this process id does. That it cannot be
    told is no reason to end what is watched."""
    watching = asyncio.create_task(_watch(settings, process_id, report))
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def _watch(settings: ProjectorSettings, process_id: int, report: Callable[[IndexProgress], None]) -> None:
    connection = await connect_uncached(settings.read_direct_address())
    try:
        while True:
            row = await connection.fetchrow(_READ, process_id)
            if row is not None:
                report(IndexProgress(row["phase"], row["blocks_done"], row["blocks_total"], row["tuples_done"]))
            await asyncio.sleep(_INTERVAL_SECONDS)
    except (*CONNECTION_LOST, asyncpg.PostgresError):
        return
    finally:
        connection.terminate()
