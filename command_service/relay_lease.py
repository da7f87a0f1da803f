"""Who may publish a feed, and how far it is published: a row of the event database with an epoch.

A session's advisory lock would outlive a host that vanished and break behind a pooler; a lease ends by itself. Its
holder moves the checkpoint only as long as the epoch is its own. A former holder that still publishes does no harm:
what it sends is what its successor sends, and records say themselves what they cover.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from command_service.standbys import LOCALLY_COMMITTED
from shared.event_log import read_event_ids, read_head
from shared.kafka.ends import FILL_ANEW
from shared.postgres import SERVER_STARTED, Connection

# What stands in the log already is there for all who need it: a feed begins at the head.
_OPEN_FIRST = """
INSERT INTO relay_leases (feed, position, event_id, partition_positions)
SELECT 1, $2, $3, array_fill($2::bigint, ARRAY[$1::int]) WHERE NOT EXISTS (SELECT FROM relay_leases)
ON CONFLICT DO NOTHING
"""

_OPEN_NEXT = """
INSERT INTO relay_leases (feed, position, event_id, partition_positions)
SELECT max(feed) + 1, $2, $3, array_fill($2::bigint, ARRAY[$1::int]) FROM relay_leases HAVING count(*) > 0
RETURNING feed
"""

# A lease that a failover takes back only makes some events be sent twice, so none of these waits for a standby.
_LOCALLY = f"WITH bounds AS MATERIALIZED ({LOCALLY_COMMITTED})"

_TAKE = f"""
{_LOCALLY}
UPDATE relay_leases SET epoch = epoch + 1, holder = $1, expires_at = clock_timestamp() + make_interval(secs => $2)
FROM bounds
WHERE feed = (SELECT max(feed) FROM relay_leases) AND (expires_at IS NULL OR expires_at <= clock_timestamp())
RETURNING feed, epoch, position, event_id, partition_positions, {SERVER_STARTED} AS server_started
"""  # noqa: S608

_KEEP = f"""
{_LOCALLY}
UPDATE relay_leases r SET expires_at = clock_timestamp() + make_interval(secs => $3), position = $4, event_id = $5,
    partition_positions = $6
FROM bounds
WHERE feed = $1 AND epoch = $2 AND NOT EXISTS (SELECT FROM relay_leases later WHERE later.feed > r.feed)
"""  # noqa: S608

_RELEASE = f"""
{_LOCALLY}
UPDATE relay_leases SET holder = NULL, expires_at = NULL FROM bounds WHERE feed = $1 AND epoch = $2
"""  # noqa: S608

_STATUS = """
SELECT feed, epoch, CASE WHEN expires_at > clock_timestamp() THEN holder END AS holder, expires_at, position,
       partition_positions, (SELECT coalesce(max(position), 0) FROM events) AS head
FROM relay_leases ORDER BY feed DESC LIMIT 1
"""


class LeadershipLostError(Exception):
    """Another relay holds the lease, or a later feed was opened."""


class LeaseMismatchError(Exception):
    """The lease's position is not the log's: the log was restored or rewritten after it was published."""


@dataclass(frozen=True, slots=True)
class Lease:
    """All events up to `position` are in the topic, or stood in the log before the feed began. Each partition's
    position is what its last record covers. `server_started` names the server whose log `position` is of."""

    feed: int
    epoch: int
    position: int
    event_id: UUID | None
    partition_positions: Sequence[int]
    server_started: datetime


@dataclass(frozen=True, slots=True)
class RelayStatus:
    """`holder` is None while nobody publishes."""

    feed: int
    epoch: int
    holder: str | None
    expires_at: datetime | None
    position: int
    partition_positions: Sequence[int]
    head: int

    @property
    def backlog(self) -> int:
        """Events that are in the log and not yet published."""
        return max(0, self.head - self.position)

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "expires_at": self.expires_at and self.expires_at.isoformat(), "backlog": self.backlog}


async def open_first_feed(connection: Connection, partitions: int) -> None:
    """Does nothing if a feed was ever opened."""
    head = await read_head(connection)
    event_ids = await read_event_ids(connection, [head.position])
    await connection.execute(_OPEN_FIRST, partitions, head.position, event_ids.get(head.position))


async def open_next_feed(connection: Connection, partitions: int, position: int) -> int:
    """A later feed than all so far, which publishes what follows `position`; its number.

    Raises:
        LookupError: no feed was ever opened, or the log has no such position.
    """
    event_ids = await read_event_ids(connection, [position])
    if position > 0 and position not in event_ids:
        raise LookupError(f"the log has no position {position}")
    feed: int | None = await connection.fetchval(_OPEN_NEXT, partitions, position, event_ids.get(position))
    if feed is None:
        raise LookupError("no relay has opened a feed yet")
    return feed


async def take(connection: Connection, holder: str, seconds: float) -> Lease | None:
    """The lease of the current feed, if nobody else holds it.

    Raises:
        LeaseMismatchError: its checkpoint is no position of this log.
    """
    row: asyncpg.Record | None = await connection.fetchrow(_TAKE, holder, seconds)
    if row is None:
        return None
    lease = Lease(**row)
    found = await read_event_ids(connection, [lease.position])
    if lease.position > 0 and found.get(lease.position) != lease.event_id:
        await release(connection, lease)
        raise LeaseMismatchError(
            f"the topic was filled up to position {lease.position}, event {lease.event_id}, but the event log has "
            f"{found.get(lease.position) or 'nothing'} there: it was restored or rewritten. {FILL_ANEW}"
        )
    return lease


async def keep(
    connection: Connection,
    lease: Lease,
    position: int,
    event_id: UUID | None,
    partitions: Sequence[int],
    seconds: float,
) -> None:
    """Prolongs the lease and moves its checkpoint.

    Raises:
        LeadershipLostError: the lease is no longer ours.
    """
    kept = await connection.execute(_KEEP, lease.feed, lease.epoch, seconds, position, event_id, partitions)
    if kept != "UPDATE 1":
        raise LeadershipLostError


async def release(connection: Connection, lease: Lease) -> None:
    await connection.execute(_RELEASE, lease.feed, lease.epoch)


async def read_relay_status(connection: Connection) -> RelayStatus | None:
    """None if no feed was ever opened."""
    row = await connection.fetchrow(_STATUS)
    return None if row is None else RelayStatus(**row)
