"""From a filter to the condition of a SQL statement. Whatever a request brings is bound."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, assert_never

import orjson
from sqlalchemy import (
    ARRAY,
    FLOAT,
    INTEGER,
    NUMERIC,
    TEXT,
    TIMESTAMP,
    ColumnElement,
    and_,
    any_,
    bindparam,
    exists,
    false,
    func,
    literal_column,
    or_,
    true,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine, UserDefinedType

from events_schema.collections import MetadataIndexType
from shared.read_model import jsonpaths
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
from shared.read_model.fields import MetadataField, SystemField
from shared.read_model.metadata_indexes import NO_INDEXES, MetadataIndex, MetadataIndexes, index_for

Expression = ColumnElement[Any]
Condition = ColumnElement[bool]


class _JsonPath(UserDefinedType[str]):
    cache_ok = True
    render_bind_cast = True

    def get_col_spec(self, **_: Any) -> str:
        return "JSONPATH"


_DOUBLE: TypeEngine[float] = FLOAT(53)
_INSTANT = TIMESTAMP(timezone=True)
_COLUMN_TYPES: dict[SystemField, TypeEngine[Any]] = {
    SystemField.ID: TEXT(),
    SystemField.CONTENT: TEXT(),
    SystemField.CREATED_AT: _INSTANT,
    SystemField.UPDATED_AT: _INSTANT,
    SystemField.VERSION: _DOUBLE,
}
_KEY_TYPES: dict[MetadataIndexType, TypeEngine[Any]] = {
    "string": TEXT(),
    "number": NUMERIC(),
    "boolean": INTEGER(),
    "date": _INSTANT,
}

_LITERALLY = re.compile(r"(?:\\.|[^%_\\])*", re.DOTALL)
_GREATEST = "\U0010ffff"

_Leaf = IsOneOf | Compares | Exists | IsLike


def compile_filter(parsed: Filter, table: str, indexes: MetadataIndexes = NO_INDEXES) -> Condition:
    """A condition over the columns of a records table that the statement calls `table`. `indexes` are those over its
    metadata that the condition is to be written for; what is found is the same without."""
    return _Compiler(table, indexes).condition(parsed)


class _Compiler:
    def __init__(self, table: str, indexes: MetadataIndexes) -> None:
        self._table = table
        self._indexes = indexes
        self._metadata: Expression = literal_column(f"{table}.metadata", JSONB)

    def condition(self, parsed: Filter) -> Condition:
        match parsed:
            case AllOf():
                return and_(true(), *self._all_of(parsed))
            case AnyOf():
                return or_(false(), *map(self.condition, parsed.conditions))
            case Not():
                # What cannot be compared is unknown in SQL, and here it is not the case.
                return self.condition(parsed.condition).is_not(True)
            case HoldsAll():
                return self._holds_all(parsed.field, parsed.values)
            case _ if isinstance(parsed.field, SystemField):
                return self._of_column(parsed, parsed.field)
            case _:
                return self._of_metadata(parsed, parsed.field)

    def _of_column(self, parsed: IsOneOf | Compares | Exists | IsLike, field: SystemField) -> Condition:
        column: Expression = literal_column(f"{self._table}.{field.value}")
        column_type = _COLUMN_TYPES[field]
        match parsed:
            case IsOneOf():
                given = [value for value in parsed.values if value is not None]
                found = _is_any(column, given, column_type)
                return found if len(given) == len(parsed.values) else or_(found, column.is_(None))
            case Compares():
                ordered = column.collate("C") if isinstance(parsed.value, str) else column
                return _compared(ordered, parsed, column_type)
            case Exists():
                return column.is_not(None)
            case IsLike(ignore_case=True):
                # By the database's collation: the id's own knows the case of ASCII letters only.
                return column.collate("default").ilike(_bound(parsed.pattern, TEXT()))
            case IsLike():
                return column.like(_bound(parsed.pattern, TEXT()))
            case _:
                assert_never(parsed)

    def _all_of(self, parsed: AllOf) -> list[Condition]:
        """What one index answers is looked up in it together: of two bounds alone, each would read its half of it."""
        through: dict[MetadataIndex, list[_Leaf]] = {}
        others: list[Condition] = []
        for one in _side_by_side(parsed):
            index = index_for(one, self._indexes)
            if index is None:
                others.append(self.condition(one))
            else:
                assert isinstance(one, IsOneOf | Compares | IsLike)
                through.setdefault(index, []).append(one)
        return [*(self._through(index, conditions) for index, conditions in through.items()), *others]

    def _of_metadata(self, parsed: _Leaf, field: MetadataField) -> Condition:
        index = index_for(parsed, self._indexes)
        return self._in_metadata(parsed, field) if index is None else self._through(index, [parsed])

    def _through(self, index: MetadataIndex, conditions: Sequence[_Leaf]) -> Condition:
        """All of them, on the index's field."""
        key: Expression = literal_column(index.expression(f"{self._table}.metadata"))
        unclear: Expression = literal_column(index.unclear)
        matches = and_(true(), *(_key_matches(key, one, index) for one in conditions))
        in_metadata = and_(true(), *(self._in_metadata(one, index.field) for one in conditions))
        return and_(or_(matches, key == unclear), or_(key != unclear, in_metadata))

    def _in_metadata(self, parsed: _Leaf, field: MetadataField) -> Condition:
        match parsed:
            case IsOneOf():
                return self._is_one_of(field, parsed.values)
            case Compares():
                return self._compares(field, parsed)
            case Exists():
                return self._matches(jsonpaths.exists(field.path))
            case IsLike():
                return self._matches(jsonpaths.is_like(field.path, parsed.pattern, ignore_case=parsed.ignore_case))
            case _:
                assert_never(parsed)

    def _is_one_of(self, field: MetadataField, values: Sequence[Value]) -> Condition:
        dates = [value for value in values if isinstance(value, datetime)]
        others = [value for value in values if not isinstance(value, datetime)]
        alternatives = []
        if others:
            alternatives.append(self._matches(jsonpaths.is_one_of(field.path, others)))
        if dates:
            alternatives.append(self._any_date(field, lambda date: _is_any(date, dates, _INSTANT)))
        return or_(false(), *alternatives)

    def _compares(self, field: MetadataField, parsed: Compares) -> Condition:
        if isinstance(parsed.value, datetime):
            return self._any_date(field, lambda date: _compared(date, parsed, _INSTANT))
        return self._matches(jsonpaths.compares(field.path, parsed.comparison, parsed.value))

    def _holds_all(self, field: MetadataField, values: Sequence[Value]) -> Condition:
        # The index answers the first condition, to which a value outside of an array is as good.
        reached = func.jsonb_path_query(self._metadata, _bound(jsonpaths.accessor(field.path), _JsonPath()))
        value: Expression = reached.column_valued()
        wanted = _bound(orjson.dumps(values).decode(), JSONB())
        held = value.op("@>", is_comparison=True)(wanted)
        return and_(
            self._matches(jsonpaths.holds_all(field.path, values)),
            exists().where(func.jsonb_typeof(value) == literal_column("'array'"), held),
        )

    def _any_date(self, field: MetadataField, matches: Callable[[Expression], Condition]) -> Condition:
        elements = jsonpaths.elements(field.path)
        value: Expression = func.jsonb_path_query(self._metadata, _bound(elements, _JsonPath())).column_valued()
        return exists().where(matches(func.metadata_date(value)))

    def _matches(self, predicate: str) -> Condition:
        return self._metadata.op("@@", is_comparison=True)(_bound(predicate, _JsonPath()))


