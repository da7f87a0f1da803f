"""`aindusdb events parked`: what cannot be applied is shown with its reason, and applied once it can be."""

from __future__ import annotations

from events_schema.streams import vector_stream
from projector.parking import FOLLOWS
from tests.projector.log_writer import LogWriter
from tests.projector.projecting import Projection
from tests.replay.commanding import answer, refusal, run


async def test_a_parked_event_is_shown_and_retried_with_all_that_follow_it(
    projection: Projection, log: LogWriter
) -> None:
    databases = projection.databases
    articles = await log.create_collection()
    await log.create(articles, "a", content="first")
    stream = vector_stream(articles.collection_id, "a")
    unknown = await log.append(articles.collection_id, stream, "vector", "VectorPraised", {"id": "a"})
    follower = await log.update(articles, "a", content="follows")
    lost = await log.create(articles, "b")
    later = await log.update(articles, "b", content="second")
    await projection.catch_up()
    [shown] = (await answer(databases, "events", "parked", "list"))["parked"]
    assert (shown["position"], shown["event_type"], shown["collection"]) == (unknown, "VectorPraised", "articles")
    assert "unknown to this software" in shown["reason"]
    found = await answer(databases, "events", "parked", "list", "--followers", "--collection", "articles")
    assert [one["position"] for one in found["parked"]] == [unknown, follower]
    one = await answer(databases, "events", "parked", "show", str(unknown))
    assert (one["held_back"], one["first_position"], one["event"]["event_data"]) == (2, unknown, {"id": "a"})
    assert f"It follows the event at position {unknown}" in await refusal(
        databases, "events", "parked", "retry", str(follower)
    )
    assert "is not parked" in await refusal(databases, "events", "parked", "show", "1")
    assert "beyond the head" in await refusal(databases, "events", "parked", "retry", "99")
    stuck = await answer(databases, "events", "parked", "retry", str(unknown), exit_code=3)
    assert (stuck["applied"], stuck["left"], stuck["position"]) == (0, 2, unknown)

    # As if an earlier version of this software could not apply what this one can.
    await projection.read.execute(
        """INSERT INTO parked_events (position, partition, event_id, collection_id, aggregate_id, aggregate_type,
                                      event_type, reason, attempts)
           SELECT e.position, 0, e.event_id, e.collection_id, e.aggregate_id, 'vector', e.event_type, e.reason, 1
           FROM (VALUES ($1::bigint, $3::uuid, 'VectorCreated', 'too new'), ($2, $4, 'VectorUpdated', $7))
               AS given(position, event_id, event_type, reason),
               LATERAL (SELECT given.*, $5::uuid AS collection_id, $6::uuid AS aggregate_id) e""",
        lost, later,
        *[await log.connection.fetchval("SELECT event_id FROM events WHERE position = $1", at) for at in (lost, later)],
        articles.collection_id, vector_stream(articles.collection_id, "b"), FOLLOWS,
    )  # fmt: skip
    name = articles.collection_id.hex
    await projection.read.execute(f"DELETE FROM records_{name}_g1 WHERE id = 'b'")
    await projection.read.execute(f"DELETE FROM embeddings_{name}_g1 WHERE id = 'b'")
    assert (await answer(databases, "verify"))["ok"]
    revision = await projection.read.fetchval("SELECT revision FROM collection_state")
    done = await answer(databases, "events", "parked", "retry", str(lost))
    assert (done["applied"], done["left"], done["reason"]) == (2, 0, None)
    assert await projection.read.fetchval("SELECT revision FROM collection_state") != revision
    assert await projection.stored() == await projection.expected(without={unknown, follower})
    assert (await run(databases, "events", "parked", "list")).stdout.count("\n") == 1
