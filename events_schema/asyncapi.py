"""The AsyncAPI document: the Kafka topic, built from the events' schemas, and the change notifications on Redis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from pydantic.json_schema import DEFAULT_REF_TEMPLATE

from events_schema.base import AggregateType
from events_schema.notifications import CHANGES_CHANNEL, ChangeNotification

TOPIC = "aindusdb.events"
_DEFINITIONS = DEFAULT_REF_TEMPLATE.removesuffix("{model}")
API_VERSION = "1.3.0"

_POSITION = {"type": "integer", "minimum": 0}
_FEED_HEADERS: dict[str, Any] = {
    "log_id": {"type": "string", "format": "uuid", "description": "Which event log the record is from."},
    "feed": {"type": "integer", "minimum": 0, "description": "Which filling of the topic the record belongs to."},
    "after": {**_POSITION, "description": "Position up to which this partition was complete before this record."},
}
_EVENT_HEADERS: dict[str, Any] = {
    "ce_specversion": {"const": "1.0"},
    "ce_id": {"type": "string", "format": "uuid", "description": "The event_id."},
    "ce_type": {"type": "string", "description": "The event type."},
    "ce_source": {"type": "string", "description": "The event log: urn:uuid and the log_id."},
    "ce_subject": {"type": "string", "description": "The aggregate_id."},
    "ce_time": {"type": "string", "format": "date-time"},
    "position": {**_POSITION, "minimum": 1},
    "version": {"type": "integer", "minimum": 1, "description": "The aggregate's version."},
    "schema_version": {"type": "integer", "minimum": 1},
    "tenant": {"type": "string"},
    "collection_id": {"type": "string", "format": "uuid"},
    "aggregate_type": {"enum": list(get_args(AggregateType))},
    "traceparent": {"type": "string", "description": "W3C trace context, where the request had one."},
    **_FEED_HEADERS,
}


def asyncapi_document(schemas: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """`schemas`: event type -> JSON Schema of its data."""
    messages: dict[str, Any] = {
        event_type: {
            "name": event_type,
            "contentType": "application/json",
            "headers": {
                "type": "object",
                "properties": {**_EVENT_HEADERS, "ce_type": {"const": event_type}},
                "required": sorted(_EVENT_HEADERS.keys() - {"traceparent"}),
            },
            "payload": {
                "schemaFormat": "application/schema+json;version=draft-2020-12",
                "schema": _relocated(schema, f"#/components/messages/{event_type}/payload/schema/$defs/"),
            },
            "bindings": {"kafka": {"key": {"type": "string", "format": "uuid", "description": "The aggregate_id."}}},
        }
        for event_type, schema in sorted(schemas.items())
    }
    messages["Watermark"] = {
        "name": "Watermark",
        "summary": "All events of this partition up to `to` are here. It has no value.",
        "headers": {
            "type": "object",
            "properties": {
                **_FEED_HEADERS,
                "to": _POSITION,
                "event_id": {"type": "string", "format": "uuid", "description": "The event at position `to`."},
            },
            "required": ["after", "event_id", "feed", "log_id", "to"],
        },
        "payload": {"type": "null"},
    }
    notification = {
        "name": "ChangeNotification",
        "contentType": "application/json",
        "payload": {
            "schemaFormat": "application/schema+json;version=draft-2020-12",
            "schema": _relocated(
                ChangeNotification.model_json_schema(), "#/components/messages/ChangeNotification/payload/schema/$defs/"
            ),
        },
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "AindusDB Core events",
            "version": API_VERSION,
            "description": "CloudEvents 1.0 in Kafka's binary content mode. A record's partition is murmur2 of the "
            "aggregate_id's lower-case text, so the events of one aggregate are in order. Values of headers are UTF-8 "
            "text, numbers in decimal.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {
            "events": {
                "address": TOPIC,
                "description": "Every event of the log, once or more often; `position` tells a repetition.",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
                "bindings": {"kafka": {"topic": TOPIC}},
            },
            "changes": {
                "address": CHANGES_CHANNEL,
                "description": "On Redis (PUBLISH): one message after each batch that the projector has committed, or "
                "after several. Who was not listening has missed it; what must not be missed is read from the log.",
                "messages": {"ChangeNotification": {"$ref": "#/components/messages/ChangeNotification"}},
            },
        },
        "operations": {
            "receiveChanges": {
                "action": "receive",
                "channel": {"$ref": "#/channels/changes"},
                "summary": "Hear which collections changed, and from which position on the read model shows it.",
            },
            "receiveEvents": {
                "action": "receive",
                "channel": {"$ref": "#/channels/events"},
                "summary": "Follow the event log.",
            },
        },
        "components": {"messages": {**messages, "ChangeNotification": notification}},
    }


def _relocated(schema: Any, definitions: str) -> Any:
    """The schema with its references leading to `definitions`: within a document they start at the document's root."""
    match schema:
        case {"$ref": str(reference)}:
            return {**schema, "$ref": reference.replace(_DEFINITIONS, definitions, 1)}
        case dict():
            return {key: _relocated(value, definitions) for key, value in schema.items()}
        case list():
            return [_relocated(value, definitions) for value in schema]
        case _:
            return schema
