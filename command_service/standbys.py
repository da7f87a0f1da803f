"""What a synchronous standby does not have yet may be lost with the primary, so it is not published before.

A commit shows only when the standbys that `synchronous_standby_names` asks for have it. There are exceptions: a commit
whose wait was cancelled, or that a restarted primary found in its own WAL, shows without them.
"""

from __future__ import annotations

from shared.postgres import Connection

_STANDBY_SECONDS = 2.0

# A commit waits for the WAL before it too. The message is for nobody: it makes the transaction one that writes.
_COMMIT = """
SELECT CASE WHEN current_setting('synchronous_standby_names') <> '' AND NOT pg_is_in_recovery()
            THEN pg_logical_emit_message(true, 'aindusdb', '') END
"""

LOCALLY_COMMITTED = "SELECT set_config('synchronous_commit', 'local', true)"
"""SQL for what a failover may take away: its transaction does not wait for standbys."""


class StandbyAwayError(Exception):
    """What was committed may not be with a synchronous standby."""

    def __init__(self) -> None:
        super().__init__("no synchronous standby confirms what is committed")


async def confirm(connection: Connection) -> None:
    """Returns when the synchronous standbys have all that is committed; at once when none are asked for.

    Raises:
        StandbyAwayError: they do not confirm it within some seconds.
    """
    try:
        await connection.execute(_COMMIT, timeout=_STANDBY_SECONDS)
    except TimeoutError:
        raise StandbyAwayError from None
