"""What aliases stand for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from events_schema.aliases import AliasRemoved, AliasSet
from events_schema.base import RecordedEvent
from events_schema.registry import decode_event
from events_schema.streams import collection_stream
from projector.errors import UnprojectableEventError
from projector.event_log import EventLog
from shared.postgres import Connection

# An event that is there already, because it was taken from the log ahead of its turn, changes nothing.
_PUT = """
INSERT INTO aliases AS a (tenant, name, collection_id, version, position, updated_at, removed_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (tenant, name) DO UPDATE SET collection_id = excluded.collection_id, version = excluded.version,
    position = excluded.position, updated_at = excluded.updated_at, removed_at = excluded.removed_at
WHERE a.version < excluded.version
"""

_OF_COLLECTION = "SELECT tenant, name, version FROM aliases WHERE collection_id = $1 AND removed_at IS NULL"


async def apply_alias_event(connection: Connection, recorded: RecordedEvent) -> None:
    """
    Raises:
        UnreadableEventError, UnprojectableEventError: the event is at fault.
    """
    event = decode_event(recorded.event_type, recorded.schema_version, recorded.event_data)
    removed_at: datetime | None
    match event:
        case AliasSet():
            removed_at = None
        case AliasRemoved():
            removed_at = recorded.timestamp
        case _:
            raise UnprojectableEventError(f"{recorded.event_type} is no event of an alias")
    await connection.execute(
        _PUT,
        recorded.tenant,
        event.name,
        recorded.collection_id,
        recorded.version,
        recorded.position,
        recorded.timestamp,
        removed_at,
    )


async def lead_away(connection: Connection, collection_id: UUID, log: EventLog) -> Sequence[UUID]:
    """To be called before a collection goes; the collections that its aliases stand for from now on.

    A collection with aliases is not deleted. So if one seems to have any, the log has an event before the deletion that
    leads the alias away, and that is only not yet here, for it comes in another partition.
    """
    led_to: list[UUID] = []
    for row in await connection.fetch(_OF_COLLECTION, collection_id):
        stream = await log.stream(collection_stream(row["tenant"], row["name"]))
        stream = (await log.skips()).left_out(stream)
        later = [one for one in stream if one.aggregate_type == "alias" and one.version > row["version"]]
        if later:
            await apply_alias_event(connection, later[0])
            led_to += [later[0].collection_id] if later[0].event_type == AliasSet.event_type else []
    return led_to
