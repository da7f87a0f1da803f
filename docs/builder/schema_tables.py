"""JSON Schemas, as pydantic writes them, as rows of a table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Schema = Mapping[str, Any]

_REFERENCE = "#/components/schemas/"
_PLURALS = {"string": "strings", "number": "numbers", "integer": "integers", "object": "objects"}


@dataclass(frozen=True, slots=True)
class FieldRow:
    """`path` is the field's address, `hits[].id`; `variant` the value that chooses the object which has it, if any."""

    path: str
    type: str
    required: bool
    default: str | None
    meaning: str
    variant: str | None = None


@dataclass(frozen=True, slots=True)
class Components:
    schemas: Mapping[str, Schema]

    def resolve(self, schema: Schema) -> Schema:
        """The schema behind a reference; what stands beside it there (a default, a description) stays."""
        reference = schema.get("$ref")
        if reference is None:
            return schema
        return {**self.schemas[str(reference).removeprefix(_REFERENCE)], **schema}

    def rows(self, schema: Schema, prefix: str = "", variant: str | None = None) -> Iterator[FieldRow]:
        """The fields of an object, and those of the objects within."""
        resolved = self.resolve(schema)
        required = resolved.get("required", ())
        for name, given in resolved.get("properties", {}).items():
            field = self.resolve(given)
            path = prefix + name
            yield FieldRow(
                path,
                self.type_text(field),
                name in required,
                json.dumps(field["default"]) if field.get("default") is not None else None,
                meaning(given),
                variant,
            )
            yield from self._rows_within(field, path, variant)

    def _rows_within(self, field: Schema, path: str, variant: str | None) -> Iterator[FieldRow]:
        present = [one for one in field.get("anyOf", ()) if one != {"type": "null"}]
        if len(present) == 1:
            field = self.resolve(present[0])
        if field.get("type") == "array":
            item = self.resolve(field.get("items", {}))
            if "discriminator" in item:
                for value, reference in item["discriminator"]["mapping"].items():
                    yield from self.rows({"$ref": reference}, f"{path}[].", value)
            else:
                yield from self.rows(item, f"{path}[].", variant)
        else:
            yield from self.rows(field, f"{path}.", variant)

    def type_text(self, schema: Schema) -> str:
        """In words, with the limits that hold."""
        field = self.resolve(schema)
        if "const" in field:
            return f"`{json.dumps(field['const'])}`"
        if "enum" in field:
            return _listed([f"`{json.dumps(value)}`" for value in field["enum"]])
        for union in ("anyOf", "oneOf"):
            if union in field and "discriminator" not in field:
                return _listed([self.type_text(one) for one in field[union]])
        kinds = field.get("type", "object")
        if isinstance(kinds, list):
            return _listed(kinds)
        kind = str(kinds)
        if kind == "array":
            item = self.resolve(field.get("items", {}))
            inner = "objects" if "discriminator" in item else self._plural(item)
            return " ".join(filter(None, ("array of", _range(field, "minItems", "maxItems"), inner)))
        if "contentEncoding" in field:
            return f"{field['contentEncoding']} text"
        characters = _range(field, "minLength", "maxLength")
        parts = (
            field.get("format", kind),
            _range(field, "minimum", "maximum"),
            f"{characters} characters" if characters else "",
            f"`{field['pattern']}`" if "pattern" in field else "",
        )
        return ", ".join(filter(None, parts))

    def _plural(self, item: Schema) -> str:
        if "enum" in item:
            return self.type_text(item)
        return _PLURALS.get(str(item.get("type", "object")), "values")


def meaning(schema: Schema) -> str:
    """What is said of a field, also where it is said of the kind of value that may be there or not. What is said of the
    model behind a reference is about the model."""
    for one in (schema, *schema.get("anyOf", ())):
        if "description" in one:
            return str(one["description"])
    return ""


def completed(example: Any, schema: Schema, components: Components) -> Any:
    """The example with its fields in the schema's order, and with the nulls that FastAPI takes out of examples."""
    resolved = components.resolve(schema)
    if isinstance(example, list):
        return [completed(one, resolved.get("items", {}), components) for one in example]
    if not isinstance(example, dict) or "properties" not in resolved:
        return example
    fields = {
        name: completed(example[name], field, components) if name in example else None
        for name, field in resolved["properties"].items()
        if name in example or (name in resolved.get("required", ()) and {"type": "null"} in field.get("anyOf", ()))
    }
    return {**fields, **{name: value for name, value in example.items() if name not in fields}}


def _range(schema: Schema, least: str, most: str) -> str:
    low, high = schema.get(least), schema.get(most)
    if high is None:
        return f"at least {low:,g}" if low else ""
    return f"at most {high:,.0f}" if low is None else f"{low:,.0f} to {high:,.0f}"


def _listed(texts: list[str]) -> str:
    unique = list(dict.fromkeys(texts))
    return unique[0] if len(unique) == 1 else f"{', '.join(unique[:-1])} or {unique[-1]}"
