"""No operation of the OpenAPI document is forgotten: the client has a method for it, which can send all that the
operation takes, and whose answer has all that it says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from itertools import islice
from typing import Any, get_args
from urllib.parse import unquote

import httpx
import jsonschema
import pytest

from aindusdb.client import Client, Example, SearchQuery
from aindusdb.client.calls import Call
from aindusdb.client.models import Answer, Event, FeedEvent
from aindusdb.client.synchronous.transport import Transport
from clients import openapi
from docs.builder.schema_tables import Components, completed

DOCUMENT: dict[str, Any] = json.loads(openapi.DOCUMENT.read_text())
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
COMPONENTS = Components(SCHEMAS)

_VECTORS = "/api/v1/collections/{name}/vectors"
_PLACES = {"name": "articles", "id": "a-1"}
_ID = "0199ffcb-6e4c-7b44-9a52-41f7f2f1b6d0"
_PAGE: dict[str, Any] = {"page_size": 7}
_FRESH: dict[str, Any] = {"token": "AdIq", "timeout_ms": 500, "max_staleness_ms": 9}
_PAST: dict[str, Any] = {**_FRESH, "as_of": {"position": 15}}
_SHOWN: dict[str, Any] = {"include": ["content", "embedding"], "exclude": ["metadata.notes"]}
_OPTIONS: dict[str, Any] = {
    "filter": {"lang": "en"},
    "ef_search": 50,
    "exact": True,
    "min_score": 0.5,
    "model": "m",
    **_SHOWN,
}
_ORIGIN: dict[str, Any] = {"embedding": [1, 2], "query": "wing", "id": "a-2"}
_SEARCHED: dict[str, Any] = {**_OPTIONS, **_PAST, "explain": True}
_KEY: dict[str, Any] = {"idempotency_key": "once"}
_KEYED: dict[str, Any] = {**_KEY, "if_version": 3}
_PARTS: dict[str, Any] = {
    "embedding": [1, 2],
    "content": "Wing flutter",
    "metadata": {"lang": "en"},
    "model": "m",
    "expires_at": "2100-01-01T00:00:00Z",
}
_MATCHING: dict[str, Any] = {"limit": 5, "dry_run": True, "token": "AdIq", "timeout_ms": 500, **_KEY}
_KIND: dict[str, Any] = {
    "metric": "l2",
    "type": "halfvec",
    "index": {"kind": "none"},
    "month_partitions": True,
    "metadata_indexes": [{"field": "price", "type": "number"}],
    "retention_seconds": 60,
    "description": "new",
}

CALLS: dict[str, Callable[[Client], Any]] = {
    "GET /health": lambda client: client.health(),
    "GET /ready": lambda client: client.ready(),
    "GET /api/v1/collections": lambda client: client.collections(**_PAGE, **_FRESH),
    "POST /api/v1/collections": lambda client: client.create_collection(
        "articles", dimension=2, model="m", **_KIND, **_KEY
    ),
    "GET /api/v1/collections/{name}": lambda client: client.collection("articles", **_FRESH),
    "PATCH /api/v1/collections/{name}": lambda client: client.update_collection(
        "articles", model="m", dimension=2, **_KIND, **_KEYED
    ),
    "DELETE /api/v1/collections/{name}": lambda client: client.delete_collection("articles", **_KEYED),
    "POST /api/v1/collections/{name}/restore": lambda client: client.restore_collection("articles", _ID, cursor="Amh"),
    "GET /api/v1/collections/{name}/snapshots": lambda client: client.snapshots("articles", **_FRESH),
    "GET /api/v1/collections/{name}/reembedding": lambda client: client.reembedding("articles"),
    "GET /api/v1/aliases": lambda client: client.aliases(collection="articles", **_PAGE, **_FRESH),
    "GET /api/v1/aliases/{name}": lambda client: client.alias("articles", **_FRESH),
    "PUT /api/v1/aliases/{name}": lambda client: client.set_alias("articles", "articles-2026", **_KEYED),
    "DELETE /api/v1/aliases/{name}": lambda client: client.remove_alias("articles", **_KEYED),
    f"GET {_VECTORS}": lambda client: client.vectors("articles", **_SHOWN, **_PAGE, **_PAST),
    f"POST {_VECTORS}": lambda client: client.create("articles", "a-1", **_PARTS, **_KEY),
    f"POST {_VECTORS}/batch": lambda client: client.write_batch("articles", [{"op": "delete", "id": "a-1"}], **_KEY),
    f"POST {_VECTORS}/count": lambda client: client.count("articles", filter={"lang": "en"}, **_PAST),
    f"POST {_VECTORS}/delete": lambda client: client.delete_matching("articles", {"lang": "en"}, **_MATCHING),
    f"POST {_VECTORS}/import": lambda client: client.import_lines("articles", b"{}", on_error="stop", import_id=_ID),
    f"POST {_VECTORS}/patch": lambda client: client.patch_matching(
        "articles", {"lang": "en"}, {"lang": None}, **_MATCHING
    ),
    f"POST {_VECTORS}/recommend": lambda client: client.recommend(
        "articles", ["a-1", [1, 2]], [Example(query="wing")], strategy="best_score", k=5, **_SEARCHED
    ),
    f"POST {_VECTORS}/scroll": lambda client: client.scroll_pages(
        "articles", filter={"lang": "en"}, order_by="created_at", direction="desc", **_SHOWN, **_PAGE, **_PAST
    ),
    f"POST {_VECTORS}/search": lambda client: client.search("articles", k=5, **_ORIGIN, **_SEARCHED),
    f"POST {_VECTORS}/search/batch": lambda client: client.search_batch(
        "articles", [SearchQuery(k=5, **_ORIGIN, **_OPTIONS)], explain=True, **_PAST
    ),
    f"POST {_VECTORS}/search/groups": lambda client: client.search_groups(
        "articles", "metadata.lang", groups=3, per_group=2, **_ORIGIN, **_SEARCHED
    ),
    f"GET {_VECTORS}/{{id}}": lambda client: client.get(
        "articles", "a-1", version=2, collection_id=_ID, **_SHOWN, **_PAST
    ),
    f"PUT {_VECTORS}/{{id}}": lambda client: client.put("articles", "a-1", **_PARTS, **_KEYED),
    f"PATCH {_VECTORS}/{{id}}": lambda client: client.patch("articles", "a-1", **_PARTS, **_KEYED),
    f"DELETE {_VECTORS}/{{id}}": lambda client: client.delete("articles", "a-1", **_KEYED),
    f"GET {_VECTORS}/{{id}}/history": lambda client: client.history(
        "articles", "a-1", include=["embedding"], collection_id=_ID, **_PAGE, **_FRESH
    ),
    f"POST {_VECTORS}/{{id}}/restore": lambda client: client.restore("articles", "a-1", 1, **_KEYED),
    "GET /api/v1/events": lambda client: client.events(
        after=41, collection="articles", collection_id=_ID, types=["VectorDeleted"], include=["embedding"]
    ),
    "POST /api/v1/restore": lambda client: client.restore_request("r-1", force=True, cursor="Amh"),
}
"""Each with all that it can be told."""

LEFT_OUT = {f"GET {_VECTORS}/search": "the search of a text that POST takes too, for browsers"}
"""Operations that need no method. Those under `/api/v1/vectors` are those of the collection of the name `default`."""

NOT_TOLD = {
    "consistency_token": "the header carries it",
    "Last-Event-ID": "the feed carries it when it is connected anew",
    f"POST {_VECTORS}/import Idempotency-Key": "an import takes none",
}
"""What an operation takes and its method need not be told, everywhere or in one operation."""


def operations() -> dict[str, Any]:
    return {
        f"{method.upper()} {path}": operation
        for path, by_method in DOCUMENT["paths"].items()
        for method, operation in by_method.items()
        if not (path.startswith("/api/v1/vectors") and f"/api/v1/collections/{{name}}{path[7:]}" in DOCUMENT["paths"])
    }


def test_every_operation_has_a_method() -> None:
    missing = operations().keys() - CALLS.keys() - LEFT_OUT.keys()
    assert not missing, "the client has no methods for these; what it need not have is named in LEFT_OUT"
    assert not (CALLS.keys() | LEFT_OUT.keys()) - operations().keys(), "they are gone"


@pytest.mark.parametrize("name", CALLS)
def test_a_method_can_send_all_that_its_operation_takes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method, _, path = name.partition(" ")
    operation = operations()[name]
    call = last_call(name, monkeypatch)
    assert (call.method, unquote(call.path)) == (method, path.format(**_PLACES))
    body = {} if not call.body else json.loads(call.body)
    told = {*call.parameters, *call.headers, *body, *_PLACES}
    taken = {one["name"] for one in operation.get("parameters", ())}
    schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    if schema is not None:
        taken |= COMPONENTS.resolve(schema)["properties"].keys()
        jsonschema.validate(body, {**schema, "components": DOCUMENT["components"]})
    not_told = {one.removeprefix(f"{name} ") for one in NOT_TOLD}
    assert not taken - told - not_told, "the method cannot be told these"


@pytest.mark.parametrize("name", CALLS)
def test_an_answer_has_all_that_its_operation_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = last_call(name, monkeypatch).answer
    schema = answer_schema(name)
    if schema is None:
        assert issubclass(answer, FeedEvent)
        answer, schema = Event, SCHEMAS["EventItem"]
    assert list(lacking(answer, schema)) == []


@pytest.mark.parametrize(("given", "schema"), [(SearchQuery, "SearchQuery"), (Example, "Example")])
def test_a_search_can_be_told_all_that_the_document_says(given: type[Any], schema: str) -> None:
    assert {one.name for one in fields(given)} == SCHEMAS[schema]["properties"].keys() - {"embedding_format"}


def last_call(name: str, monkeypatch: pytest.MonkeyPatch) -> Call[Any]:
    """What the method asks; of a list, that for its second page."""
    calls: list[Call[Any]] = []

    def recorded(send: Callable[..., Any]) -> Callable[..., Any]:
        def sent(transport: Transport, call: Call[Any], *more: Any) -> Any:
            calls.append(call)
            return send(transport, call, *more)

        return sent

    monkeypatch.setattr(Transport, "exchange", recorded(Transport.exchange))
    monkeypatch.setattr(Transport, "stream", recorded(Transport.stream))
    with Client("http://service", transport=httpx.MockTransport(lambda _: example_of(name))) as client:
        answer = CALLS[name](client)
        if isinstance(answer, Iterator):
            list(islice(answer, 2))
        else:
            assert isinstance(answer, Answer)
    return calls[-1]


def example_of(name: str) -> httpx.Response:
    """What the document shows."""
    schema = answer_schema(name)
    if schema is None:
        history = COMPONENTS.resolve({"$ref": "#/components/schemas/HistoryAnswer"})
        [event] = completed(history["examples"][0], history, COMPONENTS)["items"]
        text = f"id: 2@{_ID}\ndata: {json.dumps(event)}\n\n" * 2
        return httpx.Response(200, text=text, headers={"Content-Type": "text/event-stream"})
    return httpx.Response(200, json=completed(schema["examples"][0], schema, COMPONENTS))


def answer_schema(name: str) -> Mapping[str, Any] | None:
    """None: the answer is no JSON."""
    responses = operations()[name]["responses"]
    content = next(one["content"] for status, one in responses.items() if status.startswith("2"))
    return COMPONENTS.resolve(content["application/json"]["schema"]) if "application/json" in content else None


def lacking(model: type[Answer], schema: Mapping[str, Any], at: str = "") -> Iterator[str]:
    """The members that the document names and the model does not, those of the objects within included."""
    for name, member in schema["properties"].items():
        field = model.model_fields.get(name)
        if field is None:
            yield f"{model.__name__} lacks {at}/{name}"
            continue
        for inner, one in zip(models_in(field.annotation), objects_in(member), strict=False):
            yield from lacking(inner, one, f"{at}/{name}")


def models_in(annotation: Any) -> Iterator[type[Answer]]:
    if isinstance(annotation, type):
        if issubclass(annotation, Answer):
            yield annotation
        return
    for one in get_args(annotation):
        yield from models_in(one)


def objects_in(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    resolved = COMPONENTS.resolve(schema)
    if "properties" in resolved:
        yield resolved
    for one in (*resolved.get("anyOf", ()), resolved.get("items", {})):
        if one:
            yield from objects_in(one)
