"""The committed OpenAPI document is what the services say, and changes that would break clients are found."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clients import openapi

_SEARCH = "/api/v1/collections/{name}/vectors/search"
_VECTOR = "/api/v1/collections/{name}/vectors/{id}"


def committed() -> Any:
    return json.loads(openapi.DOCUMENT.read_text())


def changed(change: Callable[[Any], object]) -> list[str]:
    document = copy.deepcopy(committed())
    change(document)
    return openapi.breaks(committed(), document)


def test_the_committed_document_is_what_the_services_say() -> None:
    assert openapi.faults() == []


def test_an_idempotency_key_is_documented_where_it_is_taken() -> None:
    takers = {
        path
        for path, operations in committed()["paths"].items()
        for one in operations.get("post", {}).get("parameters", ())
        if one["name"] == "Idempotency-Key"
    }
    assert "/api/v1/collections/{name}/vectors/batch" in takers
    assert not any(path.endswith("/import") for path in takers)


BREAKING: dict[str, Callable[[Any], object]] = {
    f"GET {_VECTOR} is gone": lambda one: one["paths"][_VECTOR].pop("get"),
    f"POST {_SEARCH}: the body: /k: maximum fell from 1000.0 to 10": lambda one: _properties(one, "SearchRequest")[
        "k"
    ].update(maximum=10),
    f"POST {_SEARCH}: the body: /k: is now required": lambda one: one["components"]["schemas"]["SearchRequest"].update(
        required=["k"]
    ),
    "200 answers what a reader of the old document does not take: /hits: is now required": lambda one: one[
        "components"
    ]["schemas"]["SearchAnswer"]["required"].remove("hits"),
    f"GET {_VECTOR}: the parameter version is gone": lambda one: one["paths"][_VECTOR]["get"].update(
        parameters=[each for each in one["paths"][_VECTOR]["get"]["parameters"] if each["name"] != "version"]
    ),
    f"DELETE {_VECTOR}: it is answered with 204, no longer with 200": lambda one: one["paths"][_VECTOR]["delete"][
        "responses"
    ].update({"204": one["paths"][_VECTOR]["delete"]["responses"].pop("200")}),
}


def _properties(document: Any, schema: str) -> Any:
    return document["components"]["schemas"][schema]["properties"]


@pytest.mark.parametrize("sentence", BREAKING)
def test_a_change_that_breaks_clients_is_named(sentence: str) -> None:
    assert any(sentence in one for one in changed(BREAKING[sentence]))


def test_additions_break_nobody() -> None:
    def add(document: Any) -> None:
        document["paths"]["/api/v1/new"] = document["paths"][_SEARCH]
        _properties(document, "SearchRequest")["new"] = {"type": "integer", "default": 1}
        _properties(document, "SearchAnswer")["new"] = {"type": "integer"}
        document["paths"][_VECTOR]["get"]["parameters"].append(
            {"in": "query", "name": "new", "required": False, "schema": {"type": "string"}}
        )

    assert changed(add) == []


def test_a_refused_change_leaves_the_document_as_it_was(tmp_path: Path) -> None:
    document = committed()
    document["paths"]["/api/v1/gone"] = document["paths"][_SEARCH]
    path = tmp_path / "document.json"
    path.write_text(openapi.text_of(document))
    assert "POST /api/v1/gone is gone" in openapi.write(path)
    assert json.loads(path.read_text()) == document
    assert openapi.write(path, breaking=True) == []
    assert path.read_text() == openapi.DOCUMENT.read_text()
