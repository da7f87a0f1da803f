"""Which texts are dates: ISO 8601 calendar dates with or without a time, UTC where no offset is given.

The read database's function `metadata_date` (projector/migrations) reads the metadata by the same rule.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_DATE = re.compile(
    r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[T ](?P<time>(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?P<fraction>\.[0-9]{1,9})?)?)"
    r"(?P<offset>Z|[+-](?:0[0-9]|1[0-5])(?::?[0-5][0-9])?)?)?"
)

RULE = "ISO 8601 between 0001-01-01 and 9999-12-31, as in 2024-05-31 or 2024-05-31T12:00:00Z"

# The driver takes these for minus and plus infinity.
_BEFORE_ALL, _AFTER_ALL = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def parse_date(text: str) -> datetime | None:
    """The instant in UTC, to the microsecond; None for what is no date, or not between those of `RULE`."""
    found = _DATE.fullmatch(text)
    if found is None:
        return None
    day, time, fraction, offset = found.group("day", "time", "fraction", "offset")
    try:
        instant = datetime.fromisoformat(
            f"{day}T{time.removesuffix(fraction or '') if time else '00:00'}{offset or 'Z'}"
        )
        instant = instant.astimezone(UTC) + timedelta(microseconds=round(float(fraction or 0) * 1_000_000))
    except (ValueError, OverflowError):
        return None
    return instant if _BEFORE_ALL < instant < _AFTER_ALL else None
