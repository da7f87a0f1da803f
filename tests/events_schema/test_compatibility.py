"""The check that keeps schemas' promises can itself be trusted."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, ClassVar, Literal

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
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


numbers = st.integers(-1, 3)
leaves = st.one_of(
    st.booleans(),
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["integer", "number", "string", "null", ["string", "null"]]),
            "minimum": numbers, "maximum": numbers, "minLength": numbers, "multipleOf": st.just(2),
            "pattern": st.sampled_from(["x", "^$"]), "default": numbers,
        },
    ),
    st.fixed_dictionaries({"enum": st.lists(st.sampled_from([1, True, "x", None, 2]), min_size=1, max_size=3)}),
    st.fixed_dictionaries({"const": st.sampled_from([1, True, "x", None])}),
    st.just({"$ref": "#/$defs/D"}),
)  # fmt: skip


def _branches(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    members = st.lists(inner, min_size=1, max_size=3)
    fields = st.dictionaries(st.sampled_from("abn"), inner, max_size=3)
    return st.one_of(
        st.fixed_dictionaries({"type": st.just("array"), "items": inner}, optional={"minItems": numbers}),
        st.fixed_dictionaries({"type": st.just("array"), "prefixItems": members}, optional={"items": inner}),
        st.fixed_dictionaries({"anyOf": members}, optional={"minimum": numbers, "oneOf": members}),
        st.fixed_dictionaries({"allOf": members}, optional={"type": st.just("integer")}),
        st.fixed_dictionaries({"$ref": st.just("#/$defs/D"), "maxProperties": numbers}),
        st.fixed_dictionaries(
            {"type": st.just("object"), "properties": fields},
            optional={
                "required": st.lists(st.sampled_from("abn"), unique=True, max_size=2),
                "additionalProperties": inner,
                "patternProperties": st.fixed_dictionaries({"a": inner}),
            },
        ),
    )


parts = st.recursive(leaves, _branches, max_leaves=6)
schemata = st.builds(
    lambda root, definition: {**(root if isinstance(root, dict) else {}), "$defs": {"D": definition}},
    parts,
    parts.filter(lambda schema: schema != {"$ref": "#/$defs/D"}),
)
documents = st.recursive(
    st.sampled_from([None, True, -1, 0, 1, 1.0, 1.5, 2, 3, "", "x", "xy"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abn"), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def revisions(draw: st.DrawFn, old: Any) -> Any:
    """Mostly the same, with something redrawn, dropped or added here and there."""
    if isinstance(old, bool) or draw(st.integers(0, 9)) == 0:
        return draw(parts)
    new = {}
    for keyword, value in old.items():
        fate = draw(st.integers(0, 9))
        if keyword in ("properties", "$defs"):
            new[keyword] = {name: draw(revisions(part)) for name, part in value.items()}
            if fate == 0 and keyword == "properties":
                new[keyword].update(draw(st.dictionaries(st.sampled_from("abn"), parts, max_size=1)))
        elif fate == 0:
            continue
        elif keyword in ("anyOf", "oneOf", "allOf", "prefixItems"):
            new[keyword] = [draw(revisions(part)) for part in value] + ([draw(parts)] if fate == 1 else [])
        elif keyword in ("items", "additionalProperties"):
            new[keyword] = draw(revisions(value))
        else:
            new[keyword] = draw(numbers) if fate == 1 and isinstance(value, int) and keyword != "multipleOf" else value
    return new


@st.composite
def pairs(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    old = draw(schemata)
    new = draw(revisions(old).filter(lambda schema: isinstance(schema, dict)))
    definitions = new.get("$defs", old["$defs"])
    return old, {**new, "$defs": old["$defs"] if definitions == {"D": {"$ref": "#/$defs/D"}} else definitions}


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
            accepted = before.is_valid(document)
        except RecursionError:  # a definition that is nothing but itself
            return
        assert after.is_valid(document) or not accepted, (old, new, document)


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
