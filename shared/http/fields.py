"""Names and ids as request bodies and paths carry them, and how a model shows an example of itself."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from events_schema.streams import (
    MAX_VECTOR_ID_CHARACTERS,
    NAME_PATTERN,
    RESERVED_VECTOR_IDS,
    is_name,
    vector_id_fault,
)


def _name(value: str) -> str:
    if not is_name(value):
        raise PydanticCustomError("name", "a name matches {pattern}", {"pattern": NAME_PATTERN})
    return value


def _vector_id(value: str) -> str:
    fault = vector_id_fault(value)
    if fault is not None:
        raise PydanticCustomError("vector_id", "{fault}", {"fault": fault})
    return value


Name = Annotated[str, AfterValidator(_name), Field(json_schema_extra={"pattern": NAME_PATTERN})]
VectorId = Annotated[
    str,
    AfterValidator(_vector_id),
    Field(
        json_schema_extra={
            "minLength": 1,
            "maxLength": MAX_VECTOR_ID_CHARACTERS,
            "pattern": r"^[^\u0000-\u001f\u007f-\u009f/]+$",
            "not": {"enum": [".", "..", *sorted(RESERVED_VECTOR_IDS)]},
        }
    ),
]
"""What a schema cannot say: at most 512 bytes of UTF-8, in normalization form NFC."""


AnsweringCollection = Annotated[
    str, Field(description="The collection's own name, also where the request named it by an alias.")
]


def example(*documents: dict[str, Any]) -> ConfigDict:
    """The part of a model's configuration that shows it in the API's documents; a null need not be there."""
    return ConfigDict(json_schema_extra={"examples": list(documents)})
