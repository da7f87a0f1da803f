"""When a row of a records table expires, in SQL: at its own instant or by its collection's retention, whichever comes
first, by the clock of the server that is read. Within a transaction that clock stands still."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Expiry:
    """`at`: in place of now, for what is read as of a moment of the past."""

    retention_seconds: int | None
    at: datetime | None = None

    @property
    def clock(self) -> str:
        return "now()" if self.at is None else f"'{self.at.isoformat()}'::timestamptz"

    def instant(self, table: str) -> str:
        """From which on the row is not shown; null where there is none."""
        if self.retention_seconds is None:
            return f"{table}.expires_at"
        return f"least({table}.expires_at, {table}.updated_at + {self._interval})"

    def unexpired(self, table: str) -> str:
        """That it has not come."""
        own = f"({table}.expires_at IS NULL OR {table}.expires_at > {self.clock})"
        if self.retention_seconds is None:
            return own
        return f"({own} AND {table}.updated_at > {self.clock} - {self._interval})"

    @property
    def _interval(self) -> str:
        return f"interval '{self.retention_seconds:d} seconds'"


def earliest(*instants: datetime | None) -> datetime | None:
    """None where none of them ever comes."""
    return min((one for one in instants if one is not None), default=None)
