"""Times on the command line."""

from __future__ import annotations

from datetime import UTC, datetime

from aindusdb.commands.output import CommandRefusedError, printable


def parsed_time(option: str, time: str) -> datetime:
    """ISO 8601; without an offset it is UTC.

    Raises:
        CommandRefusedError
    """
    try:
        parsed = datetime.fromisoformat(time)
    except ValueError as error:
        raise CommandRefusedError(f"{option} {printable(time)!r} is no time like 2026-01-31T12:00:00Z.") from error
    try:
        return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    except OverflowError as error:
        raise CommandRefusedError(f"{option} {printable(time)!r} is beyond the years 1 to 9999 in UTC.") from error
