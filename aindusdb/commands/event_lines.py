"""How one event looks: a line for people, an object for programs. Embeddings are named, not shown."""

from __future__ import annotations

from typing import Any

from aindusdb.client import FeedEvent
from aindusdb.commands.output import printable
from events_schema.base import RecordedEvent


def as_json(event: RecordedEvent) -> dict[str, Any]:
    return {
        "position": event.position,
        "event_id": str(event.event_id),
        "timestamp": event.timestamp.isoformat(),
        "event_type": event.event_type,
        "schema_version": event.schema_version,
        "tenant": event.tenant,
        "collection_id": str(event.collection_id),
        "aggregate_id": str(event.aggregate_id),
        "aggregate_type": event.aggregate_type,
        "version": event.version,
        "event_data": _without_numbers(event.event_data),
        "metadata": event.metadata,
    }


def as_line(event: RecordedEvent) -> str:
    """Position, time, type, tenant, collection, id, version, actor, embeddings."""
    data = event.event_data
    parts = [
        f"{event.position:>9}",
        event.timestamp.isoformat(timespec="milliseconds"),
        f"{event.event_type:<17}",
        event.tenant,
        str(event.collection_id),
        str(data.get("id") or data.get("name") or event.aggregate_id),
        f"v{event.version}",
        str(event.metadata.get("actor", "")),
        *(_size(one) for one in data.get("embeddings") or ()),
    ]
    return "  ".join(printable(part) for part in parts)


def feed_line(event: FeedEvent) -> str:
    """Position, time, type, collection, id, version, actor, what was changed."""
    parts = [
        f"{event.position:>9}",
        event.timestamp.isoformat(timespec="milliseconds"),
        f"{event.event_type:<17}",
        event.collection_id,
        event.id or "",
        f"v{event.version}",
        event.actor or "",
        ",".join(event.changed),
    ]
    return "  ".join(printable(part) for part in parts)


def _without_numbers(data: dict[str, Any]) -> dict[str, Any]:
    if not data.get("embeddings"):
        return data
    return {**data, "embeddings": [{**one, "data": _size(one)} for one in data["embeddings"]]}


def _size(embedding: dict[str, Any]) -> str:
    return f"<{embedding['spec']['dimension']} floats>"
