"""What is generated from the code is whole, and its examples are what the API takes and gives."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from docs.builder import api_reference, settings_reference
from docs.builder.api_reference import openapi, operations, tags
from docs.builder.errors import MissingExampleError, UndescribedSettingError, UnknownPartError
from docs.builder.generated import unshown_parts, with_generated_parts
from docs.builder.metrics_reference import metrics_of
from docs.builder.repository import DOCS
from docs.builder.schema_tables import Components, completed
from docs.builder.settings_reference import SETTINGS_GROUPS, settings_of
from shared.http.problems import PROBLEMS
from shared.settings import ProcessSettings


def test_every_operation_is_in_the_reference() -> None:
    shown = "".join(map(operations, tags()))
    for path, methods in openapi()["paths"].items():
        for method in methods:
            assert f"`{method.upper()} {path}`" in shown


def test_a_generated_part_that_no_page_shows_is_found() -> None:
    pages = [page.read_text() for page in DOCS.rglob("*.md")]
    assert unshown_parts(pages) == []
    assert "operations vectors" in unshown_parts(text for text in pages if "generated: operations" not in text)


def test_every_problem_that_an_operation_can_answer_is_linked() -> None:
    for tag in tags():
        section = operations(tag)
        named = {
            name
            for methods in openapi()["paths"].values()
            for operation in methods.values()
            if tag in operation["tags"]
            for status, answer in operation["responses"].items()
            if status >= "4"
            for name in PROBLEMS
            if f"`{name}`" in answer["description"]
        }
        assert all(f"[{name}](../problems/{name}.md)" in section for name in named)


def examples() -> list[tuple[str, Any]]:
    schemas = openapi()["components"]["schemas"]
    return [(name, example) for name, schema in schemas.items() for example in schema.get("examples", ())]


@pytest.mark.parametrize(("name", "example"), examples(), ids=lambda value: value if isinstance(value, str) else "")
def test_an_example_is_as_its_schema_says(name: str, example: Any) -> None:
    document = openapi()
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    whole = completed(example, schema, Components(document["components"]["schemas"]))
    jsonschema.Draft202012Validator(schema).validate(whole)


def test_a_model_without_an_example_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    schemas = openapi()["components"]["schemas"]
    monkeypatch.setitem(schemas, "SearchAnswer", {**schemas["SearchAnswer"], "examples": []})
    with pytest.raises(MissingExampleError, match=r"POST /api/v1/collections/\{name\}/vectors/(search|recommend)"):
        api_reference.operations("vectors")


def test_a_setting_is_listed_with_its_bounds_and_default() -> None:
    assert "| `AINDUSDB_PORT` | integer, 1 to 65,535 | `8000` |" in settings_of("every process")
    assert "| `AINDUSDB_EVENTS_DSN` | secret text | required |" in settings_of("command service")
    assert "| `AINDUSDB_MAX_BODY_BYTES` | integer, at least 1,024 | `33554432` (32 MiB) |" in settings_of(
        "both services"
    )


def test_what_all_processes_share_is_not_listed_again() -> None:
    for group in SETTINGS_GROUPS[1:-1]:
        assert "AINDUSDB_PORT" not in settings_of(group)


def test_a_setting_that_nobody_describes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Undescribed(ProcessSettings):
        secret_lever: int = 1

    monkeypatch.setattr(settings_reference, "_PROCESSES", {"a process": Undescribed})
    with pytest.raises(UndescribedSettingError, match="secret_lever"):
        settings_of("a process")


@pytest.mark.parametrize(
    ("process", "metric"),
    [
        ("command service", "aindusdb_events_appended_total"),
        ("query service", "aindusdb_query_freshness_wait_seconds"),
        ("projector", "aindusdb_projector_lag_seconds"),
        ("relay", "aindusdb_relay_backlog_events"),
        ("edge", "aindusdb_edge_requests_total"),
    ],
)
def test_the_metrics_of_a_process_are_listed(process: str, metric: str) -> None:
    assert f"| `{metric}` |" in metrics_of(process)


def test_a_part_that_nothing_generates_is_refused() -> None:
    with pytest.raises(UnknownPartError, match="nothing at all"):
        with_generated_parts("<!-- generated: nothing at all -->")
