"""`python -m events_schema.schemas write|check`: the schemas that other programs read, generated from the models.

One JSON Schema for each event type and schema version under `json_schemas/`, and the AsyncAPI document of the
Kafka topic. A committed schema is a promise: `check` fails when the code says otherwise, and `write` does not
replace one by a schema that readers of the old one could not follow.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from events_schema.asyncapi import asyncapi_document
from events_schema.base import Event
from events_schema.compatibility import incompatibilities
from events_schema.registry import EVENT_TYPES
from events_schema.upcasters import UPCASTERS, Upcaster

HERE = Path(__file__).parent
SCHEMAS = HERE / "json_schemas"
SAMPLES = HERE / "samples"
ASYNCAPI = HERE / "asyncapi.yaml"


def schema_of(model: type[Event]) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of an event type's data."""
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        "x-event-type": model.event_type,
        "x-schema-version": model.schema_version,
        **model.model_json_schema(),
    }


def file_name(event_type: str, version: int) -> str:
    return f"{event_type}.v{version}.json"


def told_by(file: Path) -> tuple[str, int]:
    """The event type and the schema version that a file is of. A version may have further samples, of fields that came
    later, with a word of their own: `Type.v1.word.json`."""
    event_type, version, *_ = file.stem.split(".")
    return event_type, int(version.removeprefix("v"))


def faults(
    event_types: Mapping[str, type[Event]] = EVENT_TYPES,
    schemas: Path = SCHEMAS,
    samples: Path = SAMPLES,
    upcasters: Mapping[tuple[str, int], Upcaster] = UPCASTERS,
) -> list[str]:
    """What keeps the committed schemas and samples from being true, as sentences; empty when all is well."""
    found: list[str] = []
    for event_type, model in event_types.items():
        for version in range(1, model.schema_version + 1):
            name = file_name(event_type, version)
            if not (samples / name).exists():
                found.append(f"samples/{name} is missing: every version has a golden sample")
            if not (schemas / name).exists():
                found.append(f"json_schemas/{name} is missing: {_hint(version, model.schema_version)}")
            if version < model.schema_version and (event_type, version) not in upcasters:
                found.append(f"{event_type} has no upcaster from version {version}")
        found += _departures(model, schemas)
    for folder in (schemas, samples):
        for committed in sorted(folder.glob("*.json")):
            event_type, version = told_by(committed)
            known = event_types.get(event_type)
            if known is None or known.schema_version < version:
                found.append(
                    f"{folder.name}/{committed.name} has no event type any more: events of it are in logs for ever"
                )
    return found


def _departures(model: type[Event], schemas: Path) -> list[str]:
    """How the code's schema of the current version differs from the committed one."""
    name = file_name(model.event_type, model.schema_version)
    if not (schemas / name).exists():
        return []
    old, new = json.loads((schemas / name).read_text()), schema_of(model)
    if broken := incompatibilities(old, new):
        promise = f"{model.event_type} no longer reads what its version {model.schema_version} allowed"
        return [f"{promise} ({'; '.join(broken)}): raise schema_version and add an upcaster"]
    if old != new:
        return [f"json_schemas/{name} is not what the code says: {_hint(1, 1)}"]
    return []


def _hint(version: int, current: int) -> str:
    return "run `python -m events_schema.schemas write`" if version == current else "restore it from the history"


def write(
    event_types: Mapping[str, type[Event]] = EVENT_TYPES, schemas: Path = SCHEMAS, document: Path = ASYNCAPI
) -> list[str]:
    """Writes what is missing or compatibly changed; if it refuses a change, it says so and writes nothing."""
    refused: list[str] = []
    changed: dict[Path, str] = {}
    for event_type, model in event_types.items():
        path = schemas / file_name(event_type, model.schema_version)
        schema = schema_of(model)
        broken = incompatibilities(json.loads(path.read_text()), schema) if path.exists() else []
        if broken:
            refused.append(f"{path.name}: {'; '.join(broken)}")
        changed[path] = _json(schema)
    if not refused:
        schemas.mkdir(exist_ok=True)
        changed[document] = _asyncapi(event_types)
        for path, text in changed.items():
            path.write_text(text)
    return refused


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _asyncapi(event_types: Mapping[str, type[Event]] = EVENT_TYPES) -> str:
    # JSON is YAML, so no YAML library is needed to write it, and any to read it.
    return _json(asyncapi_document({name: schema_of(model) for name, model in event_types.items()}))


def main(arguments: list[str]) -> int:
    match arguments:
        case ["write"]:
            refused = write()
        case ["check"]:
            refused = faults()
            if not ASYNCAPI.exists() or ASYNCAPI.read_text() != _asyncapi():
                refused.append("asyncapi.yaml is not what the code says: run `python -m events_schema.schemas write`")
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    for sentence in refused:
        print(sentence, file=sys.stderr)
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
