"""The list of event types, from the models of the events."""

from __future__ import annotations

from docs.builder.markdown import table
from events_schema.registry import EVENT_TYPES
from events_schema.schemas import file_name

_SCHEMAS = "../../events_schema/json_schemas"
"""Seen from the page that shows the list."""


def event_types() -> str:
    return table(
        ("event", "fields", "remarks"),
        [
            (
                f"[{name}]({_SCHEMAS}/{file_name(name, model.schema_version)})",
                ", ".join(f"`{field}`" for field in model.model_fields),
                model.__dict__.get("__doc__") or "",
            )
            for name, model in EVENT_TYPES.items()
        ],
    )
