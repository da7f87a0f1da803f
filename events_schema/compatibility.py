"""Whether a newer JSON Schema still accepts everything that an older one accepted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_LOWER_BOUNDS = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER_BOUNDS = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")


def incompatibilities(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What the old schema accepts and the new one does not, as sentences with the place.

    Knows the keywords that pydantic writes. Where it cannot tell, it complains: a false alarm costs a look, a
    missed change costs events.
    """
    return list(_compare(old, new, old, new, "", frozenset()))


def _compare(
    old: Any, new: Any, old_root: dict[str, Any], new_root: dict[str, Any], at: str, seen: frozenset[tuple[str, str]]
) -> Iterator[str]:
    references = (str(old.get("$ref")), str(new.get("$ref")))
    if "$ref" in old or "$ref" in new:
        if references in seen:
            return
        seen |= {references}
        old, new = _resolve(old, old_root), _resolve(new, new_root)
    where = at or "/"
    if not _constrains(new):
        return
    old_members, new_members = _members(old), _members(new)
    if len(old_members) > 1 or len(new_members) > 1:
        for member in old_members:
            reasons = [list(_compare(member, other, old_root, new_root, at, seen)) for other in new_members]
            if all(reasons):
                yield f"{where}: {_name(member)} is no longer accepted"
        return
    yield from _compare_values(old, new, where)
    yield from _compare_bounds(old, new, where)
    old_fields, new_fields = old.get("properties", {}), new.get("properties", {})
    for name in new.get("required", ()):
        if name not in old.get("required", ()):
            yield f"{at}/{name}: is now required"
    for name, schema in old_fields.items():
        if name in new_fields:
            yield from _compare(schema, new_fields[name], old_root, new_root, f"{at}/{name}", seen)
        elif new.get("additionalProperties", True) is False:
            yield f"{at}/{name}: was removed"
    if new.get("additionalProperties", True) is False and old.get("additionalProperties", True) is not False:
        yield f"{where}: other fields are no longer accepted"
    if "items" in new:
        yield from _compare(old.get("items", {}), new["items"], old_root, new_root, f"{at}/*", seen)


def _compare_values(old: dict[str, Any], new: dict[str, Any], where: str) -> Iterator[str]:
    old_values, new_values = _values(old), _values(new)
    if new_values is not None:
        lost = None if old_values is None else [value for value in old_values if value not in new_values]
        if lost is None or lost:
            yield f"{where}: {'other values' if lost is None else lost} no longer accepted"
    if "type" in new and new["type"] != old.get("type") and (old.get("type"), new["type"]) != ("integer", "number"):
        yield f"{where}: type {old.get('type', 'any')} became {new['type']}"
    for keyword in ("pattern", "format"):
        if keyword in new and new[keyword] != old.get(keyword):
            yield f"{where}: {keyword} {old.get(keyword)} became {new[keyword]}"


def _compare_bounds(old: dict[str, Any], new: dict[str, Any], where: str) -> Iterator[str]:
    for keyword in _LOWER_BOUNDS:
        if keyword in new and new[keyword] > old.get(keyword, float("-inf")):
            yield f"{where}: {keyword} rose from {old.get(keyword)} to {new[keyword]}"
    for keyword in _UPPER_BOUNDS:
        if keyword in new and new[keyword] < old.get(keyword, float("inf")):
            yield f"{where}: {keyword} fell from {old.get(keyword)} to {new[keyword]}"


def _resolve(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in schema:
        return schema
    found: Any = root
    for part in schema["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return {**found, **{key: value for key, value in schema.items() if key != "$ref"}}


def _members(schema: dict[str, Any]) -> list[dict[str, Any]]:
    members: list[dict[str, Any]] = schema.get("anyOf") or schema.get("oneOf") or [schema]
    return members


def _values(schema: dict[str, Any]) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    values: list[Any] | None = schema.get("enum")
    return values


def _constrains(schema: dict[str, Any]) -> bool:
    return bool(schema.keys() - {"title", "description", "default", "examples", "$defs", "$schema"})


def _name(schema: dict[str, Any]) -> str:
    return str(schema.get("$ref") or schema.get("type") or schema)
