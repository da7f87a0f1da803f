"""One OpenAPI document out of the two services' own."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

Document = Mapping[str, Any]


def merge(command: Document, query: Document) -> dict[str, Any]:
    """Paths and components of both. Where both have a path, its operations are joined.

    Components that share a name but not a content are kept apart: the query service's is renamed to `<name>_query`,
    and so are its references.
    """
    merged: dict[str, Any] = copy.deepcopy(dict(command))
    added = _rename_conflicts(merged.get("components", {}), copy.deepcopy(dict(query)))
    for path, operations in added.get("paths", {}).items():
        merged.setdefault("paths", {})[path] = {**operations, **merged.get("paths", {}).get(path, {})}
    for section, components in added.get("components", {}).items():
        merged.setdefault("components", {}).setdefault(section, {}).update(components)
    known_tags = {tag["name"] for tag in merged.get("tags", [])}
    tags = [*merged.get("tags", []), *(tag for tag in added.get("tags", []) if tag["name"] not in known_tags)]
    if tags:
        merged["tags"] = tags
    merged["info"] = {**merged["info"], "title": "AindusDB Core"}
    merged["servers"] = [{"url": "/"}]
    return merged


def _rename_conflicts(known: Document, added: dict[str, Any]) -> dict[str, Any]:
    renamed: dict[str, str] = {}
    for section, components in added.get("components", {}).items():
        for name, component in list(components.items()):
            if name in known.get(section, {}) and known[section][name] != component:
                components[f"{name}_query"] = components.pop(name)
                renamed[f"#/components/{section}/{name}"] = f"#/components/{section}/{name}_query"
    return _with_references(added, renamed) if renamed else added


def _with_references(node: Any, renamed: Mapping[str, str]) -> Any:
    if isinstance(node, dict):
        return {
            key: renamed.get(value, value) if key == "$ref" else _with_references(value, renamed)
            for key, value in node.items()
        }
    if isinstance(node, list):
        return [_with_references(item, renamed) for item in node]
    return node
