"""How far the read model has come, and whether it still belongs to the log that it is built from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from uuid import UUID

import asyncpg
import structlog

from projector.errors import CheckpointMismatchError, LayoutChangedError
from projector.event_log import EventLog
from projector.runs import Layout, Run
from shared.postgres import SERVER_STARTED, Connection, ServerChangedError
from shared.read_model.tables import PROJECTION

LOCK_TIMEOUT_SECONDS = 3
"""How long a transaction waits for a lock, and how long a holder of checkpoints may be silent."""

_MAX_LOCK_TRIES = 10

_COLUMNS = "c.partition, c.position, c.event_id, c.log_id, c.feed, c.partition_count"

_READ = f"SELECT {_COLUMNS} FROM projection_checkpoints c WHERE c.projection = $1 ORDER BY c.partition"  # noqa: S608

# The bounds travel with the statement and end with the transaction, so that any pooler may stand in between.
_LOCK = f"""
WITH bounds AS MATERIALIZED (
    SELECT set_config('lock_timeout', '{LOCK_TIMEOUT_SECONDS}s', true),
           set_config('idle_in_transaction_session_timeout', '2s', true)
)
SELECT {_COLUMNS}, {SERVER_STARTED} AS server_started FROM bounds, projection_checkpoints c
WHERE c.projection = $1 AND ($2::int[] IS NULL OR c.partition = ANY($2)) ORDER BY c.partition FOR UPDATE OF c
"""  # noqa: S608

_MOVE = """
UPDATE projection_checkpoints c SET position = m.position, event_id = m.event_id, updated_at = clock_timestamp()
FROM unnest($2::int[], $3::bigint[], $4::uuid[]) AS m(partition, position, event_id)
WHERE c.projection = $1 AND c.partition = m.partition
"""

# Two projectors with different sources may both find no checkpoints.
LOCK_LAYOUT = "SELECT pg_advisory_xact_lock(7120031001)"

_DELETE = "DELETE FROM projection_checkpoints WHERE projection = $1"

_INSERT = """
INSERT INTO projection_checkpoints (projection, partition, position, event_id, log_id, feed, partition_count)
SELECT $1, n, $2, $3, $4, $5, $6 FROM generate_series(0, $6::int - 1) n
WHERE NOT EXISTS (SELECT FROM projection_checkpoints WHERE projection = $1)
"""

# A row's lock is kept in its xmax: the transaction that holds it also holds the lock on its own number.
_END_FROZEN_HOLDERS = """
SELECT DISTINCT a.pid, pg_terminate_backend(a.pid) AS ended
FROM projection_checkpoints c
JOIN pg_locks l ON l.locktype = 'transactionid' AND l.granted AND l.transactionid = c.xmax
JOIN pg_stat_activity a USING (pid)
WHERE c.projection = $1 AND a.pid <> pg_backend_pid()
  AND a.wait_event = 'ClientRead' AND clock_timestamp() - a.state_change > make_interval(secs => $2)
"""

_BUILD_ANEW = "run `aindusdb replay anew`, and the projector builds the read model anew from this log"

_MAKE_ANOTHER_LOG = (
    "Either point AINDUSDB_EVENTS_DSN at the log that this read model belongs to, or stop all processes, run `aindusdb "
    "log restored`, so that no position is taken for a lost one, and `aindusdb replay anew`, so that the projector "
    "builds the read model anew from this log"
)

ResultT = TypeVar("ResultT")

_log = structlog.get_logger("checkpoints")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """All of a partition's events up to `position` are in the read model; `event_id` is that of the log's event there,
    None at position 0."""

    partition: int
    position: int
    event_id: UUID | None
    layout: Layout


def _checkpoints(rows: Sequence[asyncpg.Record]) -> list[Checkpoint]:
    return [
        Checkpoint(
            row["partition"],
            row["position"],
            row["event_id"],
            Layout(row["log_id"], row["feed"], row["partition_count"]),
        )
        for row in rows
    ]


async def read_checkpoints(connection: Connection) -> list[Checkpoint]:
    """All of the projection's, by partition."""
    return _checkpoints(await connection.fetch(_READ, PROJECTION))


async def read_positions(connection: Connection) -> dict[int, int]:
    """Partition -> position."""
    return {checkpoint.partition: checkpoint.position for checkpoint in await read_checkpoints(connection)}


async def verified_checkpoints(connection: Connection, log: EventLog, layout: Layout) -> list[Checkpoint]:
    """All checkpoints, made in `layout` if there are none yet, and compared with the log. They may be in another one.

    Raises:
        CheckpointMismatchError: they are those of another log, beyond the end of this one, or incomplete.
    """
    checkpoints = await read_checkpoints(connection)
    if not checkpoints:
        await _create(connection, layout)
        checkpoints = await read_checkpoints(connection)
    count = checkpoints[0].layout.partition_count
    if count == 0:
        raise CheckpointMismatchError(
            "the read model is not all emptied yet; run `aindusdb replay anew`, which goes on"
        )
    if [checkpoint.partition for checkpoint in checkpoints] != list(range(count)):
        raise CheckpointMismatchError(
            f"the read database has checkpoints of {len(checkpoints)} partitions where {count} belong. Restore the "
            f"read database, or else {_BUILD_ANEW}"
        )
    check_log(checkpoints, layout.log_id)
    await _check_events(checkpoints, log)
    return checkpoints


