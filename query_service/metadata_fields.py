"""Fields of the metadata that an answer brings or leaves out, as Mongo's projections choose them.

An array on the way stands for its elements: those that are objects are looked into, the others hold no field.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from query_service.binding import Binder

Path = tuple[str, ...]
"""From the metadata object inwards: the name of each nested field."""

_Tree = dict[str, "_Tree | None"]
"""Fields by name; None: as a whole."""


@dataclass(frozen=True, slots=True)
class MetadataFields:
    """`only` these, None: all; and of them not those that are `left_out`. Both in order, so that `repr` tells any two
    choices apart."""

    only: tuple[Path, ...] | None = None
    left_out: tuple[Path, ...] = ()

    def sql(self, metadata: str, bind: Binder) -> str:
        """The metadata without the fields that are not wanted at its top: what is large and not asked for is not even
        read. `narrowed` does the rest."""
        if self.only is not None:
            names = bind(sorted({path[0] for path in self.only}), "text[]")
            fields = f"FROM jsonb_each({metadata}) m WHERE m.key = ANY({names})"
            metadata = f"(SELECT coalesce(jsonb_object_agg(m.key, m.value), '{{}}') {fields})"
        at_the_top = [path[0] for path in self.left_out if len(path) == 1]
        return f"({metadata} - {bind(at_the_top, 'text[]')})" if at_the_top else metadata

    def narrowed(self, metadata: str) -> str:
        """JSON text of the metadata, as `sql` gives it, with the wanted fields only."""
        if all(len(path) == 1 for path in (*(self.only or ()), *self.left_out)):
            return metadata
        return orjson.dumps(self.of(orjson.loads(metadata))).decode()

    def of(self, metadata: dict[str, Any]) -> dict[str, Any]:
        """The wanted fields of the metadata."""
        wanted = metadata if self.only is None else _only(metadata, _tree(self.only))
        return _without(wanted, _tree(self.left_out)) if self.left_out else wanted


ALL_FIELDS = MetadataFields()


def ordered(paths: Iterable[Path]) -> tuple[Path, ...]:
    return tuple(sorted(set(paths)))


def _tree(paths: Sequence[Path]) -> _Tree:
    tree: _Tree = {}
    for path in sorted(paths, key=len):  # what is wanted as a whole comes before its parts
        at: _Tree | None = tree
        for name in path[:-1]:
            at = None if at is None else at.setdefault(name, {})
        if at is not None:
            at[path[-1]] = None
    return tree


def _only(value: dict[str, Any], tree: _Tree) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, inner in value.items():
        if name not in tree:
            continue
        below = tree[name]
        if below is None:
            found[name] = inner
        elif isinstance(inner, dict | list):
            found[name] = _only_within(inner, below)
    return found


def _only_within(value: Any, tree: _Tree) -> Any:
    if isinstance(value, dict):
        return _only(value, tree)
    return [_only_within(one, tree) for one in value if isinstance(one, dict | list)]


def _without(value: dict[str, Any], tree: _Tree) -> dict[str, Any]:
    return {
        name: inner if name not in tree else _without_within(inner, below)
        for name, inner in value.items()
        if (below := tree.get(name, {})) is not None
    }


def _without_within(value: Any, tree: _Tree) -> Any:
    if isinstance(value, dict):
        return _without(value, tree)
    return [_without_within(one, tree) for one in value] if isinstance(value, list) else value
