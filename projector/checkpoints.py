"""How far the read model has come, and whether it still belongs to the log that it is built from."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import asyncpg
import structlog

from events_schema.base import RecordedEvent
from projector.errors import CheckpointMismatchError
from projector.source import EventSource
from shared.postgres import Connection
from shared.read_model.tables import PROJECTION

LOCK_TIMEOUT_SECONDS = 3
"""The lock_timeout of every session that locks checkpoints, and how long a holder may be silent."""

_CREATE = """
INSERT INTO projection_checkpoints (projection, partition, position, log_id, partition_count)
VALUES ($1, $2, 0, $3, $4) ON CONFLICT DO NOTHING
"""

_READ = """
SELECT partition, position, event_id, log_id, partition_count FROM projection_checkpoints
WHERE projection = $1 ORDER BY partition
"""

_LOCK = f"{_READ} FOR UPDATE"

_MOVE = """
UPDATE projection_checkpoints SET position = $3, event_id = $4, updated_at = clock_timestamp()
WHERE projection = $1 AND partition = $2
"""

# A row's lock is kept in its xmax: the transaction that holds it also holds the lock on its own number.
_END_FROZEN_HOLDERS = """
SELECT a.pid, pg_terminate_backend(a.pid) AS ended
FROM projection_checkpoints c
JOIN pg_locks l ON l.locktype = 'transactionid' AND l.granted AND l.transactionid = c.xmax
JOIN pg_stat_activity a USING (pid)
WHERE c.projection = $1 AND a.pid <> pg_backend_pid()
  AND a.wait_event = 'ClientRead' AND clock_timestamp() - a.state_change > make_interval(secs => $2)
"""

_log = structlog.get_logger("checkpoints")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """All events up to `position` are in the read model; `event_id` is the last one's, None at position 0."""

    partition: int
    position: int
    event_id: UUID | None
    log_id: UUID
    partition_count: int


def _checkpoints(rows: list[asyncpg.Record]) -> list[Checkpoint]:
    return [
        Checkpoint(row["partition"], row["position"], row["event_id"], row["log_id"], row["partition_count"])
        for row in rows
    ]


def _own(checkpoints: list[Checkpoint], partition: int) -> Checkpoint:
    for checkpoint in checkpoints:
        if checkpoint.partition == partition:
            return checkpoint
    raise CheckpointMismatchError(
        f"the checkpoint of partition {partition} is gone from the read database. Restart the projector, which "
        "makes it anew, only if the read model is empty too; else restore the read database"
    )


async def verified_checkpoint(connection: Connection, source: EventSource) -> Checkpoint:
    """The source's checkpoint, made if there is none yet, and compared with the log.

    Raises:
        CheckpointMismatchError: it is the checkpoint of another log or beyond the end of this one.
    """
    log_id = await source.log_id()
    await connection.execute(_CREATE, PROJECTION, source.partition, log_id, source.partition_count)
    checkpoint = _own(_checkpoints(await connection.fetch(_READ, PROJECTION)), source.partition)
    _check_partitions(checkpoint, source)
    check_log(checkpoint, log_id)
    if checkpoint.position == 0:
        return checkpoint
    event_id = await source.event_id_at(checkpoint.position)
    if event_id is None:
        head = await source.head()
        raise CheckpointMismatchError(
            f"the read model is at position {checkpoint.position}, but the event log ends at {head.position}: "
            f"the log has lost events or is another one. {_REMEDY}"
        )
    if event_id != checkpoint.event_id:
        raise CheckpointMismatchError(
            f"position {checkpoint.position} of the event log is event {event_id}, but the read model was built from "
            f"event {checkpoint.event_id} there: the log was restored or rewritten. {_REMEDY}"
        )
    return checkpoint


_REMEDY = (
    "Either point AINDUSDB_EVENTS_DSN at the log that this read model belongs to, or drop the read database, create "
    "it anew, run `aindusdb schema upgrade` and let the projector build it from this log"
)


def check_log(checkpoint: Checkpoint, log_id: UUID) -> None:
    """
    Raises:
        CheckpointMismatchError: the checkpoint is of another log.
    """
    if checkpoint.log_id != log_id:
        raise CheckpointMismatchError(
            f"the read model was built from event log {checkpoint.log_id}, but the event database holds log {log_id}: "
            f"it was restored or is another one. {_REMEDY}"
        )


def _check_partitions(checkpoint: Checkpoint, source: EventSource) -> None:
    if checkpoint.partition_count != source.partition_count:
        raise CheckpointMismatchError(
            f"the checkpoints are of {checkpoint.partition_count} partitions, but the events come in "
            f"{source.partition_count}. Start the projector with the source that it had before"
        )


async def lock_checkpoints(connection: Connection, partition: int) -> Checkpoint:
    """Locks all rows of the projection for the rest of the transaction, in partition order; returns this one's.

    What the transaction reads after this, in statements of their own, is what the last holder committed.

    Raises:
        asyncpg.LockNotAvailableError: another one held them for LOCK_TIMEOUT_SECONDS; see `end_frozen_holders`.
        CheckpointMismatchError: the row is gone.
    """
    return _own(_checkpoints(await connection.fetch(_LOCK, PROJECTION)), partition)


async def move_checkpoint(connection: Connection, partition: int, last: RecordedEvent) -> None:
    await connection.execute(_MOVE, PROJECTION, partition, last.position, last.event_id)


async def end_frozen_holders(connection: Connection) -> None:
    """Ends the connections that hold checkpoints and have sent nothing for LOCK_TIMEOUT_SECONDS.

    No timeout of the server's reaches a client that froze in the middle of a COPY.
    """
    for row in await connection.fetch(_END_FROZEN_HOLDERS, PROJECTION, LOCK_TIMEOUT_SECONDS):
        _log.warning("ended a frozen holder of the checkpoints", pid=row["pid"], ended=row["ended"])
