"""The filter language: a JSON document, parsed and limited.

It is Mongo's as users of vector databases know it: `{"lang": "en", "year": {"$gte": 2020}}` means that both hold. The
documentation (docs/concepts/filters.md) has every operator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shared.read_model.conditions import (
    AllOf,
    AnyOf,
    Compares,
    Exists,
    Filter,
    HoldsAll,
    IsLike,
    IsOneOf,
    Not,
    Value,
)
from shared.read_model.dates import RULE, parse_date
from shared.read_model.fields import (
    SYSTEM_FIELDS,
    Field,
    InvalidFieldError,
    SystemField,
    parse_metadata_field,
)
from shared.read_model.jsonpaths import Comparison
from shared.strict_json import JsonValueError, check_storable

MAX_DEPTH = 8
MAX_CONDITIONS = 100
MAX_VALUES = 1_000
MAX_ALL_VALUES = 5_000
MAX_PATTERN = 1_000
MAX_TEXT_BYTES = 1024 * 1024

_COMPARISONS: Mapping[str, Comparison] = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
_LOGICAL = ("$and", "$or", "$not")
_OPERATORS = ("$eq", "$ne", *_COMPARISONS, "$in", "$nin", "$exists", "$contains", "$like", "$ilike", "$not")

_TYPES: Mapping[SystemField, tuple[str, ...]] = {
    SystemField.ID: ("a string",),
    SystemField.CONTENT: ("a string", "null"),
    SystemField.CREATED_AT: ("a date",),
    SystemField.UPDATED_AT: ("a date",),
    SystemField.VERSION: ("a number",),
}
_ORDERED = ("a string", "a number", "a date")
_STORED = ("a string", "a number", "a boolean", "null")
_SCALARS = (*_ORDERED, "a boolean", "null")


class InvalidFilterError(Exception):
    """The filter breaks a rule. `pointer` is the RFC 6901 address within the filter."""

    def __init__(self, pointer: str, detail: str) -> None:
        super().__init__(f"{pointer or '/'}: {detail}")
        self.pointer = pointer
        self.detail = detail


def parse_filter(document: Any) -> Filter:
    """
    Raises:
        InvalidFilterError: with the address of what is wrong.
    """
    return _Parser().document(document, "", 1)


class _Parser:
    """Counts what the limits bound while it goes through one filter."""

    def __init__(self) -> None:
        self._conditions = 0
        self._values = 0
        self._text_bytes = 0

    def document(self, document: Any, pointer: str, depth: int) -> Filter:
        if not isinstance(document, dict):
            raise InvalidFilterError(pointer, f"a filter is an object, not {_kind(document)}")
        _check_depth(pointer, depth)
        return _all_of([self._entry(name, value, _below(pointer, name), depth) for name, value in document.items()])

    def _entry(self, name: str, value: Any, pointer: str, depth: int) -> Filter:
        match name:
            case "$and":
                return _all_of(self._members(value, pointer, depth))
            case "$or":
                return AnyOf(tuple(self._members(value, pointer, depth)))
            case "$not":
                if value == {}:
                    raise InvalidFilterError(pointer, "takes a filter with at least one condition")
                return Not(self.document(value, pointer, depth + 1))
            case _:
                return self._condition(self._field(name, pointer), value, pointer, depth)

    def _members(self, value: Any, pointer: str, depth: int) -> list[Filter]:
        if not isinstance(value, list) or not value:
            raise InvalidFilterError(pointer, "takes an array of at least one filter")
        if len(value) > MAX_CONDITIONS:
            raise InvalidFilterError(pointer, f"a filter has at most {MAX_CONDITIONS} conditions")
        return [self.document(one, f"{pointer}/{index}", depth + 1) for index, one in enumerate(value)]

    def _field(self, name: str, pointer: str) -> Field:
        if name in SYSTEM_FIELDS:
            return SYSTEM_FIELDS[name]
        if name in _OPERATORS:
            raise InvalidFilterError(pointer, f'stands within a field, as in {{"year": {{"{name}": …}}}}')
        if name.startswith("$"):
            known = ", ".join((*_LOGICAL, *SYSTEM_FIELDS))
            raise InvalidFilterError(pointer, f"is neither an operator nor a system field; there are {known}")
        self._count_text(name, pointer)
        try:
            return parse_metadata_field(name)
        except InvalidFieldError as error:
            raise InvalidFilterError(pointer, str(error)) from error

    def _condition(self, field: Field, value: Any, pointer: str, depth: int) -> Filter:
        """What stands behind a field's name: operators, or the value that it equals."""
        if not isinstance(value, dict) or "$date" in value:
            return self._equals(field, value, pointer)
        if not value:
            raise InvalidFilterError(pointer, "holds no operator")
        for name in value:
            if not name.startswith("$"):
                raise InvalidFilterError(
                    _below(pointer, name), "is no operator; a nested field is named with dots, as in author.name"
                )
        return _all_of([self._operator(field, name, value[name], _below(pointer, name), depth) for name in value])

    def _operator(self, field: Field, name: str, value: Any, pointer: str, depth: int) -> Filter:
        match name:
            case "$eq":
                return self._equals(field, value, pointer)
            case "$ne":
                return Not(self._equals(field, value, pointer))
            case "$in":
                return self._is_one_of(field, value, pointer)
            case "$nin":
                return Not(self._is_one_of(field, value, pointer))
            case "$gt" | "$gte" | "$lt" | "$lte":
                return self._compares(field, _COMPARISONS[name], value, pointer)
            case "$exists":
                return self._exists(field, value, pointer)
            case "$contains":
                return self._holds_all(field, value, pointer)
            case "$like" | "$ilike":
                return self._is_like(field, value, pointer, ignore_case=name == "$ilike")
            case "$not":
                if not isinstance(value, dict) or "$date" in value:
                    raise InvalidFilterError(pointer, "takes an object of operators; to exclude a value there is $ne")
                _check_depth(pointer, depth + 1)
                return Not(self._condition(field, value, pointer, depth + 1))
            case _:
                raise InvalidFilterError(pointer, f"is no operator; there are {', '.join(_OPERATORS)}")

    def _equals(self, field: Field, value: Any, pointer: str) -> Filter:
        self._count_condition(pointer)
        if isinstance(value, list):
            raise InvalidFilterError(pointer, "a field equals one value, not an array; there are $in and $contains")
        return IsOneOf(field, (self._value(value, pointer, _types(field, _SCALARS)),))

    def _is_one_of(self, field: Field, values: Any, pointer: str) -> Filter:
        self._count_condition(pointer)
        return IsOneOf(field, self._list(values, pointer, _types(field, _SCALARS)))

    def _compares(self, field: Field, comparison: Comparison, value: Any, pointer: str) -> Filter:
        self._count_condition(pointer)
        parsed = self._value(value, pointer, _types(field, _ORDERED))
        assert parsed is not None
        return Compares(field, comparison, parsed)

    def _exists(self, field: Field, value: Any, pointer: str) -> Filter:
        self._count_condition(pointer)
        if not isinstance(value, bool):
            raise InvalidFilterError(pointer, f"takes true or false, not {_kind(value)}")
        return Exists(field) if value else Not(Exists(field))

    def _holds_all(self, field: Field, value: Any, pointer: str) -> Filter:
        self._count_condition(pointer)
        if isinstance(field, SystemField):
            raise InvalidFilterError(pointer, f"${field.value} is no array; to look into text there is $like")
        if not isinstance(value, list):
            return HoldsAll(field, (self._value(value, pointer, _STORED),))
        if not value:
            raise InvalidFilterError(pointer, "takes a value or an array of at least one")
        return HoldsAll(field, self._list(value, pointer, _STORED))

    def _is_like(self, field: Field, pattern: Any, pointer: str, *, ignore_case: bool) -> Filter:
        self._count_condition(pointer)
        if not _types(field, ("a string",)):
            raise InvalidFilterError(pointer, f"is for text, which {_named(field)} is not")
        self._value(pattern, pointer, ("a string",))
        if len(pattern) > MAX_PATTERN:
            raise InvalidFilterError(pointer, f"a pattern has at most {MAX_PATTERN} characters, not {len(pattern)}")
        if (len(pattern) - len(pattern.rstrip("\\"))) % 2:
            raise InvalidFilterError(pointer, "the backslash at the end of the pattern stands before nothing")
        return IsLike(field, pattern, ignore_case)

    def _list(self, values: Any, pointer: str, types: Sequence[str]) -> tuple[Value, ...]:
        if not isinstance(values, list):
            raise InvalidFilterError(pointer, f"takes an array of values, not {_kind(values)}")
        if len(values) > MAX_VALUES:
            raise InvalidFilterError(pointer, f"takes at most {MAX_VALUES} values, not {len(values)}")
        return tuple(self._value(one, f"{pointer}/{index}", types) for index, one in enumerate(values))

    def _value(self, value: Any, pointer: str, types: Sequence[str]) -> Value:
        kind = _kind(value)
        if kind not in types:
            raise InvalidFilterError(pointer, f"takes {' or '.join(types)}, not {kind}")
        self._values += 1
        if self._values > MAX_ALL_VALUES:
            raise InvalidFilterError(pointer, f"a filter has at most {MAX_ALL_VALUES} values in all")
        if isinstance(value, dict):
            return _date(value, pointer)
        try:
            check_storable(value, pointer)
        except JsonValueError as error:
            raise InvalidFilterError(error.pointer, error.detail) from error
        if isinstance(value, str):
            self._count_text(value, pointer)
        scalar: Value = value
        return scalar

    def _count_condition(self, pointer: str) -> None:
        self._conditions += 1
        if self._conditions > MAX_CONDITIONS:
            raise InvalidFilterError(pointer, f"a filter has at most {MAX_CONDITIONS} conditions")

    def _count_text(self, text: str, pointer: str) -> None:
        self._text_bytes += len(text.encode(errors="replace"))
        if self._text_bytes > MAX_TEXT_BYTES:
            raise InvalidFilterError(pointer, f"a filter's names and values have at most {MAX_TEXT_BYTES} bytes in all")


def _all_of(conditions: list[Filter]) -> Filter:
    return conditions[0] if len(conditions) == 1 else AllOf(tuple(conditions))


def _check_depth(pointer: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise InvalidFilterError(pointer, f"a filter is nested at most {MAX_DEPTH} levels deep")


def _types(field: Field, types: Sequence[str]) -> Sequence[str]:
    """Those that the field can have."""
    return [one for one in types if one in _TYPES[field]] if isinstance(field, SystemField) else types


def _date(document: dict[str, Any], pointer: str) -> Value:
    text = document["$date"]
    if len(document) > 1:
        raise InvalidFilterError(pointer, "a date has nothing beside $date")
    instant = parse_date(text) if isinstance(text, str) else None
    if instant is None:
        raise InvalidFilterError(f"{pointer}/$date", f"a date is a string in {RULE}")
    return instant


def _below(pointer: str, name: str) -> str:
    return f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"


def _named(field: Field) -> str:
    return f"${field.value}" if isinstance(field, SystemField) else ".".join(field.path)


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
            return "a date" if "$date" in value else "an object"
        case _:
            return type(value).__name__