def _bound(value: Any, sql_type: TypeEngine[Any]) -> Expression:
    return bindparam(None, value, unique=True, type_=sql_type)


def _is_any(value: Expression, values: Sequence[Any], sql_type: TypeEngine[Any]) -> Condition:
    if len(values) == 1:
        return value == _bound(values[0], sql_type)
    return value == any_(_bound(list(values), ARRAY(sql_type)))


def _compared(value: Expression, wanted: Compares, sql_type: TypeEngine[Any]) -> Condition:
    return value.op(wanted.comparison, is_comparison=True)(_bound(wanted.value, sql_type))


def _side_by_side(parsed: AllOf) -> Iterator[Filter]:
    for one in parsed.conditions:
        if isinstance(one, AllOf):
            yield from _side_by_side(one)
        else:
            yield one


def _key_matches(key: Expression, parsed: _Leaf, index: MetadataIndex) -> Condition:
    key_type = _KEY_TYPES[index.type]
    match parsed:
        case IsOneOf():
            return _is_any(key, [_as_key(value, index) for value in parsed.values], key_type)
        case Compares():
            compared = key.op(parsed.comparison, is_comparison=True)(_bound(_as_key(parsed.value, index), key_type))
            # Not knowing the values, PostgreSQL takes half a range for a third of all rows, and a whole one for few.
            if parsed.comparison in (">", ">="):
                return and_(compared, key < literal_column(index.unclear))
            return and_(compared, key >= literal_column(index.least))
        case IsLike():
            # PostgreSQL finds the beginning by itself only if it knows the pattern when it plans.
            beginning = _beginning(parsed.pattern)
            return and_(
                key >= _bound(beginning, key_type),
                key < _bound(_beyond(beginning), key_type),
                key.like(_bound(parsed.pattern, key_type)),
            )
        case Exists():
            raise AssertionError("no index answers whether a field is there")


def _beginning(pattern: str) -> str:
    """What every text begins with that matches, up to the first wildcard."""
    found = _LITERALLY.match(pattern)
    assert found is not None
    return re.sub(r"\\(.)", r"\1", found[0], flags=re.DOTALL)


def _beyond(beginning: str) -> str:
    """A text above all that begin so. In order of code points, of which surrogates are none."""
    stem = beginning.rstrip(_GREATEST)
    if not stem:
        return _GREATEST * (len(beginning) + 1)
    last = ord(stem[-1]) + 1
    return stem[:-1] + chr(0xE000 if last == 0xD800 else last)


def _as_key(value: Value, index: MetadataIndex) -> Any:
    """As the index's expression has it."""
    match index.type:
        case "number":
            return Decimal(orjson.dumps(value).decode())
        case "boolean":
            assert isinstance(value, bool)
            return int(value)
        case "string" | "date":
            return value
