"""The log was restored to an earlier time, and the topic tells of what it does not have any more."""

from __future__ import annotations

from functools import partial

from command_service.log_identity import renew_identity
from command_service.relay_lease import open_next_feed
from command_service.relaying import Relay
from projector.consumer import Consumer
from projector.emptying import empty_read_model
from shared.event_log import read_log_id
from shared.kafka.clients import opened_admin
from shared.kafka.topic import delete_topic
from tests.projector.projecting import until
from tests.servers import connected
from tests.transport.transporting import Load, Transport

# The relay's lease is in the event database, and is restored with it.
_FORGET = """
ALTER TABLE events DISABLE TRIGGER events_are_append_only;
DELETE FROM events WHERE position > {position};
ALTER TABLE events ENABLE ALWAYS TRIGGER events_are_append_only;
UPDATE relay_leases SET position = {position}, partition_positions = array_fill({position}::bigint, ARRAY[6]),
    event_id = (SELECT event_id FROM events WHERE position = {position})
"""


def _speaks_of(process: Relay | Consumer, words: str) -> bool:
    return words in (process.fault or "")


async def test_nothing_is_published_nor_applied_until_the_topic_is_filled_from_the_restored_log(way: Transport) -> None:
    async with way.relay(), way.projector():
        await Load(way.log).some(20)
        await way.settle()
        await until(way.published, "nothing was published")
    async with connected(way.databases.events_admin_dsn) as admin:
        await admin.execute(_FORGET.format(position=10))
    # Even for a read model that knows nothing of what was lost, and a log that has grown beyond it since.
    await empty_read_model(way.projection.read, await read_log_id(way.projection.log))
    await Load(way.log, seed=8).some(40)
    before = await way.relay_status()
    async with way.relay() as relay, way.projector() as projector:
        for process in (relay, projector):
            await until(partial(_speaks_of, process, "speaks of event"), "it is not noticed")
            assert _speaks_of(process, "`aindusdb log restored`")
            assert _speaks_of(process, "`aindusdb relay reset --new-topic`")
    assert (await way.relay_status()).position == before.position
    async with connected(way.databases.events_owner_dsn) as owner, opened_admin(way.relay_settings()) as admin:
        await renew_identity(owner, in_use=True)
        await open_next_feed(owner, 6, before.position)
        await delete_topic(admin, way.topic)
    async with way.relay(), way.projector():
        await way.settle()
        await until(way.published, "nothing is published")
