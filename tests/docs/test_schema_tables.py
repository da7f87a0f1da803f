"""Schemas as the API reference tells them."""

from __future__ import annotations

from typing import Any

import pytest

from docs.builder.schema_tables import Components, completed

COMPONENTS = Components(
    {
        "Inner": {
            "type": "object",
            "properties": {"x": {"type": "integer"}},
            "required": ["x"],
            "description": "A model.",
        },
        "One": {"type": "object", "properties": {"op": {"const": "one"}}},
        "Two": {"type": "object", "properties": {"op": {"const": "two"}, "more": {"type": "string"}}},
        "Outer": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "description": "Whose."},
                "inner": {"$ref": "#/components/schemas/Inner"},
                "many": {"type": "array", "items": {"$ref": "#/components/schemas/Inner"}},
                "operations": {
                    "type": "array",
                    "items": {
                        "oneOf": [{"$ref": "#/components/schemas/One"}, {"$ref": "#/components/schemas/Two"}],
                        "discriminator": {
                            "propertyName": "op",
                            "mapping": {"one": "#/components/schemas/One", "two": "#/components/schemas/Two"},
                        },
                    },
                },
                "nothing": {"anyOf": [{"type": "string", "description": "Perhaps."}, {"type": "null"}]},
                "perhaps": {"anyOf": [{"$ref": "#/components/schemas/Inner"}, {"type": "null"}]},
                "size": {"type": "integer", "default": 3},
            },
            "required": ["name", "nothing"],
        },
    }
)
OUTER = {"$ref": "#/components/schemas/Outer"}


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "string"}, "string"),
        ({"type": "integer", "minimum": 0, "maximum": 30000.0}, "integer, 0 to 30,000"),
        ({"type": "integer", "minimum": 1}, "integer, at least 1"),
        ({"type": "string", "minLength": 1, "maxLength": 255}, "string, 1 to 255 characters"),
        ({"type": "string", "maxLength": 2000}, "string, at most 2,000 characters"),
        ({"type": "string", "format": "uuid"}, "uuid"),
        ({"type": "string", "pattern": "^a|b$"}, "string, `^a|b$`"),
        ({"type": "string", "maxLength": 9, "pattern": "^a"}, "string, at most 9 characters, `^a`"),
        ({"type": "string", "contentEncoding": "base64"}, "base64 text"),
        ({"enum": ["l2", "ip"]}, '`"l2"` or `"ip"`'),
        ({"const": "create"}, '`"create"`'),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "string or null"),
        ({"type": ["object", "null"]}, "object or null"),
        ({"type": "array", "items": {"type": "number"}, "minItems": 1, "maxItems": 9}, "array of 1 to 9 numbers"),
        ({"type": "array", "items": {"$ref": "#/components/schemas/Inner"}}, "array of objects"),
        ({"$ref": "#/components/schemas/Inner"}, "object"),
    ],
)
def test_a_type_is_told_with_the_limits_that_hold(schema: dict[str, Any], text: str) -> None:
    assert COMPONENTS.type_text(schema) == text


def test_fields_within_objects_arrays_and_choices_have_their_address() -> None:
    rows = list(COMPONENTS.rows(OUTER))
    assert [(row.path, row.variant) for row in rows] == [
        ("name", None),
        ("inner", None),
        ("inner.x", None),
        ("many", None),
        ("many[].x", None),
        ("operations", None),
        ("operations[].op", "one"),
        ("operations[].op", "two"),
        ("operations[].more", "two"),
        ("nothing", None),
        ("perhaps", None),
        ("perhaps.x", None),
        ("size", None),
    ]
    by_path = {row.path: row for row in rows}
    assert (by_path["name"].required, by_path["name"].meaning) == (True, "Whose.")
    assert by_path["inner"].meaning == ""  # what is said of the model is said of all its uses
    assert by_path["nothing"].meaning == "Perhaps."
    assert by_path["size"].default == "3"


def test_an_example_gets_the_order_of_its_fields_and_the_nulls_that_it_must_have() -> None:
    example = {"many": [{"x": 1}], "name": "a", "unknown": 1}
    assert list(completed(example, OUTER, COMPONENTS).items()) == [
        ("name", "a"),
        ("many", [{"x": 1}]),
        ("nothing", None),
        ("unknown", 1),
    ]
