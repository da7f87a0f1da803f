"""Filters over metadata: parsed and limited here, compiled to bound SQL that the GIN index answers.

The language is Mongo's: `{"lang": "en", "year": {"$eq": 2020}}` means that both hold, a dotted name reaches into
nested objects, equality also matches an element of an array, and equality with null a missing field.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ARRAY, TEXT, ColumnElement, and_, bindparam, or_, true
from sqlalchemy.dialects.postgresql import JSONB

from shared.strict_json import JsonValueError, check_storable

MAX_DEPTH = 8
MAX_CONDITIONS = 100


class InvalidFilterError(Exception):
    """The filter breaks a rule. `pointer` is the RFC 6901 address within the filter."""

    def __init__(self, pointer: str, detail: str) -> None:
        super().__init__(f"{pointer or '/'}: {detail}")
        self.pointer = pointer
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Equals:
    """The metadata field at `path` is `value` (a JSON scalar), or is an array that holds it."""

    path: tuple[str, ...]
    value: Any


@dataclass(frozen=True, slots=True)
class Filter:
    """All conditions hold. No conditions: everything matches."""

    conditions: tuple[Equals, ...]


def parse_filter(document: Any) -> Filter:
    """
    Raises:
        InvalidFilterError: with the address of what is wrong.
    """
    if not isinstance(document, dict):
        raise InvalidFilterError("", f"a filter is an object, not {_kind(document)}")
    if len(document) > MAX_CONDITIONS:
        raise InvalidFilterError("", f"a filter has at most {MAX_CONDITIONS} conditions")
    return Filter(tuple(_condition(name, value) for name, value in document.items()))


def _condition(name: str, value: Any) -> Equals:
    pointer = "/" + name.replace("~", "~0").replace("/", "~1")
    if name.startswith("$"):
        raise InvalidFilterError(pointer, f"{name!r} is no operator here; a filter holds field names")
    path = tuple(name.split("."))
    if not all(path) or len(path) > MAX_DEPTH:
        raise InvalidFilterError(pointer, f"a field name is 1 to {MAX_DEPTH} names joined by dots")
    if isinstance(value, dict):
        operators = [key for key in value if key.startswith("$")]
        if operators and len(operators) < len(value):
            raise InvalidFilterError(pointer, "operators and fields cannot stand side by side")
        if operators:
            if operators != ["$eq"]:
                unknown = next(key for key in operators if key != "$eq")
                raise InvalidFilterError(f"{pointer}/{unknown}", f"{unknown!r} is no operator; there is $eq")
            pointer, value = f"{pointer}/$eq", value["$eq"]
    if isinstance(value, dict | list):
        raise InvalidFilterError(
            pointer, f"equality compares with a string, number, boolean or null, not {_kind(value)}"
        )
    try:
        check_storable(name, pointer)
        check_storable(value, pointer)
    except JsonValueError as error:
        raise InvalidFilterError(error.pointer, error.detail) from error
    return Equals(path, value)


def compile_filter(parsed: Filter, metadata: ColumnElement[Any]) -> ColumnElement[bool]:
    """The condition over a jsonb column `metadata`; all values are bound."""
    conditions = [_equals(condition, metadata) for condition in parsed.conditions]
    return and_(*conditions) if conditions else true()


def _equals(condition: Equals, metadata: ColumnElement[Any]) -> ColumnElement[bool]:
    here = _contains(metadata, condition.path, condition.value)
    in_array = _contains(metadata, condition.path, [condition.value])
    if condition.value is None:
        path = bindparam(None, list(condition.path), unique=True, type_=ARRAY(TEXT))
        return or_(here, in_array, metadata.op("#>")(path).is_(None))
    return or_(here, in_array)


def _contains(metadata: ColumnElement[Any], path: tuple[str, ...], value: Any) -> ColumnElement[bool]:
    for name in reversed(path):
        value = {name: value}
    return metadata.op("@>", is_comparison=True)(bindparam(None, value, unique=True, type_=JSONB))


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
        case dict():
            return "an object"
        case _:
            return type(value).__name__
