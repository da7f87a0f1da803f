"""Feeds: which filling of the topic is the current one, kept in the event database."""

from __future__ import annotations

from dataclasses import dataclass

from shared.postgres import Connection

_READ = """
SELECT feed, cardinality(partition_positions) AS partition_count, position FROM relay_leases
ORDER BY feed DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Feed:
    """One filling of the topic. All events up to `position` were published in it, or stood in the log before it."""

    number: int
    partition_count: int
    position: int


async def read_feed(connection: Connection) -> Feed | None:
    """The current feed, None if no relay has ever opened one."""
    row = await connection.fetchrow(_READ)
    return None if row is None else Feed(row["feed"], row["partition_count"], row["position"])
