"""Names of fields in filters: metadata by plain dotted names, system fields behind a dollar.

`author.name` reaches into nested metadata; `$id` is the vector's id, so metadata may have an `id` of its own. In a name
that metadata uses, a backslash takes a dot, a dollar or a backslash literally: `a\\.b`, `\\$id`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from shared.strict_json import JsonValueError, check_text

MAX_PATH = 8
"""Metadata is at most so deep."""

_ESCAPABLE = "\\.$"


class InvalidFieldError(Exception):
    """The name of a field breaks a rule, which the message says."""


@dataclass(frozen=True, slots=True)
class MetadataField:
    """From the metadata object inwards: the name of each nested field."""

    path: tuple[str, ...]


class SystemField(Enum):
    """The value is the name of the column."""

    ID = "id"
    CONTENT = "content"
    CREATED_AT = "created_at"
    UPDATED_AT = "updated_at"
    VERSION = "version"


Field = MetadataField | SystemField

SYSTEM_FIELDS = {f"${field.value}": field for field in SystemField}


def parse_metadata_field(name: str) -> MetadataField:
    """
    Raises:
        InvalidFieldError
    """
    try:
        check_text(name)
    except JsonValueError as error:
        raise InvalidFieldError(error.detail) from error
    path = [""]
    characters = iter(name)
    for character in characters:
        if character == ".":
            path.append("")
            continue
        if character == "\\":
            character = next(characters, "")
            if character not in _ESCAPABLE or not character:
                raise InvalidFieldError(r"a backslash in a field name stands before a dot, a dollar or a backslash")
        path[-1] += character
    if not all(path) or len(path) > MAX_PATH:
        raise InvalidFieldError(f"a field name is 1 to {MAX_PATH} names joined by dots")
    return MetadataField(tuple(path))
