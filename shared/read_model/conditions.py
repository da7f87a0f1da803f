"""What a filter says once it is parsed: conditions on fields, joined by and, or and not.

A field's values are what its path reaches; an array, on the way or at the end, stands for its elements. All classes are
frozen, and their `repr` tells any two filters apart (1 from 1.0 from true), so it serves as a key.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from shared.read_model.fields import Field, MetadataField
from shared.read_model.jsonpaths import Comparison

Scalar = str | int | float | bool | None
"""int is of 64 bits, float finite."""

Value = Scalar | datetime
"""A datetime is aware and in UTC; in metadata it is compared with strings that are dates."""


@dataclass(frozen=True, slots=True)
class IsOneOf:
    """One of the field's values is one of these. None also stands for a field that is not there."""

    field: Field
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Compares:
    """One of the field's values is of this value's type, and below or above it. Strings in order of code points."""

    field: Field
    comparison: Comparison
    value: str | float | datetime


@dataclass(frozen=True, slots=True)
class HoldsAll:
    """The field is an array that holds all of these, none of which is a date."""

    field: MetadataField
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Exists:
    """The field is there, be it null."""

    field: Field


@dataclass(frozen=True, slots=True)
class IsLike:
    """One of the field's values is a string that matches the SQL pattern as a whole."""

    field: Field
    pattern: str
    ignore_case: bool


@dataclass(frozen=True, slots=True)
class Not:
    """The condition does not hold, for instance because the field is not there."""

    condition: Filter


@dataclass(frozen=True, slots=True)
class AllOf:
    """Without conditions: everything matches."""

    conditions: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    conditions: tuple[Filter, ...]


Filter = IsOneOf | Compares | HoldsAll | Exists | IsLike | Not | AllOf | AnyOf

EVERYTHING = AllOf(())
