"""`python -m projector` as it is run: health, metrics, announcements, an orderly end."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AbstractAsyncContextManager

import httpx
from redis.asyncio import Redis

from aindusdb.local_stack.ports import free_port
from events_schema.notifications import CHANGES_CHANNEL, ChangeNotification
from projector.announcer import ChangeAnnouncer
from shared.event_log import read_events, read_log_id
from tests.processes import running_process
from tests.projector.log_writer import LogWriter
from tests.projector.projecting import Projection, until
from tests.servers import Databases, connected


def _running(
    databases: Databases, **environment: str
) -> AbstractAsyncContextManager[tuple[asyncio.subprocess.Process, httpx.AsyncClient]]:
    return running_process(
        "projector",
        **{
            "AINDUSDB_EVENTS_DSN": databases.projector_events_dsn,
            "AINDUSDB_READ_DSN": databases.read_dsn,
            "AINDUSDB_METRICS_INTERVAL_SECONDS": "0.1",
            **environment,
        },
    )


async def _readiness(client: httpx.AsyncClient) -> tuple[int, str]:
    response = await client.get("/ready")
    return response.status_code, response.text


async def test_the_process_projects_tells_redis_and_ends_with_zero(
    projection: Projection, log: LogWriter, redis_url: str
) -> None:
    async with (
        Redis.from_url(redis_url) as redis,
        redis.pubsub() as subscription,
        _running(projection.databases, AINDUSDB_REDIS_URL=redis_url) as (process, client),
    ):
        await subscription.subscribe(CHANGES_CHANNEL)

        async def ready() -> bool:
            return (await _readiness(client))[0] == httpx.codes.OK

        await until(ready, "the process did not become ready")
        kinds: set[str] = set()
        articles = await log.create_collection()
        position = await log.create(articles, "a")

        async def announced() -> bool:
            message = await subscription.get_message(ignore_subscribe_messages=True, timeout=0.1)
            if not message:
                return False
            told = ChangeNotification.model_validate_json(message["data"])
            [change] = told.collections
            assert (told.log_id, change.collection_id) == (await read_log_id(log.connection), articles.collection_id)
            kinds.update(change.kinds)
            return told.position == change.last_position == position

        await until(announced, "the change was not announced")
        assert kinds == {"CollectionCreated", "VectorCreated"}

        async def measured() -> bool:
            metrics = (await client.get("/metrics")).text
            return all(
                line in metrics
                for line in (
                    f"aindusdb_projector_watermark {position:.1f}",
                    f"aindusdb_projector_log_head {position:.1f}",
                    "aindusdb_projector_lag_events 0.0",
                    f"aindusdb_projector_events_applied_total {position:.1f}",
                    "aindusdb_projector_parked_events 0.0",
                )
            )

        await until(measured, "the metrics do not say where the projection stands")
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    assert await projection.stored() == await projection.expected()


async def test_another_log_leaves_the_process_alive_and_not_ready(projection: Projection, log: LogWriter) -> None:
    await log.create_collection()
    await projection.catch_up()
    async with connected(projection.databases.events_admin_dsn) as admin:
        await admin.execute("UPDATE log_identity SET log_id = gen_random_uuid()")
    async with _running(projection.databases) as (process, client):

        async def says_why() -> bool:
            status, text = await _readiness(client)
            return status == httpx.codes.SERVICE_UNAVAILABLE and "was built from event log" in text

        await until(says_why, "readiness does not say what is wrong")
        assert (await client.get("/health")).status_code == httpx.codes.OK
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


async def test_a_database_that_is_away_shows_in_readiness_only(projection: Projection) -> None:
    nowhere = f"postgresql://nobody:nothing@127.0.0.1:{free_port()}/nowhere"
    async with _running(projection.databases, AINDUSDB_READ_DSN=nowhere) as (process, client):
        status, text = await _readiness(client)
        assert status == httpx.codes.SERVICE_UNAVAILABLE
        assert "read_database" in text
        assert "event_database" not in text
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


async def test_an_end_in_the_middle_loses_nothing(projection: Projection, log: LogWriter) -> None:
    articles = await log.create_collection()
    await log.create_many(articles, (f"v{number}" for number in range(300)))
    async with _running(projection.databases, AINDUSDB_BATCH_MAX_EVENTS="5") as (process, _client):
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    await projection.assert_projected()


async def test_an_absent_redis_does_not_stop_it(projection: Projection, log: LogWriter) -> None:
    nowhere = f"redis://127.0.0.1:{free_port()}"
    announcer = ChangeAnnouncer(nowhere)
    await announcer.start()
    articles = await log.create_collection()
    announcer.announce(await read_log_id(log.connection), await read_events(log.connection, 0))
    await asyncio.sleep(0.1)
    await announcer.stop()
    await log.create(articles, "a")
    async with _running(projection.databases, AINDUSDB_REDIS_URL=nowhere):
        await until(projection.caught_up, "the projector did not catch up")
    await projection.assert_projected()
