"""The lock that serialises all appends to the event log, whoever appends.

It is taken in a statement of its own under READ COMMITTED, so that the statements after it see what the last
holder committed. Nothing on the server ends a transaction whose client froze in the middle of a COPY
(idle_in_transaction_session_timeout, statement_timeout and transaction_timeout do not), so whoever has waited
too long ends the holder's connection, if that has been waiting for its client all the while.
"""

from __future__ import annotations

import asyncpg
import structlog

from shared.postgres import Connection

APPEND_LOCK = 7_120_031_000
LOCK_TIMEOUT_SECONDS = 3

# The bounds end with the transaction, so that any pooler may stand in between.
_BEGIN_LOCKED = (
    f"BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'; "
    f"SET LOCAL idle_in_transaction_session_timeout = '2s'; SELECT pg_advisory_xact_lock({APPEND_LOCK})"
)

_END_FROZEN_HOLDER = """
SELECT a.pid, pg_terminate_backend(a.pid) AS ended
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND a.datname = current_database() AND l.database = a.datid
  AND (l.classid::bigint << 32) + l.objid::bigint = $1 AND l.objsubid = 1
  AND a.wait_event = 'ClientRead' AND clock_timestamp() - a.state_change > make_interval(secs => $2)
"""

_log = structlog.get_logger("append_lock")


async def begin_locked(connection: Connection) -> None:
    """Opens a transaction that holds the append lock; waits for it as long as others make progress."""
    while True:
        try:
            await connection.execute(_BEGIN_LOCKED, timeout=LOCK_TIMEOUT_SECONDS * 4)
        except asyncpg.LockNotAvailableError:
            await connection.execute("ROLLBACK", timeout=LOCK_TIMEOUT_SECONDS)
            for row in await connection.fetch(_END_FROZEN_HOLDER, APPEND_LOCK, LOCK_TIMEOUT_SECONDS):
                _log.warning("ended a frozen holder of the append lock", pid=row["pid"], ended=row["ended"])
        else:
            return
