"""Events that are parked although this software can apply them, as an earlier version of it would have left them."""

from __future__ import annotations

from collections.abc import Sequence

from events_schema.streams import vector_stream
from projector.parking import FOLLOWS
from shared.event_log import read_events_at
from tests.projector.log_writer import NewCollection
from tests.projector.projecting import Projection

REASON = "too new"

_PARK = """
INSERT INTO parked_events (position, partition, event_id, collection_id, aggregate_id, aggregate_type, event_type,
                           reason, attempts)
VALUES ($1, 0, $2, $3, $4, 'vector', $5, $6, 1)
"""


async def park_again(
    projection: Projection, collection: NewCollection, vector_id: str, positions: Sequence[int]
) -> None:
    """All events of a vector, which were applied: its rows are gone, the first event is at fault, the others follow."""
    name, stream = collection.collection_id.hex, vector_stream(collection.collection_id, vector_id)
    async with projection.read.transaction():
        for event in await read_events_at(projection.log, positions):
            reason = REASON if event.position == positions[0] else FOLLOWS
            await projection.read.execute(
                _PARK, event.position, event.event_id, collection.collection_id, stream, event.event_type, reason
            )
        for table in ("records", "embeddings"):
            await projection.read.execute(f"DELETE FROM {table}_{name}_g1 WHERE id = $1", vector_id)
