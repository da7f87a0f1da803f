"""What was found, as answers show it."""

from __future__ import annotations

import time
from typing import Any

from query_service.as_of import described
from query_service.parts import Include
from query_service.query_bus import Answer, Route
from query_service.records import StoredVector
from query_service.search import Hit, Hits
from query_service.service import QueryService

_PARTS = ("content", "metadata", "embedding")


def shown(found: Hit | StoredVector, include: Include) -> dict[str, Any]:
    """Without what was not asked for."""
    document = {name: getattr(found, name) for name in found.__slots__ if name not in _PARTS}
    return document | include.shown(found.content, found.metadata, found.embedding)


def shown_hits(found: Hits, include: Include) -> dict[str, Any]:
    return {"hits": [shown(hit, include) for hit in found.hits], "complete": found.complete}


def origin(service: QueryService, answer: Answer[Any]) -> dict[str, Any]:
    """The members that say which collection answered, of when, and how fresh the answer is."""
    return {
        "collection": answer.collection.name,
        **described(answer.collection),
        "freshness": service.freshness_of(answer),
    }


def of_search(service: QueryService, answer: Answer[Any], started: float) -> dict[str, Any]:
    """What every answer of a search says of itself; `started` is the monotonic time at which it began."""
    return {
        **origin(service, answer),
        "cached": answer.cached,
        "took_ms": _milliseconds(time.monotonic() - started),
    }


def explained(explanation: dict[str, Any] | None, route: Route) -> dict[str, Any]:
    assert route.server is not None
    return {
        **(explanation or {}),
        "server": route.server.name,
        "role": "primary" if route.server.is_primary else "replica",
        "kept": route.kept_in,
        "failed_reads": route.failed_reads,
        "choice_ms": _milliseconds(route.choice_seconds),
        "cache_ms": _milliseconds(route.cache_seconds),
        "read_ms": _milliseconds(route.read_seconds),
    }


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 2)
