"""`python -m clients.openapi write|check`: the OpenAPI document that clients are made from, committed.

A committed document is a promise: `check` fails when the services say otherwise, and `write` does not replace it by one
that a client of the old one could not live with: an operation, a parameter or a member of an answer that went, a new
thing that must be sent. `write --breaking` does, for a change that the changelog tells users of.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from docs.builder.api_reference import openapi
from events_schema.compatibility import incompatibilities

DOCUMENT = Path(__file__).parents[1] / "docs/openapi/aindusdb.json"

_METHODS = ("get", "post", "put", "patch", "delete")
_Document = dict[str, Any]


def text_of(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def breaks(old: _Document, new: _Document) -> list[str]:
    """What a client of the old document could not live with, as sentences."""
    return [] if old == new else list(_breaks(old, new))


def _breaks(old: _Document, new: _Document) -> Iterator[str]:
    for path, operations in old["paths"].items():
        for method in _METHODS:
            if method not in operations:
                continue
            name = f"{method.upper()} {path}"
            present = new["paths"].get(path, {}).get(method)
            if present is None:
                yield f"{name} is gone"
                continue
            for sentence in _operation(operations[method], present, old, new):
                yield f"{name}: {sentence}"


def _operation(before: _Document, now: _Document, old: _Document, new: _Document) -> Iterator[str]:
    yield from _parameters(before, now, old, new)
    yield from _bodies(before, now, old, new)
    was, is_now = ({status for status in one["responses"] if status < "300"} for one in (before, now))
    if was != is_now:
        yield f"it is answered with {', '.join(sorted(is_now))}, no longer with {', '.join(sorted(was))}"
    for status in sorted(was & is_now):
        for kind, content in before["responses"][status].get("content", {}).items():
            present = now["responses"][status].get("content", {}).get(kind)
            if present is None:
                yield f"{status} is no longer answered as {kind}"
            elif "schema" in content:
                # Readers are as the old document says: what is answered now must be what they take.
                found = incompatibilities(present.get("schema", {}), content["schema"], old_root=new, new_root=old)
                yield from (f"{status} answers what a reader of the old document does not take: {one}" for one in found)


def _parameters(before: _Document, now: _Document, old: _Document, new: _Document) -> Iterator[str]:
    was, is_now = (
        {(one["in"], one["name"]): one for one in operation.get("parameters", ())} for operation in (before, now)
    )
    for key, one in was.items():
        present = is_now.get(key)
        if present is None:
            yield f"the parameter {key[1]} is gone"
            continue
        if present.get("required") and not one.get("required"):
            yield f"the parameter {key[1]} is now required"
        for sentence in incompatibilities(one["schema"], present["schema"], old_root=old, new_root=new):
            yield f"the parameter {key[1]}: {sentence}"
    for key, one in is_now.items():
        if key not in was and one.get("required"):
            yield f"the parameter {key[1]} is new and required"


def _bodies(before: _Document, now: _Document, old: _Document, new: _Document) -> Iterator[str]:
    was, is_now = before.get("requestBody", {}), now.get("requestBody", {})
    if is_now.get("required") and not was.get("required"):
        yield "a body is now required"
    for kind, content in was.get("content", {}).items():
        present = is_now.get("content", {}).get(kind)
        if present is None:
            yield f"a body of {kind} is no longer taken"
            continue
        for sentence in incompatibilities(content["schema"], present["schema"], old_root=old, new_root=new):
            yield f"the body: {sentence}"


def faults(document: Path = DOCUMENT) -> list[str]:
    """What keeps the committed document from being true, as sentences."""
    if not document.exists():
        return ["docs/openapi/aindusdb.json is missing: run `python -m clients.openapi write`"]
    now = _now()
    if document.read_text() == text_of(now):
        return []
    broken = breaks(json.loads(document.read_text()), now)
    if broken:
        return [*broken, "clients would break: `write --breaking` commits that, and the changelog tells of it"]
    return ["docs/openapi/aindusdb.json is not what the services say: run `python -m clients.openapi write`"]


def write(document: Path = DOCUMENT, *, breaking: bool = False) -> list[str]:
    """Writes what the services say; if it refuses a change, it says so and writes nothing."""
    now = _now()
    refused = breaks(json.loads(document.read_text()), now) if document.exists() and not breaking else []
    if not refused:
        document.write_text(text_of(now))
    return refused


def _now() -> _Document:
    # Through JSON, as it is committed.
    document: _Document = json.loads(json.dumps(openapi()))
    return document


def main(arguments: list[str]) -> int:
    match arguments:
        case ["write"]:
            found = write()
        case ["write", "--breaking"]:
            found = write(breaking=True)
        case ["check"]:
            found = faults()
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    for sentence in found:
        print(sentence, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
