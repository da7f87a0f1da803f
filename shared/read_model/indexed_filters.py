"""Which part of a filter the indexes of a records table answer. The rest is checked record by record."""

from __future__ import annotations

from datetime import datetime
from typing import assert_never

from shared.read_model.conditions import (
    EVERYTHING,
    AllOf,
    AnyOf,
    Compares,
    Exists,
    Filter,
    HoldsAll,
    IsLike,
    IsOneOf,
    Not,
)
from shared.read_model.fields import SystemField


def indexed_part(parsed: Filter) -> Filter:
    """What indexes answer, and what holds wherever `parsed` does; `EVERYTHING` if there is nothing narrower."""
    match parsed:
        case AllOf():
            parts = tuple(part for one in parsed.conditions if (part := indexed_part(one)) != EVERYTHING)
            return AllOf(parts)
        case AnyOf():
            parts = tuple(map(indexed_part, parsed.conditions))
            return EVERYTHING if EVERYTHING in parts else AnyOf(parts)
        case IsOneOf():
            return parsed if _is_answered(parsed) else EVERYTHING
        case HoldsAll():
            return parsed
        case Compares():
            return parsed if parsed.field is SystemField.ID else EVERYTHING
        case Not() | Exists() | IsLike():
            return EVERYTHING
        case _:
            assert_never(parsed)


def _is_answered(parsed: IsOneOf) -> bool:
    if isinstance(parsed.field, SystemField):
        return parsed.field is SystemField.ID
    return not any(value is None or isinstance(value, datetime) for value in parsed.values)
