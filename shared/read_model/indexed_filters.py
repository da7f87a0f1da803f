"""Which part of a filter the indexes of a records table answer, and which one its partitions. The rest is checked
record by record."""

from __future__ import annotations

from collections.abc import Callable
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
from shared.read_model.metadata_indexes import NO_INDEXES, MetadataIndexes, index_for

_Leaf = IsOneOf | Compares | HoldsAll | IsLike


def indexed_part(parsed: Filter, indexes: MetadataIndexes = NO_INDEXES) -> Filter:
    """What indexes answer, those over single fields of the metadata included, and what holds wherever `parsed` does;
    `EVERYTHING` if there is nothing narrower."""
    return _part(parsed, lambda one: index_for(one, indexes) is not None or _is_indexed(one))


def dated_part(parsed: Filter) -> Filter:
    """The same of what is said about created_at, by which tables may be divided."""
    return _part(parsed, lambda one: one.field is SystemField.CREATED_AT)


def _part(parsed: Filter, is_answered: Callable[[_Leaf], bool]) -> Filter:
    match parsed:
        case AllOf():
            parts = tuple(part for one in parsed.conditions if (part := _part(one, is_answered)) != EVERYTHING)
            return AllOf(parts)
        case AnyOf():
            parts = tuple(_part(one, is_answered) for one in parsed.conditions)
            return EVERYTHING if EVERYTHING in parts else AnyOf(parts)
        case IsOneOf() | Compares() | HoldsAll() | IsLike():
            return parsed if is_answered(parsed) else EVERYTHING
        case Not() | Exists():
            return EVERYTHING
        case _:
            assert_never(parsed)


def _is_indexed(parsed: _Leaf) -> bool:
    match parsed:
        case HoldsAll():
            return True
        case IsLike():
            return False
        case Compares():
            return parsed.field is SystemField.ID
        case IsOneOf():
            if isinstance(parsed.field, SystemField):
                return parsed.field is SystemField.ID
            return not any(value is None or isinstance(value, datetime) for value in parsed.values)
        case _:
            assert_never(parsed)
