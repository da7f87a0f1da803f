"""Whether the read model has all collections and aliases that the log has, and no others.

`catalogue_check` holds against the log what the read model has; what it lacks altogether only the log can tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from events_schema.aliases import AliasRemoved, AliasSet
from events_schema.base import RecordedEvent
from events_schema.collections import CollectionCreated
from events_schema.registry import decode_event
from projector.checkpoints import read_positions
from projector.event_log import EventLog
from projector.parking import without_parked
from shared.kafka.partitions import partitions_of
from shared.postgres import Connection

_COLLECTIONS = "SELECT collection_id, tenant, name, deleted_at IS NOT NULL AS is_deleted FROM collections"

_ALIASES = "SELECT tenant, name, collection_id, version, removed_at IS NOT NULL AS is_removed FROM aliases"


@dataclass(frozen=True, slots=True)
class Astray:
    """A collection that the log has and the read model has not, or the other way round."""

    collection_id: UUID
    tenant: str
    name: str
    detail: str


@dataclass(frozen=True, slots=True)
class AliasFault:
    tenant: str
    alias: str
    detail: str


@dataclass(frozen=True, slots=True)
class Census:
    collections: Sequence[Astray]
    aliases: Sequence[AliasFault]

    def of(self, tenant: str, names: Sequence[str]) -> Census:
        """Those of a tenant that have one of these names, or ids."""
        return Census(
            [
                one
                for one in self.collections
                if one.tenant == tenant and (one.name in names or str(one.collection_id) in names)
            ],
            [one for one in self.aliases if one.tenant == tenant and one.alias in names],
        )


async def take_census(connection: Connection, log: EventLog, timeout_seconds: float) -> Census:
    """As of one snapshot of the read database. What it has ahead of its turn is no fault. What is parked, or passed
    over, is left out."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        positions = await read_positions(connection)
        collections = {row["collection_id"]: row for row in await connection.fetch(_COLLECTIONS)}
        aliases = {(row["tenant"], row["name"]): row for row in await connection.fetch(_ALIASES)}
        created = await log.creations(timeout_seconds)
        led = await without_parked(connection, log, await log.alias_events(timeout_seconds))
        due = _projected(await without_parked(connection, log, created), positions)
        in_doubt = [
            one for one in due if one.collection_id in collections and collections[one.collection_id]["is_deleted"]
        ]
        deleted = await log.deleted_of([event.aggregate_id for event in in_doubt])
        known = {event.collection_id for event in created}
        astray = [
            *(_astray(event, "the read model does not have it")
              for event in due if event.collection_id not in collections),
            *(_astray(event, "the read model takes it for deleted")
              for event in in_doubt if event.collection_id not in deleted),
            *(Astray(collection_id, row["tenant"], row["name"], "the log does not have it")
              for collection_id, row in collections.items() if collection_id not in known and not row["is_deleted"]),
        ]  # fmt: skip
        return Census(astray, _alias_faults(led, _projected(led, positions), aliases))


def _projected(events: Sequence[RecordedEvent], positions: dict[int, int]) -> list[RecordedEvent]:
    partitions = partitions_of([event.aggregate_id for event in events], max(1, len(positions)))
    return [
        event
        for event, partition in zip(events, partitions, strict=True)
        if event.position <= positions.get(partition, 0)
    ]


def _astray(created: RecordedEvent, detail: str) -> Astray:
    event = decode_event(created.event_type, created.schema_version, created.event_data)
    assert isinstance(event, CollectionCreated)
    return Astray(created.collection_id, created.tenant, event.name, detail)


def _alias_faults(
    events: Sequence[RecordedEvent], projected: Sequence[RecordedEvent], rows: dict[tuple[str, str], asyncpg.Record]
) -> list[AliasFault]:
    told = {(*_alias(event), event.version): event for event in events}
    due = {_alias(event): event for event in projected}
    faults = []
    for key in sorted(due.keys() | rows.keys()):
        row, last = rows.get(key), due.get(key)
        if row is None or (last is not None and row["version"] < last.version):
            assert last is not None
            faults.append(AliasFault(*key, f"the read model lacks its event at position {last.position}"))
        elif (at := told.get((*key, row["version"]))) is None:
            faults.append(AliasFault(*key, f"the log has no version {row['version']} of it"))
        elif row["is_removed"] != (at.event_type == AliasRemoved.event_type):
            faults.append(AliasFault(*key, f"its event at position {at.position} is {at.event_type}"))
        elif row["collection_id"] != at.collection_id:
            said = f"it stands for {row['collection_id']}, its event at position {at.position} says {at.collection_id}"
            faults.append(AliasFault(*key, said))
    return faults


def _alias(recorded: RecordedEvent) -> tuple[str, str]:
    event = decode_event(recorded.event_type, recorded.schema_version, recorded.event_data)
    assert isinstance(event, AliasSet | AliasRemoved)
    return recorded.tenant, event.name
