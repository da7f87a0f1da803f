"""What a replay is asked for: which collections, and up to which position of the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from events_schema.collections import MAX_INDEXED_DIMENSION, IndexSpec
from projector.event_log import EventLog
from projector.generations import Shape, shape_of
from projector.spec_history import read_history
from shared.postgres import Connection

_READ = """
SELECT collection_id, tenant, name, embedding_spec, spec_since, metric, type, index, month_partitions FROM collections
WHERE deleted_at IS NULL AND ($1::text IS NULL OR tenant = $1 AND (name = $2 OR collection_id::text = $2
    OR collection_id = (SELECT collection_id FROM aliases WHERE tenant = $1 AND name = $2 AND removed_at IS NULL)))
ORDER BY tenant, name
"""


class TargetRefusedError(Exception):
    """The log or the read model does not have what was asked for; the message says what it has."""


@dataclass(frozen=True, slots=True)
class Target:
    """A collection, and what its tables are to be."""

    collection_id: UUID
    tenant: str
    name: str
    shape: Shape


async def read_targets(connection: Connection, tenant: str, names: Sequence[str]) -> list[Target]:
    """The collections with these names, aliases or ids, each once, in the order of the first mention.

    Raises:
        TargetRefusedError: there is none of that name.
    """
    found: dict[UUID, Target] = {}
    for name in names:
        targets = await _read(connection, tenant, name)
        if not targets:
            raise TargetRefusedError(
                f"There is no collection {name!r}. `aindusdb collections list` shows which there are; one that was "
                "created just now is there once the projector has come to it."
            )
        found |= {target.collection_id: target for target in targets if target.collection_id not in found}
    return list(found.values())


async def read_all_targets(connection: Connection) -> list[Target]:
    """Every collection of every tenant."""
    return await _read(connection, None, None)


async def _read(connection: Connection, tenant: str | None, name: str | None) -> list[Target]:
    return [
        Target(row["collection_id"], row["tenant"], row["name"], shape_of(row))
        for row in await connection.fetch(_READ, tenant, name)
    ]


async def expect_position(log: EventLog, position: int, target: Target) -> None:
    """Whether the log has come to the position, and the collection was there.

    Raises:
        TargetRefusedError
    """
    head = await log.head()
    if position > head.position:
        raise TargetRefusedError(f"Position {position:,} is beyond the head of the log, which is {head.position:,}.")
    [created, *_] = await log.collection_stream(target.collection_id)
    if position < created.position:
        raise TargetRefusedError(
            f"At position {position:,} there was no collection {target.name!r} yet; it was created at position "
            f"{created.position:,}."
        )


async def shape_at(log: EventLog, target: Target, position: int) -> Shape:
    """What tables of that position are to be: today's, with the embeddings that searches went by then."""
    specs = (await read_history(log, target.collection_id)).at(position)
    served = specs.find(specs.served)
    assert served is not None
    shape = replace(target.shape, spec=served.spec, spec_since=served.since)
    # What the collection has moved to may have an index that the numbers of then are too many for.
    indexed = served.spec.dimension <= MAX_INDEXED_DIMENSION[shape.type]
    return shape if indexed else replace(shape, index=IndexSpec(kind="none"))


async def position_at(log: EventLog, time: datetime) -> int:
    """Of the last event that is not later than `time`, which bears a time zone.

    Raises:
        TargetRefusedError: the log begins later, or the time is still to come.
    """
    head = await log.head()
    if head.timestamp is None:
        raise TargetRefusedError("The log is empty.")
    if time > await log.now():
        raise TargetRefusedError(f"{time.isoformat()} is still to come.")
    first = await log.timestamp_at(1)
    if time < first:
        raise TargetRefusedError(
            f"{time.isoformat()} is before the first event of the log, which is of {first.isoformat()}."
        )
    return await log.position_at(time)
