"""Instants as request bodies carry them: RFC 3339, with their zone."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from shared.read_model.dates import parse_date

_RFC_3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})", re.ASCII
)


def _instant(value: Any) -> datetime | None:
    if value is None:
        return None
    instant = parse_date(value) if isinstance(value, str) and _RFC_3339.fullmatch(value) else None
    if instant is None:
        raise PydanticCustomError(
            "instant", "an instant is a text by RFC 3339 with seconds and a zone, as in 2030-05-31T12:00:00Z"
        )
    return instant


Instant = Annotated[datetime, BeforeValidator(_instant), WithJsonSchema({"type": "string", "format": "date-time"})]
"""In UTC, to the microsecond."""
