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
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
