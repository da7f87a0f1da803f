"""The check that keeps schemas' promises can itself be trusted."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events_schema.compatibility import incompatibilities
from events_schema.schemas import SCHEMAS
from tests.events_schema.json_schemas import documents, pairs


@pytest.mark.parametrize("path", sorted(SCHEMAS.glob("*.json")), ids=lambda path: path.stem)
def test_schema_is_compatible_with_itself(path: Path) -> None:
    schema = json.loads(path.read_text())
    assert incompatibilities(schema, schema) == []


BASE: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["a"],
    "properties": {
        "a": {"type": "integer", "minimum": 1, "maximum": 9},
        "b": {"enum": ["x", "y"], "type": "string"},
        "c": {"anyOf": [{"type": "string", "maxLength": 5}, {"type": "null"}]},
        "d": {"type": "array", "items": {"$ref": "#/$defs/D"}},
    },
    "$defs": {"D": {"type": "object", "properties": {"e": {"type": "number"}}, "required": []}},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    schema = copy.deepcopy(BASE)
    *parents, last = path.split("/")
    at: Any = schema
    for part in parents:
        at = at[int(part)] if isinstance(at, list) else at[part]
    if value is None:
        del at[last]
    else:
        at[last] = value
    return schema


BREAKING = {
    "a new required field": changed("required", ["a", "b"]),
    "a removed field": changed("properties/b", None),
    "a narrower enum": changed("properties/b/enum", ["x"]),
    "another type": changed("properties/a/type", "string"),
    "a raised minimum": changed("properties/a/minimum", 2),
    "a lowered maximum": changed("properties/a/maximum", 8),
    "null no longer accepted": changed("properties/c/anyOf", [{"type": "string", "maxLength": 5}]),
    "a shorter text": changed("properties/c/anyOf/0/maxLength", 4),
    "a required field further down": changed("$defs/D/required", ["e"]),
    "another type further down": changed("$defs/D/properties/e/type", "integer"),
    "a type for what could be anything": changed("$defs/D/additionalProperties", {"type": "string"}),
    "a new field where anything could stand": changed("$defs/D/properties/f", {"type": "string"}),
    "a condition beside alternatives": changed("properties/c/maxLength", 4),
    "another default": changed("properties/b/default", "y"),
    "a keyword that the check does not know": changed("properties/d/contains", {}),
    "alternatives that may overlap": changed(
        "properties/a", {"oneOf": [BASE["properties"]["a"], {"type": "integer", "minimum": 5}]}
    ),
}
HARMLESS = {
    "a new optional field": changed("properties/n", {"type": "string"}),
    "a wider enum": changed("properties/b/enum", ["x", "y", "z"]),
    "a lowered minimum": changed("properties/a/minimum", 0),
    "a field no longer required": changed("required", []),
    "an integer that may be any number": changed("properties/a/type", "number"),
    "another title": changed("title", "T"),
    "one more alternative": changed("properties/c/anyOf", [*BASE["properties"]["c"]["anyOf"], {"type": "integer"}]),
    "a field that may be anything": changed("properties/a", {"title": "any"}),
}


@pytest.mark.parametrize("change", BREAKING)
def test_change_that_shuts_out_old_events_is_found(change: str) -> None:
    assert incompatibilities(BASE, BREAKING[change])


@pytest.mark.parametrize("change", HARMLESS)
def test_change_that_old_events_survive_is_allowed(change: str) -> None:
    assert incompatibilities(BASE, HARMLESS[change]) == []


def recursive(leaf: dict[str, Any]) -> dict[str, Any]:
    node = {"type": "object", "properties": {"leaf": leaf, "next": {"$ref": "#/$defs/Node"}}}
    return {"$ref": "#/$defs/Node", "$defs": {"Node": node}}


def test_schema_that_contains_itself_is_compared_to_the_end() -> None:
    assert incompatibilities(recursive({"type": "string"}), recursive({"type": ["string", "null"]})) == []
    assert incompatibilities(recursive({"type": ["string", "null"]}), recursive({"type": "string"}))


@given(pairs(), st.lists(documents, min_size=5, max_size=20))
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
def test_what_the_old_schema_accepts_an_allowed_one_accepts_too(
    pair: tuple[dict[str, Any], dict[str, Any]], examples: list[Any]
) -> None:
    old, new = pair
    if incompatibilities(old, new):
        return
    before, after = (jsonschema.Draft202012Validator(schema) for schema in pair)
    for document in examples:
        try:
            assert after.is_valid(document) or not before.is_valid(document), (old, new, document)
        except RecursionError:  # a definition that is nothing but itself
            return
