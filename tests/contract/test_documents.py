"""The OpenAPI documents are valid, and their examples are what they describe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.contract.documents import EVERY_DOCUMENT


@pytest.mark.parametrize("service", EVERY_DOCUMENT)
def test_document_is_valid_openapi(service: str) -> None:
    OpenAPIV31SpecValidator(EVERY_DOCUMENT[service]).validate()


@pytest.mark.parametrize("service", EVERY_DOCUMENT)
def test_examples_are_what_their_schemas_say(service: str) -> None:
    document = EVERY_DOCUMENT[service]
    found = 0
    for name, schema, example in _examples(document["components"]["schemas"]):
        validator = Draft202012Validator({**schema, "components": document["components"]})
        assert [error for error in validator.iter_errors(example) if not _is_a_null_left_out(error)] == [], name
        found += 1
    assert found >= 2


@pytest.mark.parametrize("service", EVERY_DOCUMENT)
def test_every_operation_documents_its_refusals_as_problems(service: str) -> None:
    for path, operations in EVERY_DOCUMENT[service]["paths"].items():
        for method, operation in operations.items():
            refusals = {status: answer for status, answer in operation["responses"].items() if status >= "400"}
            assert refusals or path == "/health", f"{method} {path}"
            for answer in refusals.values():
                assert set(answer["content"]) == {"application/problem+json"}, f"{method} {path}"


def _is_a_null_left_out(error: ValidationError) -> bool:
    """FastAPI leaves nulls out of its documents, also those in examples."""
    if error.validator != "required":
        return False
    schema: Any = error.schema
    instance: Any = error.instance
    missing = set(schema["required"]) - set(instance)
    return all({"type": "null"} in schema["properties"][name].get("anyOf", ()) for name in missing)


def _examples(schemas: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], Any]]:
    for name, schema in schemas.items():
        for example in schema.get("examples", ()):
            yield name, schema, example