async def _create(connection: Connection, layout: Layout) -> None:
    async with connection.transaction():
        await connection.execute(LOCK_LAYOUT)
        await connection.execute(_INSERT, PROJECTION, 0, None, layout.log_id, layout.feed, layout.partition_count)


async def _check_events(checkpoints: Sequence[Checkpoint], log: EventLog) -> None:
    found = await log.event_ids([checkpoint.position for checkpoint in checkpoints])
    for checkpoint in checkpoints:
        event_id = found.get(checkpoint.position)
        if checkpoint.position == 0 or event_id == checkpoint.event_id:
            continue
        if event_id is None:
            head = await log.head()
            raise CheckpointMismatchError(
                f"the read model is at position {checkpoint.position}, but the event log ends at {head.position}: "
                f"the log has lost events or is another one. {_MAKE_ANOTHER_LOG}"
            )
        raise CheckpointMismatchError(
            f"position {checkpoint.position} of the event log is event {event_id}, but the read model was built from "
            f"event {checkpoint.event_id} there: the log was restored or rewritten. {_MAKE_ANOTHER_LOG}"
        )


def check_log(checkpoints: Sequence[Checkpoint], log_id: UUID) -> None:
    """
    Raises:
        CheckpointMismatchError: a checkpoint is of another log.
    """
    for checkpoint in checkpoints:
        if checkpoint.layout.log_id != log_id:
            raise CheckpointMismatchError(
                f"the read model was built from event log {checkpoint.layout.log_id}, but the event database holds log "
                f"{log_id}: it was restored or is another one. Either point AINDUSDB_EVENTS_DSN at the log that this "
                f"read model belongs to, or {_BUILD_ANEW}"
            )


async def lock_checkpoints(
    connection: Connection, partitions: Sequence[int], layout: Layout, server_started: datetime | None
) -> dict[int, int]:
    """Locks the checkpoints of these partitions for the rest of the transaction, in order; returns their positions.

    What the transaction reads after this, in statements of their own, is what the last holder committed.

    Raises:
        ServerChangedError: the transaction is not on the server that `server_started` names.
        asyncpg.LockNotAvailableError: another one held them for LOCK_TIMEOUT_SECONDS; see `end_frozen_holders`.
        CheckpointMismatchError: they are those of another log.
        LayoutChangedError: they are dealt out otherwise by now.
    """
    rows = await connection.fetch(_LOCK, PROJECTION, partitions)
    if any(row["server_started"] != server_started for row in rows):
        raise ServerChangedError
    checkpoints = _checkpoints(rows)
    check_log(checkpoints, layout.log_id)
    if len(checkpoints) != len(partitions) or any(checkpoint.layout != layout for checkpoint in checkpoints):
        raise LayoutChangedError
    return {checkpoint.partition: checkpoint.position for checkpoint in checkpoints}


async def between_batches(connection: Connection, act: Callable[[Sequence[Checkpoint]], Awaitable[ResultT]]) -> ResultT:
    """Does `act` in a transaction that holds every checkpoint, so between two batches of the projection. What readers
    are to learn of it bears a position that is not below the least of the checkpoints.

    Raises:
        asyncpg.LockNotAvailableError: others held one of them all the time.
        LayoutChangedError: they are being dealt out anew, or there are none yet.
    """
    for tries_left in reversed(range(_MAX_LOCK_TRIES)):
        try:
            async with connection.transaction(isolation="read_committed"):
                checkpoints = _checkpoints(await connection.fetch(_LOCK, PROJECTION, None))
                if not checkpoints or len(checkpoints) != checkpoints[0].layout.partition_count:
                    raise LayoutChangedError
                return await act(checkpoints)
        except asyncpg.LockNotAvailableError:
            if not tries_left:
                raise
            await end_frozen_holders(connection)
    raise AssertionError


async def move_checkpoints(connection: Connection, runs: Sequence[Run]) -> None:
    """To the end of each run."""
    await connection.execute(
        _MOVE,
        PROJECTION,
        [run.partition for run in runs],
        [run.to for run in runs],
        [run.event_id for run in runs],
    )


async def replace_layout(connection: Connection, old: Layout, new: Layout) -> bool:
    """Deals the checkpoints out in another way, if they are all at one position; whether they were."""
    try:
        async with connection.transaction():
            await connection.execute(LOCK_LAYOUT)
            checkpoints = _checkpoints(await connection.fetch(_LOCK, PROJECTION, list(range(old.partition_count))))
            if any(checkpoint.layout != old for checkpoint in checkpoints):
                return False
            if len({(checkpoint.position, checkpoint.event_id) for checkpoint in checkpoints}) != 1:
                return False
            position, event_id = checkpoints[0].position, checkpoints[0].event_id
            await connection.execute(_DELETE, PROJECTION)
            await connection.execute(_INSERT, PROJECTION, position, event_id, new.log_id, new.feed, new.partition_count)
    except asyncpg.LockNotAvailableError:
        await end_frozen_holders(connection)
        return False
    _log.info("dealt the checkpoints out anew", position=position, feed=new.feed, partitions=new.partition_count)
    return True


async def end_frozen_holders(connection: Connection) -> None:
    """Ends the connections that hold checkpoints and have sent nothing for LOCK_TIMEOUT_SECONDS.

    No timeout of the server's reaches a client that froze in the middle of a COPY.
    """
    for row in await connection.fetch(_END_FROZEN_HOLDERS, PROJECTION, LOCK_TIMEOUT_SECONDS):
        _log.warning("ended a frozen holder of the checkpoints", pid=row["pid"], ended=row["ended"])
