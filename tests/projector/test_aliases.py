"""What events of aliases do to the read model, in whatever order the partitions bring them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from events_schema.base import RecordedEvent
from projector.event_log import opened_event_log
from projector.projection import project
from shared.postgres import connect
from tests.projector.log_writer import LogWriter
from tests.projector.projecting import Projection, projector_settings
from tests.projector.read_model import read_log


async def test_an_alias_is_projected_switched_and_removed(projection: Projection, log: LogWriter) -> None:
    blue, green = await log.create_collection("blue"), await log.create_collection("green")
    await log.set_alias("active", blue)
    await log.set_alias("other", green)
    await log.set_alias("active", green)
    await log.remove_alias("other", green)
    await log.delete_collection(blue)
    await projection.assert_projected(batch_max_events=1)
    assert (await projection.stored())[green.collection_id].aliases == {"active"}
    tombstone = await projection.read.fetchrow("SELECT * FROM aliases WHERE name = 'other'")
    assert tombstone is not None
    assert (tombstone["position"], tombstone["removed_at"] is not None) == (6, True)


_ORDERS: dict[str, Callable[[RecordedEvent], Any]] = {
    "the alias before its collections": lambda event: event.aggregate_type != "alias",
    "the alias last": lambda event: event.aggregate_type == "alias",
    "the deletion first of all": lambda event: event.event_type != "CollectionDeleted",
}


@pytest.mark.parametrize("order", _ORDERS)
async def test_an_alias_never_leads_nowhere_in_whatever_order_partitions_come(
    projection: Projection, log: LogWriter, order: str
) -> None:
    blue = await log.create_collection("blue")
    await log.set_alias("active", blue)
    settings = projector_settings(projection.databases)
    await projection.catch_up()
    first = await projection.head()
    green = await log.create_collection("green")
    await log.set_alias("active", green)
    await log.delete_collection(blue)
    events = [event for event in await read_log(projection.log) if event.position > first]
    connection = await connect(projection.databases.read_dsn, settings, vectors=True)
    async with opened_event_log(settings) as event_log:
        for event in sorted(events, key=_ORDERS[order]):
            async with connection.transaction():
                await project(connection, [event], event_log)
            assert await projection.read.fetchval(
                "SELECT count(*) FROM aliases JOIN collection_state USING (collection_id) WHERE removed_at IS NULL"
            ), event.event_type
    await connection.close()
    model = await projection.stored()
    assert (model[green.collection_id].aliases, model[blue.collection_id].aliases) == ({"active"}, set())
    assert model[blue.collection_id].deleted_at is not None
