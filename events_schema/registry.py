"""From a row of the log to a typed event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import ValidationError

from events_schema.aliases import AliasEvent
from events_schema.base import Event
from events_schema.collections import CollectionEvent
from events_schema.skips import SkipEvent
from events_schema.upcasters import UPCASTERS, UnreadableEventError, Upcaster, upcast
from events_schema.vectors import VectorEvent

AnyEvent = CollectionEvent | AliasEvent | VectorEvent | SkipEvent

EVENT_TYPES: Mapping[str, type[AnyEvent]] = {model.event_type: model for model in get_args(AnyEvent)}


def decode_event(
    event_type: str,
    schema_version: int,
    event_data: dict[str, Any],
    *,
    event_types: Mapping[str, type[Event]] = EVENT_TYPES,
    upcasters: Mapping[tuple[str, int], Upcaster] = UPCASTERS,
) -> Any:
    """The typed event (one of `AnyEvent` with the default tables), upcast to the current schema version.

    Raises:
        UnreadableEventError: unknown type or version, or the data does not fit the type.
    """
    model = event_types.get(event_type)
    if model is None:
        raise UnreadableEventError(f"the event type {event_type!r} is unknown to this software")
    current = upcast(event_type, schema_version, event_data, model.schema_version, upcasters)
    try:
        return model.model_validate(current)
    except ValidationError as error:
        raise UnreadableEventError(f"{event_type} version {schema_version} does not fit its schema: {error}") from error
