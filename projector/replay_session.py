"""What working on a collection's generations takes: its lock, both databases, and that they belong together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from uuid import UUID

import asyncpg

from projector.checkpoints import read_checkpoints, verified_checkpoints
from projector.claims import claimed
from projector.errors import NothingProjectedError
from projector.event_log import EventLog, opened_event_log
from projector.replay_targets import Target
from projector.runs import Layout
from projector.settings import ProjectorSettings
from projector.source import LOG_FEED
from shared.postgres import Connection, PooledAddressError, connect, is_pooled

CLAIM_WITHIN_SECONDS = 8.0
"""The server notices within five seconds that a client was killed, and ends the work that it did for it."""

_CLAIM_AGAIN_SECONDS = 0.25

_IS_CLAIMED = """
SELECT EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND classid = 7120031 AND objid::bigint = hashtext($1)::bigint & 4294967295 AND objsubid = 2
)
"""


class CollectionBusyError(Exception):
    """Another replay, or the projector itself, works on the collection's tables. It waits for nobody."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"Another process works on the tables of {name!r} at the moment: a replay, or the projector, which makes "
            "an index or applies a change. `aindusdb replay status` shows it; try again when it is done."
        )


@dataclass(frozen=True, slots=True)
class ReplaySession:
    """`connection` is a session of its own to the read database, with pgvector's codecs; as long as it lives, nobody
    else works on the collection's tables."""

    connection: asyncpg.Connection[asyncpg.Record]
    log: EventLog
    settings: ProjectorSettings
    target: Target


@asynccontextmanager
async def opened_session(settings: ProjectorSettings, target: Target) -> AsyncIterator[ReplaySession]:
    """
    Raises:
        CollectionBusyError
        CheckpointMismatchError: the read model is of another log.
        PooledAddressError
        One of `CONNECTION_LOST`
    """
    deadline = monotonic() + CLAIM_WITHIN_SECONDS
    while True:
        async with claimed(target.collection_id, settings) as connection:
            if connection is not None:
                async with opened_event_log(settings) as log:
                    await expect_one_log(connection, log)
                    yield ReplaySession(connection, log, settings, target)
                    return
        if monotonic() > deadline:
            raise CollectionBusyError(target.name)
        await asyncio.sleep(_CLAIM_AGAIN_SECONDS)


@asynccontextmanager
async def opened_beside(
    settings: ProjectorSettings,
) -> AsyncIterator[tuple[asyncpg.Connection[asyncpg.Record], EventLog]]:
    """Both databases, with nobody's lock.

    Raises:
        CheckpointMismatchError, PooledAddressError
        One of `CONNECTION_LOST`
    """
    connection = await connect(settings.read_direct_address(), settings, vectors=True)
    try:
        if await is_pooled(connection):
            raise PooledAddressError("AINDUSDB_READ_DIRECT_DSN")
        async with opened_event_log(settings) as log:
            await expect_one_log(connection, log)
            yield connection, log
    finally:
        connection.terminate()


async def expect_one_log(connection: Connection, log: EventLog) -> None:
    """
    Raises:
        CheckpointMismatchError: the read model is not of this log.
        NothingProjectedError: it is of none yet.
    """
    if not await read_checkpoints(connection):
        raise NothingProjectedError
    await verified_checkpoints(connection, log, Layout(await log.log_id(), LOG_FEED, 1))


async def is_claimed(connection: Connection, collection_id: UUID) -> bool:
    """Whether anybody works on the collection's tables."""
    claimed_by_any: bool = await connection.fetchval(_IS_CLAIMED, str(collection_id))
    return claimed_by_any
