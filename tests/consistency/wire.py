"""How questions and changes become requests, and answers become records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from tests.consistency.history import Change, Freshness, Question, Read, Shown
from tests.consistency.values import (
    ALIASES,
    content_of,
    embedding_of,
    mark_in,
    metadata_of,
    query_embedding,
    target_mark,
)


@dataclass(frozen=True, slots=True)
class Call:
    method: str
    path: str
    body: dict[str, Any] | None = None


def call_of(question: Question, vectors: str, options: dict[str, Any], cursor: str | None) -> Call:
    """`vectors` is the path of the collection's vectors; `options` are what every read takes; `cursor` is of
    the page before."""
    match question.kind:
        case "get":
            return Call("GET", f"{vectors}/{question.id}?{_query(options)}")
        case "past":
            return Call("GET", f"{vectors}/{question.id}?{_query({**options, 'version': question.version})}")
        case "history":
            return Call("GET", f"{vectors}/{question.id}/history?{_query({**options, 'limit': question.limit})}")
        case "list":
            page = {**options, "limit": question.limit}
            if cursor is not None:
                page["cursor"] = cursor
            if question.scrolled:
                order = {"direction": "desc" if question.descending else "asc"}
                return Call("POST", f"{vectors}/scroll", {**page, **order, **_filter(question)})
            return Call("GET", f"{vectors}?{_query(page)}")
        case "count":
            return Call("POST", f"{vectors}/count", {**options, **_filter(question)})
        case "match" | "resolve":
            raise AssertionError("nobody asks these by themselves")
        case "search":
            return Call("POST", f"{vectors}/search", {**options, **_search(question)})


def call_of_batch(questions: Sequence[Question], vectors: str, options: dict[str, Any]) -> Call:
    return Call("POST", f"{vectors}/search/batch", {**options, "queries": [_search(one) for one in questions]})


def call_of_matching(change: Change, version: int, vectors: str, options: dict[str, Any]) -> Call:
    """The change of whatever vector has this id and still this version."""
    wanted = {**options, "filter": {"$id": change.id, "$version": version}}
    match change.kind:
        case "delete":
            return Call("POST", f"{vectors}/delete", wanted)
        case "patch":
            return Call("POST", f"{vectors}/patch", {**wanted, "metadata": metadata_of(change.mark)})
        case _:
            raise AssertionError(f"no filter can {change.kind}")


def _search(question: Question) -> dict[str, Any]:
    origin = {"id": question.like} if question.like else {"embedding": query_embedding(question.query).tolist()}
    return {
        **origin,
        "k": question.k,
        "exact": question.exact,
        "include": list(question.include),
        **_filter(question),
    }


def _query(parameters: dict[str, Any]) -> str:
    return "&".join(f"{name}={value}" for name, value in parameters.items())


def _filter(question: Question) -> dict[str, Any]:
    return {} if question.group is None else {"filter": {"group": question.group}}


def answered(read: Read, status: int, document: dict[str, Any], covers: int) -> Read:
    """The read with what a 200 or 404 said; `covers` is the last position of its token."""
    if status == 404:
        found = read.question.collection == ALIASES or document["type"].endswith("/vector-not-found")
        return replace(read, collection_found=found)
    told = document["freshness"]
    age_ms = math.inf if told["age_ms"] is None else told["age_ms"]
    read = replace(
        read,
        freshness=Freshness(told["position"], covers, age_ms),
        cached=document.get("cached", False),
    )
    match read.question.kind:
        case "get" if read.question.collection == ALIASES:
            mark = target_mark(document["collection"])
            shown = Shown(document["name"], document["version"], document["position"], mark, mark)
            return replace(read, shown=(shown,))
        case "get" | "past":
            return replace(read, shown=(_shown(document),))
        case "history":
            events = tuple(Shown(event["id"], event["version"], event["position"]) for event in document["items"])
            return replace(read, shown=events, more=document["next_cursor"] is not None)
        case "list":
            items = tuple(map(_shown, document["items"]))
            return replace(read, shown=items, more=document["next_cursor"] is not None)
        case "count":
            return replace(read, count=document["count"])
        case "search":
            return replace(read, shown=tuple(map(_shown, document["hits"])))
        case "match" | "resolve":
            return read


def _shown(item: dict[str, Any]) -> Shown:
    metadata, content = item.get("metadata"), item.get("content")
    return Shown(
        item["id"],
        item["version"],
        item.get("position", 0),
        None if metadata is None else metadata["mark"],
        None if content is None else mark_in(content),
        item.get("distance", 0.0),
    )


def call_of_changes(changes: Sequence[Change], vectors: str) -> Call:
    """One change alone has a route of its own; several are a batch."""
    if len(changes) > 1:
        operations = [{"op": _OPERATIONS[change.kind], "id": change.id, **_values(change)} for change in changes]
        return Call("POST", f"{vectors}/batch", {"operations": operations})
    change = changes[0]
    match change.kind:
        case "create":
            return Call("POST", vectors, {"id": change.id, **_values(change)})
        case "put":
            return Call("PUT", f"{vectors}/{change.id}", _values(change))
        case "patch" | "move":
            return Call("PATCH", f"{vectors}/{change.id}", _values(change))
        case "delete":
            return Call("DELETE", f"{vectors}/{change.id}")


_OPERATIONS = {"create": "create", "put": "upsert", "patch": "patch", "move": "patch", "delete": "delete"}


def _values(change: Change) -> dict[str, Any]:
    metadata = {"metadata": metadata_of(change.mark)}
    placed = {"embedding": embedding_of(change.mark).tolist(), "content": content_of(change.mark)}
    match change.kind:
        case "create" | "put":
            return {**metadata, **placed}
        case "patch":
            return metadata
        case "move":
            return placed
        case "delete":
            return {}


def acknowledged(changes: Sequence[Change], document: dict[str, Any]) -> tuple[Change, ...]:
    """The changes with their versions and positions, without those that changed nothing."""
    results = document.get("results", [document])
    return tuple(
        replace(change, version=result["version"], position=result["position"])
        for change, result in zip(changes, results, strict=True)
        if result.get("result") != "unchanged"
    )


def problem_name(body: bytes) -> str:
    """The last part of a problem's type, or what came in its place."""
    try:
        return str(orjson.loads(body)["type"]).rpartition("/")[2]
    except (ValueError, KeyError, TypeError):
        return body[:200].decode(errors="replace")
