"""Old events are read as if they had been written today.

An upcaster takes the raw data of one (event type, schema version) to the next version; a chain of them
takes v1 to v2 to v3. It works on dicts, so the classes of old versions need not be kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]

UPCASTERS: Mapping[tuple[str, int], Upcaster] = {}


class UnreadableEventError(Exception):
    """The event cannot be understood by this version of the software: its type or schema version is unknown."""


def upcast(
    event_type: str,
    schema_version: int,
    event_data: dict[str, Any],
    current_version: int,
    upcasters: Mapping[tuple[str, int], Upcaster] = UPCASTERS,
) -> dict[str, Any]:
    """The data in the shape of `current_version`.

    Raises:
        UnreadableEventError: the event is newer than this software, or a step of the chain is missing.
    """
    if schema_version > current_version:
        raise UnreadableEventError(
            f"{event_type} has schema version {schema_version}; this software reads up to {current_version}"
        )
    for version in range(schema_version, current_version):
        step = upcasters.get((event_type, version))
        if step is None:
            raise UnreadableEventError(f"{event_type} has no upcaster from schema version {version}")
        event_data = step(event_data)
    return event_data
