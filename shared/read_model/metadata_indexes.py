"""Typed indexes over a field of the metadata, as collections declare them: B-trees over an expression.

The expression is the field's value where it is a single one of the declared type. Where it may stand for several (an
array is on the way) or is too long for an index, it is `unclear`, and the metadata itself has to be asked; everything
else is NULL. So a condition is answered the same with and without the index.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from shared.read_model.conditions import Value
from shared.read_model.fields import MetadataField

MetadataType = Literal["text", "number", "boolean", "date"]

_MAX_CHARACTERS = 256
"""A B-tree takes entries of up to 2,700 bytes."""

_JSON_TYPES = {"text": "string", "number": "number", "boolean": "boolean", "date": "string"}

_VALUES = {
    "text": "CASE WHEN length({text}) <= " + str(_MAX_CHARACTERS) + " THEN {text} ELSE {unclear} END",
    "number": "({value})::numeric",
    "boolean": "({value})::boolean::int",
    "date": "metadata_date({value})",
}

# Compared with what the metadata holds, these cost one look too many where they occur there, nothing worse.
_UNCLEAR = {"text": "U&'\\+10FFFF'", "number": "'NaN'::numeric", "boolean": "2", "date": "'infinity'::timestamptz"}


@dataclass(frozen=True, slots=True)
class MetadataIndex:
    field: MetadataField
    type: MetadataType

    @property
    def unclear(self) -> str:
        """The SQL literal of the value that says nothing."""
        return _UNCLEAR[self.type]

    def holds(self, value: Value) -> bool:
        """Whether it is of the declared type."""
        match value:
            case bool():
                return self.type == "boolean"
            case int() | float():
                return self.type == "number"
            case str():
                return self.type == "text"
            case datetime():
                return self.type == "date"
            case None:
                return False

    def expression(self, metadata: str) -> str:
        """SQL over the column `metadata`. The field's names are in it as literals: an index is found by its text."""
        steps = [_quoted(name) for name in self.field.path]
        reached = [" -> ".join((metadata, *steps[: end + 1])) for end in range(len(steps))]
        value = reached[-1]
        text = f"{' -> '.join((metadata, *steps[:-1]))} ->> {steps[-1]}"
        several = " OR ".join(f"jsonb_typeof({one}) = 'array'" for one in reached)
        single = _VALUES[self.type].format(value=value, text=text, unclear=self.unclear)
        collation = ' COLLATE "C"' if self.type == "text" else ""
        return (
            f"(CASE WHEN {several} THEN {self.unclear}"
            f" WHEN jsonb_typeof({value}) = '{_JSON_TYPES[self.type]}' THEN {single} END){collation}"
        )


MetadataIndexes = Mapping[MetadataField, MetadataIndex]

NO_INDEXES: MetadataIndexes = {}


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
