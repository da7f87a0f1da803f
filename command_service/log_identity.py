"""Which log this is: an identity that tokens, checkpoints and records carry.

A log that was restored may end before positions that were given out. Under a new identity nothing that speaks of the
lost positions is ever taken to speak of those that are given out anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from command_service.append_lock import begin_locked
from shared.postgres import Connection

# Of other roles' sessions no more is to be seen than whose they are. Those that are nobody's clean up.
_OTHER_PROCESSES = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND usename IS NOT NULL AND pid <> pg_backend_pid()
"""

_RENEW = "UPDATE log_identity SET log_id = gen_random_uuid() RETURNING log_id"


class LogInUseError(Exception):
    """Processes remember of the former log what this one may not have."""

    def __init__(self, connections: int) -> None:
        super().__init__(
            f"{connections} other connections are open to this database. Stop all processes first: they remember of "
            "the former log what this one may not have"
        )


@dataclass(frozen=True, slots=True)
class Renewal:
    """Which log it was, and which one it is now."""

    former: UUID
    log_id: UUID


async def renew_identity(connection: Connection, *, in_use: bool = False) -> Renewal:
    """Makes it another log. `connection` is of the role that owns the database; `in_use` allows others besides.

    Raises:
        LogInUseError
    """
    others: int = await connection.fetchval(_OTHER_PROCESSES)
    if others and not in_use:
        raise LogInUseError(others)
    await begin_locked(connection)
    former: UUID = await connection.fetchval("SELECT log_id FROM log_identity")
    log_id: UUID = await connection.fetchval(_RENEW)
    await connection.execute("COMMIT")
    return Renewal(former, log_id)
