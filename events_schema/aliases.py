"""What happens to aliases: other names of collections. An alias's events are in the stream of its name, which it shares
with the collections that bore it before or will bear it."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from events_schema.base import Event


class AliasSet(Event):
    """The alias is new, or stood for another collection until now. In the log the event is of the collection that it
    stands for from now on."""

    event_type: ClassVar[str] = "AliasSet"

    name: str
    collection: str
    collection_id: UUID


class AliasRemoved(Event):
    """In the log the event is of the collection that the alias stood for."""

    event_type: ClassVar[str] = "AliasRemoved"

    name: str
    collection_id: UUID


AliasEvent = AliasSet | AliasRemoved
