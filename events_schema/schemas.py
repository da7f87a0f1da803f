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
from events_schema.upcasters import UPCASTERS

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


def faults(
    event_types: Mapping[str, type[Event]] = EVENT_TYPES, schemas: Path = SCHEMAS, samples: Path = SAMPLES
) -> list[str]:
    """What keeps the committed schemas and samples from being true, as sentences; empty when all is well."""
    found: list[str] = []
    for event_type, model in event_types.items():
        name = file_name(event_type, model.schema_version)
        if not (samples / name).exists():
            found.append(f"samples/{name} is missing: every version has a golden sample")
        committed = schemas / name
        if not committed.exists():
            found.append(f"json_schemas/{name} is missing: run `python -m events_schema.schemas write`")
            continue
        old, new = json.loads(committed.read_text()), schema_of(model)
        broken = incompatibilities(old, new)
        if broken:
            found.append(
                f"{event_type} no longer reads what its version {model.schema_version} allowed ({'; '.join(broken)}): "
                "raise schema_version and add an upcaster"
            )
        elif old != new:
            found.append(f"json_schemas/{name} is not what the code says: run `python -m events_schema.schemas write`")
        found += [
            f"{event_type} has no upcaster from version {version}"
            for version in range(1, model.schema_version)
            if (event_type, version) not in UPCASTERS
        ]
    for committed in sorted(schemas.glob("*.json")):
        event_type, _, version = committed.stem.rpartition(".v")
        known = event_types.get(event_type)
        if known is None or known.schema_version < int(version):
            found.append(f"json_schemas/{committed.name} has no event type any more: events of it are in logs for ever")
    return found


def write() -> list[str]:
    """Writes what is missing or compatibly changed; answers with the changes it refused."""
    refused: list[str] = []
    SCHEMAS.mkdir(exist_ok=True)
    for event_type, model in EVENT_TYPES.items():
        path = SCHEMAS / file_name(event_type, model.schema_version)
        schema = schema_of(model)
        broken = incompatibilities(json.loads(path.read_text()), schema) if path.exists() else []
        if broken:
            refused.append(f"{path.name}: {'; '.join(broken)}")
        else:
            path.write_text(_json(schema))
    ASYNCAPI.write_text(_asyncapi())
    return refused


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _asyncapi() -> str:
    # JSON is YAML, so no YAML library is needed to write it, and any to read it.
    return _json(asyncapi_document({name: schema_of(model) for name, model in EVENT_TYPES.items()}))


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
