"""The check that keeps schemas' promises can itself be trusted."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, ClassVar, Literal

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events_schema import schemas
from events_schema.asyncapi import asyncapi_document
from events_schema.base import Event
from events_schema.compatibility import incompatibilities
from events_schema.registry import EVENT_TYPES
from events_schema.schemas import SAMPLES, SCHEMAS, faults, schema_of


def test_committed_schemas_are_what_the_code_says() -> None:
    assert faults() == []
    assert schemas.main(["check"]) == 0


@pytest.mark.parametrize("event_type", sorted(EVENT_TYPES))
def test_schema_accepts_its_golden_sample_and_refuses_an_unknown_field(event_type: str) -> None:
    model = EVENT_TYPES[event_type]
    sample = json.loads((SAMPLES / schemas.file_name(event_type, model.schema_version)).read_text())
    jsonschema.validate(sample, schema_of(model))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**sample, "unknown": 1}, schema_of(model))


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


documents = st.fixed_dictionaries(
    {"a": st.integers(0, 10)},
    optional={"b": st.sampled_from(["x", "y", "z"]), "c": st.none() | st.text(max_size=6) | st.integers(),
              "d": st.lists(st.fixed_dictionaries({}, optional={"e": st.integers() | st.floats(allow_nan=False)}))},
)  # fmt: skip


@given(documents, st.sampled_from(sorted(HARMLESS)))
def test_what_the_old_schema_accepts_the_allowed_one_accepts_too(document: dict[str, Any], change: str) -> None:
    if jsonschema.Draft202012Validator(BASE).is_valid(document):
        jsonschema.validate(document, HARMLESS[change], jsonschema.Draft202012Validator)


class Kept(Event):
    event_type: ClassVar[str] = "Kept"

    kind: Literal["x", "y"]


class Narrowed(Event):
    event_type: ClassVar[str] = "Kept"

    kind: Literal["x"]


def test_check_demands_sample_schema_and_compatibility(tmp_path: Path) -> None:
    committed, samples = tmp_path / "schemas", tmp_path / "samples"
    committed.mkdir()
    samples.mkdir()
    assert len(faults({"Kept": Kept}, committed, samples)) == 2
    (samples / "Kept.v1.json").write_text('{"kind": "x"}')
    (committed / "Kept.v1.json").write_text(json.dumps(schema_of(Kept)))
    assert faults({"Kept": Kept}, committed, samples) == []
    assert any("no longer" in fault for fault in faults({"Kept": Narrowed}, committed, samples))
    assert any("for ever" in fault for fault in faults({}, committed, samples))


def test_asyncapi_document_leads_every_reference_somewhere() -> None:
    document = asyncapi_document({name: schema_of(model) for name, model in EVENT_TYPES.items()})
    for message in document["channels"]["events"]["messages"].values():
        found: Any = document
        for part in message["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        assert found["headers"]["required"]
