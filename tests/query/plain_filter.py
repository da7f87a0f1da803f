"""Filters evaluated plainly, one vector at a time, as docs/concepts/filters.md says; with nothing of the code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson

DATES: Mapping[str, datetime | None] = {
    "2024-02-29": datetime(2024, 2, 29, tzinfo=UTC),
    "2023-02-29": None,
    "2024-02-29T00:00:00Z": datetime(2024, 2, 29, tzinfo=UTC),
    "2024-02-29 01:30+01:30": datetime(2024, 2, 29, tzinfo=UTC),
    "2024-02-28T23:59:59.999999-00": datetime(2024, 2, 28, 23, 59, 59, 999999, tzinfo=UTC),
    "2024-02-29T12:00": datetime(2024, 2, 29, 12, tzinfo=UTC),
    "2024-02-29T12:00:00.0000015Z": datetime(2024, 2, 29, 12, 0, 0, 2, tzinfo=UTC),
    "2024-02-29T24:00:00Z": None,
    "2024-02-29T12:00:00+16:00": None,
    "1969-07-20T20:17:40Z": datetime(1969, 7, 20, 20, 17, 40, tzinfo=UTC),
    "9999-12-31T23:59:59Z": datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
    "0001-01-01": datetime(1, 1, 1, tzinfo=UTC),
    "today": None,
    "infinity": None,
    "20240229": None,
    " 2024-02-29": None,
    "2024-02-29\n": None,
}
"""Text -> the instant that it means, None if it is no date."""


@dataclass(frozen=True, slots=True)
class Vector:
    id: str
    content: str | None
    created_at: datetime
    updated_at: datetime
    version: int
    metadata: Mapping[str, Any]


Paths = Mapping[str, Sequence[str]]
"""A field's name in filters -> where it is in the metadata."""


def matches(vector: Vector, document: Mapping[str, Any], paths: Paths) -> bool:
    return all(_entry(vector, name, value, paths) for name, value in document.items())


def _entry(vector: Vector, name: str, value: Any, paths: Paths) -> bool:
    match name:
        case "$and":
            return all(matches(vector, one, paths) for one in value)
        case "$or":
            return any(matches(vector, one, paths) for one in value)
        case "$not":
            return not matches(vector, value, paths)
        case "$id" | "$content" | "$created_at" | "$updated_at" | "$version":
            stored = getattr(vector, name[1:])
            return _condition([] if stored is None else [stored], value)
        case _:
            return _condition(_reached(vector.metadata, paths[name]), value)


def _reached(metadata: Mapping[str, Any], path: Sequence[str]) -> list[Any]:
    reached: list[Any] = [metadata]
    for name in path:
        objects = [inner for one in reached for inner in (one if isinstance(one, list) else [one])]
        reached = [one[name] for one in objects if isinstance(one, dict) and name in one]
    return reached


def _condition(reached: list[Any], value: Any) -> bool:
    if isinstance(value, dict) and "$date" not in value:
        return all(_operator(reached, name, argument) for name, argument in value.items())
    return _operator(reached, "$eq", value)


def _operator(reached: list[Any], name: str, argument: Any) -> bool:
    values = [inner for one in reached for inner in (one if isinstance(one, list) else [one])]
    match name:
        case "$eq":
            return any(_same(value, argument) for value in values) or (argument is None and not reached)
        case "$ne":
            return not _operator(reached, "$eq", argument)
        case "$in":
            return any(_operator(reached, "$eq", one) for one in argument)
        case "$nin":
            return not _operator(reached, "$in", argument)
        case "$gt" | "$gte" | "$lt" | "$lte":
            return any(_compares(value, name, argument) for value in values)
        case "$exists":
            return bool(reached) is argument
        case "$contains":
            wanted = argument if isinstance(argument, list) else [argument]
            arrays = [one for one in reached if isinstance(one, list)]
            return any(all(any(_same(item, one) for item in array) for one in wanted) for array in arrays)
        case "$like":
            return any(isinstance(value, str) and _is_like(value, argument) for value in values)
        case "$ilike":
            return any(isinstance(value, str) and _is_like(value.lower(), argument.lower()) for value in values)
        case "$not":
            return not _condition(reached, argument)
        case _:
            raise AssertionError(name)


def _compares(value: Any, name: str, argument: Any) -> bool:
    left, right = _ordered(value, argument), _ordered(argument, argument)
    if left is None or right is None or type(left) is not type(right):
        return False
    compare: Callable[[Any, Any], bool] = {
        "$gt": lambda a, b: a > b, "$gte": lambda a, b: a >= b, "$lt": lambda a, b: a < b, "$lte": lambda a, b: a <= b
    }[name]  # fmt: skip
    return compare(left, right)


def _same(value: Any, wanted: Any) -> bool:
    """JSON equality: true is not 1, but 1 is 1.0."""
    left, right = _ordered(value, wanted), _ordered(wanted, wanted)
    return type(left) is type(right) and left == right if left is not None else value is None and wanted is None


def _ordered(value: Any, wanted: Any) -> Any:
    """Numbers are what is written of them; a string is a date where it is compared with one."""
    match value:
        case {"$date": text}:
            return _date(text)
        case str() if isinstance(wanted, dict):
            return _date(value)
        case bool() | str() | datetime():
            return value
        case int() | float():
            return Decimal(orjson.dumps(value).decode())
        case _:
            return None


def _date(text: str) -> datetime | None:
    return DATES.get(text)


def _is_like(text: str, pattern: str) -> bool:
    tokens: list[tuple[str, str]] = []
    characters = iter(pattern)
    for character in characters:
        if character == "\\":
            tokens.append(("literally", next(characters)))
        else:
            tokens.append(("any text" if character == "%" else "any" if character == "_" else "literally", character))
    # ends[n]: the text up to n matches the tokens so far.
    ends = [True] + [False] * len(text)
    for kind, character in tokens:
        before, ends = ends, [False] * (len(text) + 1)
        for end in range(len(text) + 1):
            if kind == "any text":
                ends[end] = before[end] or (end > 0 and ends[end - 1])
            elif end > 0:
                ends[end] = before[end - 1] and (kind == "any" or text[end - 1] == character)
    return ends[-1]
