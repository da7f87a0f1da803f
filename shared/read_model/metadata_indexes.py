"""Typed indexes over a field of the metadata, as collections declare them: B-trees over an expression.

The expression is the field's value where it is a single one of the declared type. Where it may stand for several (an
array is on the way), or is a text that is no good as a key, it is `unclear`, and the metadata itself has to be asked;
everything else is NULL. So a condition is answered the same with and without the index, and nothing that metadata may
hold makes the expression fail.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b

from events_schema.collections import MetadataIndexSpec, MetadataIndexType
from shared.read_model.conditions import Compares, Filter, IsLike, IsOneOf, Value
from shared.read_model.fields import InvalidFieldError, MetadataField, parse_metadata_field

MAX_METADATA_INDEXES = 16
"""Of one collection: every write of a vector goes into each of them."""

MAX_FIELD_CHARACTERS = 255

_MAX_KEY_CHARACTERS = 256
"""A B-tree takes entries of up to 2,700 bytes."""

# A text that begins with the greatest code point is left to the metadata, so all that are keys are below `unclear`.
_KEYS: Mapping[MetadataIndexType, str] = {
    "string": f"CASE WHEN length({{text}}) <= {_MAX_KEY_CHARACTERS}"
    ' AND {text} COLLATE "C" < {unclear} THEN {text} ELSE {unclear} END',
    "number": "({value})::numeric",
    "boolean": "({value})::boolean::int",
    "date": "metadata_date({value})",
}

_JSON_TYPES: Mapping[MetadataIndexType, str] = {
    "string": "string",
    "number": "number",
    "boolean": "boolean",
    "date": "string",
}

# No key is one of these: metadata has no NaN, a date no infinity.
_UNCLEAR: Mapping[MetadataIndexType, str] = {
    "string": r"U&'\+10FFFF'",
    "number": "'NaN'::numeric",
    "boolean": "2",
    "date": "'infinity'::timestamptz",
}

_LEAST: Mapping[MetadataIndexType, str] = {
    "string": "''",
    "number": "'-infinity'::numeric",
    "boolean": "0",
    "date": "'-infinity'::timestamptz",
}


@dataclass(frozen=True, slots=True)
class MetadataIndex:
    field: MetadataField
    type: MetadataIndexType

    @property
    def unclear(self) -> str:
        """The SQL literal of the value that says nothing. It is above every key."""
        return _UNCLEAR[self.type]

    @property
    def least(self) -> str:
        """The SQL literal of a value that no key is below."""
        return _LEAST[self.type]

    def holds(self, value: Value) -> bool:
        """Whether it is of the declared type."""
        match value:
            case bool():
                return self.type == "boolean"
            case int() | float():
                return self.type == "number"
            case str():
                return self.type == "string"
            case datetime():
                return self.type == "date"
            case None:
                return False

    def answers(self, parsed: IsOneOf | Compares | IsLike) -> bool:
        """Whether it finds what fulfils the condition on its field."""
        match parsed:
            case IsOneOf():
                return all(map(self.holds, parsed.values))
            case Compares():
                return self.holds(parsed.value)
            case IsLike():
                # Of a pattern it finds the beginning, up to the first wildcard.
                return self.type == "string" and not parsed.ignore_case and parsed.pattern[:1] not in ("", "%", "_")

    def expression(self, metadata: str) -> str:
        """SQL over the column `metadata`. The field's names are in it as literals: an index is found by its text."""
        steps = [_quoted(name) for name in self.field.path]
        reached = [" -> ".join((metadata, *steps[: end + 1])) for end in range(len(steps))]
        value = reached[-1]
        text = f"({' -> '.join((metadata, *steps[:-1]))} ->> {steps[-1]})"
        several = " OR ".join(f"jsonb_typeof({one}) = 'array'" for one in reached)
        key = _KEYS[self.type].format(value=value, text=text, unclear=self.unclear)
        collation = ' COLLATE "C"' if self.type == "string" else ""
        return (
            f"(CASE WHEN {several} THEN {self.unclear}"
            f" WHEN jsonb_typeof({value}) = '{_JSON_TYPES[self.type]}' THEN {key} END){collation}"
        )

    def name(self, table: str) -> str:
        """Of the index over this table, which tells fields, types and expressions apart."""
        return f"{table}_m{blake2b(self.expression('metadata').encode(), digest_size=4).hexdigest()}"

    def statement(self, table: str, *, concurrently: bool) -> str:
        concurrent = "CONCURRENTLY " if concurrently else ""
        return f"CREATE INDEX {concurrent}{self.name(table)} ON {table} ({self.expression('metadata')})"


MetadataIndexes = Mapping[MetadataField, MetadataIndex]

NO_INDEXES: MetadataIndexes = {}


def parse_indexed_field(name: str) -> MetadataField:
    """
    Raises:
        InvalidFieldError
    """
    if name.startswith("$"):
        raise InvalidFieldError(r"an index is over a field of the metadata; one that begins with a dollar is named \$")
    return parse_metadata_field(name)


def index_of(spec: MetadataIndexSpec) -> MetadataIndex:
    return MetadataIndex(parse_indexed_field(spec.field), spec.type)


def indexes_of(specs: Iterable[MetadataIndexSpec]) -> MetadataIndexes:
    """By field."""
    found = map(index_of, specs)
    return {index.field: index for index in found}


def index_for(parsed: Filter, indexes: MetadataIndexes) -> MetadataIndex | None:
    """The one that answers the condition."""
    if not isinstance(parsed, IsOneOf | Compares | IsLike) or not isinstance(parsed.field, MetadataField):
        return None
    index = indexes.get(parsed.field)
    return index if index is not None and index.answers(parsed) else None


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return f"E'{escaped}'" if "\\" in text else f"'{escaped}'"
