"""JSON Schemas, their revisions, and documents, for properties of the compatibility check."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

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
    new: dict[str, Any] = {}
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
