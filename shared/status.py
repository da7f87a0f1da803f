"""Where the log stands and how far the read model has come: what `status` and /metrics report."""

from __future__ import annotations

from dataclasses import dataclass

from shared.event_log import read_head
from shared.postgres import Connection, connect_uncached

_WATERMARK = """
SELECT coalesce(min(position), 0) AS watermark, (SELECT count(*) FROM parked_events) AS parked, (
    SELECT count(*) FROM generations
    WHERE state = 'active' AND projection_version < (SELECT max(projection_version) FROM generations)
) AS outdated
FROM projection_checkpoints WHERE projection = 'read_model'
"""

_OLDEST_UNPROJECTED = "SELECT extract(epoch FROM clock_timestamp() - timestamp) FROM events WHERE position = $1"


@dataclass(frozen=True, slots=True)
class LogStatus:
    """Lag against the real head: in events, and in seconds since the oldest event not yet projected."""

    head_position: int
    watermark: int
    lag_events: int
    lag_seconds: float
    parked_events: int
    outdated_collections: int
    """Those that are searched as an older version of the projection made them; a newer one is making them anew."""


async def log_status(events: Connection, read: Connection) -> LogStatus:
    """One reading over open connections. The watermark is read first, so the lag is never negative."""
    row = await read.fetchrow(_WATERMARK)
    assert row is not None
    watermark: int = row["watermark"]
    head = await read_head(events)
    lag = max(head.position - watermark, 0)
    seconds = float(await events.fetchval(_OLDEST_UNPROJECTED, watermark + 1) or 0.0) if lag else 0.0
    return LogStatus(head.position, watermark, lag, max(seconds, 0.0), row["parked"], row["outdated"])


async def read_status(events_dsn: str, read_dsn: str) -> LogStatus:
    """One reading over connections of its own."""
    events = await connect_uncached(events_dsn, timeout_seconds=5, command_timeout_seconds=10)
    try:
        read = await connect_uncached(read_dsn, timeout_seconds=5, command_timeout_seconds=10)
        try:
            return await log_status(events, read)
        finally:
            await read.close()
    finally:
        await events.close()
