"""The committed schemas, samples and AsyncAPI document, and the program that writes and checks them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import jsonschema
import pytest

from events_schema import schemas
from events_schema.asyncapi import asyncapi_document
from events_schema.base import Event
from events_schema.compatibility import incompatibilities
from events_schema.registry import EVENT_TYPES
from events_schema.schemas import ASYNCAPI, SAMPLES, SCHEMAS, faults, schema_of, write


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


def git(*arguments: str) -> str:
    ran = subprocess.run(["git", *arguments], cwd=SCHEMAS, capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        pytest.skip("not in a clone with its history")
    return ran.stdout


def test_no_golden_sample_was_ever_edited_or_removed() -> None:
    assert git("log", "--diff-filter=MDR", "--name-status", "--format=%h %s", "--", str(SAMPLES)) == ""
    assert git("diff", "--diff-filter=MDR", "--name-status", "HEAD", "--", str(SAMPLES)) == ""


def test_no_schema_was_ever_removed_or_replaced_by_an_incompatible_one() -> None:
    log = git("log", "--diff-filter=AM", "--name-only", "--relative", "--format=commit %H", "--", ".")
    for entry in log.split("commit ")[1:]:
        commit, *names = entry.split()
        for name in names:
            assert (SCHEMAS / name).exists(), f"{name} was removed"
            old, new = json.loads(git("show", f"{commit}:./{name}")), json.loads((SCHEMAS / name).read_text())
            assert incompatibilities(old, new) == [], f"{name} shuts out what it allowed in {commit}"


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


class Raised(Event):
    event_type: ClassVar[str] = "Kept"
    schema_version: ClassVar[int] = 2

    kind: Literal["x"]


def test_raised_version_demands_upcaster_and_all_files_of_both_versions(tmp_path: Path) -> None:
    committed, samples = tmp_path / "schemas", tmp_path / "samples"
    samples.mkdir()
    assert write({"Kept": Kept}, committed, tmp_path / "asyncapi.yaml") == []
    assert write({"Kept": Raised}, committed, tmp_path / "asyncapi.yaml") == []
    assert json.loads((committed / "Kept.v1.json").read_text()) == schema_of(Kept)
    for version in (1, 2):
        (samples / f"Kept.v{version}.json").write_text('{"kind": "x"}')
    assert faults({"Kept": Raised}, committed, samples) == ["Kept has no upcaster from version 1"]
    upcasters = {("Kept", 1): lambda data: {**data, "kind": "x"}}
    assert faults({"Kept": Raised}, committed, samples, upcasters) == []
    (committed / "Kept.v1.json").unlink()
    (samples / "Kept.v1.json").unlink()
    assert len(faults({"Kept": Raised}, committed, samples, upcasters)) == 2


def test_refused_change_leaves_every_file_as_it_was(tmp_path: Path) -> None:
    document = tmp_path / "asyncapi.yaml"
    write({"Kept": Kept}, tmp_path, document)
    before = {path: path.read_text() for path in tmp_path.iterdir()}
    assert any("no longer accepted" in sentence for sentence in write({"Kept": Narrowed}, tmp_path, document))
    assert {path: path.read_text() for path in tmp_path.iterdir()} == before


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        yield from [part["$ref"]] if "$ref" in part else []
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from references(inner)


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    document = json.loads(ASYNCAPI.read_text())
    assert document == asyncapi_document({name: schema_of(model) for name, model in EVENT_TYPES.items()})
    inside_payloads = 0
    for reference in references(document):
        found: Any = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
        assert isinstance(found, dict)
        inside_payloads += "/payload/" in reference
    assert inside_payloads


def test_asyncapi_document_describes_every_event_and_the_watermark() -> None:
    document = json.loads(ASYNCAPI.read_text())
    messages = document["components"]["messages"]
    assert document["channels"]["events"]["messages"].keys() == {*EVENT_TYPES, "Watermark"}
    assert document["channels"]["changes"]["messages"].keys() == {"ChangeNotification"}
    for name in EVENT_TYPES:
        assert messages[name]["headers"]["properties"].keys() == {
            "ce_specversion", "ce_id", "ce_type", "ce_source", "ce_subject", "ce_time",
            "position", "version", "schema_version", "tenant", "collection_id", "aggregate_type", "traceparent",
            "log_id", "feed", "after",
        }  # fmt: skip
    assert messages["Watermark"]["headers"]["properties"].keys() == {"log_id", "feed", "after", "to", "event_id"}
