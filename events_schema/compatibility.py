"""Whether a newer JSON Schema still accepts everything that an older one accepted, and reads it the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

_LOWER_BOUNDS = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER_BOUNDS = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_EQUAL_OR_ABSENT = ("pattern", "format", "multipleOf", "uniqueItems", "contentEncoding", "contentMediaType")
_UNIONS = ("anyOf", "oneOf")
_CHANGE_THEIR_NEIGHBOURS = frozenset({"prefixItems", "patternProperties"})
_ANNOTATIONS = frozenset(
    {"$comment", "$defs", "$schema", "default", "deprecated", "description", "discriminator", "examples", "title"}
)
_JUDGED = frozenset(
    {*_LOWER_BOUNDS, *_UPPER_BOUNDS, *_EQUAL_OR_ABSENT, *_UNIONS, *_ANNOTATIONS}
    | {"$ref", "additionalProperties", "const", "enum", "items", "properties", "required", "type"}
)

_Schema = dict[str, Any]
_Seen = frozenset[tuple[str, str]]


def incompatibilities(
    old: _Schema, new: _Schema, *, old_root: _Schema | None = None, new_root: _Schema | None = None
) -> list[str]:
    """What the old schema accepts and the new one does not, or reads otherwise, as sentences with the place. The roots
    are the documents that references point into; by default the schemas themselves.

    Knows the keywords that pydantic writes. Where it cannot tell, it complains: a false alarm costs a look, a
    missed change costs events.
    """
    comparison = _Comparison(old if old_root is None else old_root, new if new_root is None else new_root)
    return list(comparison.of(old, new, "", frozenset()))


class _Comparison:
    """Holds the two documents that references point into."""

    def __init__(self, old: _Schema, new: _Schema) -> None:
        self._old_root, self._new_root = old, new
        self._same_document = _text(old) == _text(new)

    def of(self, old: _Schema | bool, new: _Schema | bool, at: str, seen: _Seen) -> Iterator[str]:
        # What is being compared further up need not be compared again: recursive schemas come to an end here.
        pair = (_text(old), _text(new))
        if pair in seen or (pair[0] == pair[1] and (self._same_document or '"$ref"' not in pair[0])):
            return
        seen |= {pair}
        old, beside_old = _followed(_as_object(old), self._old_root)
        new, beside_new = _followed(_as_object(new), self._new_root)
        where = at or "/"
        unknown = (new.keys() | beside_new.keys()) - _JUDGED
        unknown |= beside_new.keys() - _ANNOTATIONS | (old.keys() | beside_old.keys()) & _CHANGE_THEIR_NEIGHBOURS
        if "oneOf" in new and "discriminator" not in new:
            unknown |= {"oneOf"}  # its members may overlap, and what two of them accept is refused
        if unknown := {keyword for keyword in unknown if not keyword.startswith("x-")}:
            yield f"{where}: cannot be judged because of {', '.join(sorted(unknown))}"
        elif any(union in schema for schema in (old, new) for union in _UNIONS):
            yield from self._unions(old, new, at, seen)
        else:
            yield from self._plain(old, new, at, seen)

    def _unions(self, old: _Schema, new: _Schema, at: str, seen: _Seen) -> Iterator[str]:
        beside_old, old_members = _members(old)
        beside_new, new_members = _members(new)
        if beside_new.keys() - _ANNOTATIONS:
            yield from self.of(beside_old, beside_new, at, seen)
        for member in old_members:
            reasons = [list(self.of(member, other, at, seen)) for other in new_members]
            if all(reasons):
                yield f"{at or '/'}: {_name(member)} is no longer accepted"

    def _plain(self, old: _Schema, new: _Schema, at: str, seen: _Seen) -> Iterator[str]:
        values = list(_compare_values(old, new, at or "/"))
        if values:
            yield from values
            return
        yield from _compare_bounds(old, new, at or "/")
        if "items" in new:
            yield from self.of(old.get("items", {}), new["items"], f"{at}/*", seen)
        yield from self._fields(old, new, at, seen)

    def _fields(self, old: _Schema, new: _Schema, at: str, seen: _Seen) -> Iterator[str]:
        old_fields, new_fields = old.get("properties", {}), new.get("properties", {})
        old_others, new_others = old.get("additionalProperties", True), new.get("additionalProperties", True)
        for name in new.get("required", ()):
            if name not in old.get("required", ()):
                yield f"{at}/{name}: is now required"
        for name, schema in old_fields.items():
            if name in new_fields:
                yield from self.of(schema, new_fields[name], f"{at}/{name}", seen)
                if name not in old.get("required", ()):
                    yield from _compare_defaults(schema, new_fields[name], f"{at}/{name}")
            elif new_others is False:
                yield f"{at}/{name}: was removed"
            else:
                yield from self.of(schema, new_others, f"{at}/{name}", seen)
        if old_others is False:
            return
        for name in new_fields.keys() - old_fields.keys():
            yield from self.of(old_others, new_fields[name], f"{at}/{name}", seen)
        if new_others is False:
            yield f"{at or '/'}: other fields are no longer accepted"
        else:
            yield from self.of(old_others, new_others, f"{at}/*", seen)


def _compare_values(old: _Schema, new: _Schema, where: str) -> Iterator[str]:
    old_values = _values(old)
    for keyword in ("const", "enum"):
        if keyword not in new:
            continue
        allowed = {_text(value) for value in ([new["const"]] if keyword == "const" else new["enum"])}
        lost = ["other values"] if old_values is None else [one for one in old_values if one not in allowed]
        if lost:
            yield f"{where}: {', '.join(lost)} no longer accepted"
    if "type" in new and not _types(old) <= _types(new):
        yield f"{where}: type {old.get('type', 'any')} became {new['type']}"
    for keyword in _EQUAL_OR_ABSENT:
        if keyword in new and new[keyword] != old.get(keyword):
            yield f"{where}: {keyword} {old.get(keyword)} became {new[keyword]}"


def _compare_bounds(old: _Schema, new: _Schema, where: str) -> Iterator[str]:
    for keyword in _LOWER_BOUNDS:
        if keyword in new and new[keyword] > old.get(keyword, float("-inf")):
            yield f"{where}: {keyword} rose from {old.get(keyword)} to {new[keyword]}"
    for keyword in _UPPER_BOUNDS:
        if keyword in new and new[keyword] < old.get(keyword, float("inf")):
            yield f"{where}: {keyword} fell from {old.get(keyword)} to {new[keyword]}"


def _compare_defaults(old: _Schema | bool, new: _Schema | bool, where: str) -> Iterator[str]:
    # An event that leaves the field out would be read otherwise than it was meant.
    before, now = (_text(_as_object(schema).get("default")) for schema in (old, new))
    if before != now:
        yield f"{where}: default {before} became {now}"


def _followed(schema: _Schema, root: _Schema) -> tuple[_Schema, _Schema]:
    """What the references lead to, and the keywords that stand beside them."""
    beside: _Schema = {}
    passed: set[str] = set()
    while "$ref" in schema:
        if schema["$ref"] in passed:
            return _as_object(False), beside
        passed.add(schema["$ref"])
        beside.update({key: value for key, value in schema.items() if key != "$ref"})
        found: Any = root
        for part in schema["$ref"].removeprefix("#").strip("/").split("/"):
            found = found[part.replace("~1", "/").replace("~0", "~")]
        schema = _as_object(found)
    return schema, beside


def _members(schema: _Schema) -> tuple[_Schema, list[_Schema | bool]]:
    """The keywords beside a union, and the union's members; a schema that is no union is its own only member."""
    unions = [name for name in _UNIONS if name in schema]
    if not unions:
        return {}, [schema]
    beside = {key: value for key, value in schema.items() if key != unions[0]}
    return beside, schema[unions[0]]


def _types(schema: _Schema) -> frozenset[str]:
    """The types that are accepted; where none is named, one that no schema names, for "any"."""
    named = schema.get("type", "any")
    types = frozenset([named] if isinstance(named, str) else named)
    return types | {"integer"} if "number" in types else types


def _values(schema: _Schema) -> list[str] | None:
    if "const" in schema:
        return [_text(schema["const"])]
    return [_text(value) for value in schema["enum"]] if "enum" in schema else None


def _as_object(schema: _Schema | bool) -> _Schema:
    if isinstance(schema, bool):
        return {} if schema else {"not": {}}
    return schema


def _text(value: Any) -> str:
    # As JSON, because to Python True is 1 and 1.0 is 1.
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _name(schema: _Schema | bool) -> str:
    shown = _as_object(schema)
    return str(shown.get("$ref") or shown.get("type") or shown)
