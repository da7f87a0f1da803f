"""Requests made up from the OpenAPI documents, made to fit what the services hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import orjson
import schemathesis
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from command_service.import_routes import MEDIA_TYPES
from tests.contract.documents import DOCUMENTS
from tests.contract.running import Running
from tests.embedding.tiny_model import DIMENSION

Operation: TypeAlias = schemathesis.APIOperation[Any, Any, Any, Any]
Case: TypeAlias = schemathesis.Case[Any]


def not_checked(case: Case) -> list[schemathesis.CheckFunction]:
    """What a document cannot promise. No schema can say whether there is a vector, how a token is signed, or how long a
    collection's embeddings are. And whatever is sent as lines is a text: an import says of each line what is wrong."""
    return [positive_data_acceptance, *([negative_data_rejection] if case.media_type in MEDIA_TYPES else [])]


_numbers = st.integers(1, 9) | st.floats(-9, -1, width=32)
_embeddings = st.lists(_numbers, min_size=DIMENSION, max_size=DIMENSION)
_filters = st.sampled_from([{}, {"lang": "en"}, {"lang": {"$eq": None}}, {"a.b": 1}])


@schemathesis.serializer(*MEDIA_TYPES)
def _as_it_is(_context: object, value: object) -> bytes:
    """A body that is no JSON document; where it is not even a text, its JSON."""
    return value.encode(errors="replace") if isinstance(value, str) else orjson.dumps(value, default=str)


def operations(service: str) -> Iterator[Operation]:
    for result in schemathesis.openapi.from_dict(DOCUMENTS[service]).get_all_operations():
        assert isinstance(result, Ok)
        yield result.ok()


def _looked_for(case: Case) -> list[dict[str, Any]]:
    """The parts of the body that say what a search looks for."""
    body: Any = case.body
    if case.operation.label.endswith(("/search", "/search/groups")):
        return [body]
    if case.operation.label.endswith("/recommend"):
        return [one for name in ("positive", "negative") for one in body.get(name, ()) if isinstance(one, dict)]
    return [one for one in body.get("queries", ()) if isinstance(one, dict)]


@st.composite
def cases(draw: st.DrawFn, operation: Operation, running: Running) -> Case:
    """What the document allows, made to fit what the service holds or not, and what it does not allow."""
    nothing_to_get_wrong = not operation.body and not list(operation.iter_parameters())
    kind = "allowed" if nothing_to_get_wrong else draw(st.sampled_from(["fitting", "allowed", "not allowed"]))
    mode = GenerationMode.NEGATIVE if kind == "not allowed" else GenerationMode.POSITIVE
    case: Case = draw(operation.as_strategy(generation_mode=mode))
    if kind == "fitting":
        _fit(draw, case, running)
    if kind != "not allowed" and case.operation.path.endswith("/vectors/delete") and isinstance(case.body, dict):
        case.body["dry_run"] = True  # the other requests need the vectors
    return case


def _fit(draw: st.DrawFn, case: Case, running: Running) -> None:
    if "name" in case.path_parameters:
        kept, doomed = ("other-name", "doomed-name") if "/aliases/" in case.operation.path else ("held", "doomed")
        deletes_it = case.operation.label.startswith("DELETE") and case.operation.path.endswith("/{name}")
        case.path_parameters["name"] = doomed if deletes_it else kept
    if "id" in case.path_parameters:
        case.path_parameters["id"] = draw(st.sampled_from(["a", "b"]))
    case.headers.pop("X-Consistency-Token", None)
    if "If-Match" in case.headers:
        case.headers["If-Match"] = draw(st.sampled_from(['"1"', '"77"']))
    for name in ("cursor", "consistency_token"):
        case.query.pop(name, None)
    if draw(st.booleans()):
        case.headers["X-Consistency-Token"] = running.token
    body: Any = case.body
    if isinstance(body, dict):
        for name in ("consistency_token", "cursor"):
            body.pop(name, None)
        if "collection_id" in body:
            case.path_parameters["name"], body["collection_id"] = "gone", running.gone
        if "collection" in body:
            body["collection"] = "held"
        for fields in _looked_for(case):
            for other in ("id", "query", "model"):
                fields.pop(other, None)
            fields["embedding"] = draw(_embeddings)
        if "group_by" in body:
            body["group_by"] = "metadata.lang"
        for fields in (body, *_looked_for(case)):
            if "filter" in fields:
                fields["filter"] = draw(_filters)
        for fields in (body, *body.get("operations", ())):
            fields.pop("model", None)
            if "embedding" in fields:
                fields["embedding"] = draw(_embeddings)
            elif fields.get("content") is not None:
                fields["content"] += "."  # not blank
