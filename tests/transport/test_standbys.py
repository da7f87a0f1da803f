"""With a synchronous standby, what a failover could lose is not published."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator

import pytest_asyncio

from tests.projector.projecting import until
from tests.replicas import RunningServer, replicated_postgres
from tests.servers import DatabaseFactory, connected
from tests.transport.transporting import Load, Transport, transport

_CANCEL_WAITING_COMMIT = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'SyncRep'"


@pytest_asyncio.fixture
async def synchronous(kafka_bootstrap: str) -> AsyncIterator[tuple[Transport, RunningServer]]:
    """A log with one synchronous standby."""
    async with replicated_postgres(1) as servers:
        factory = DatabaseFactory(servers.admins)
        async with factory.templates(), transport(factory, kafka_bootstrap) as way:
            async with connected(servers.primary.admin_dsn) as admin:
                await admin.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
                await admin.execute("SELECT pg_reload_conf()")
            try:
                yield way, servers.replicas[0]
            finally:
                async with connected(servers.primary.admin_dsn) as admin:
                    await admin.execute("ALTER SYSTEM RESET synchronous_standby_names")
                    await admin.execute("SELECT pg_reload_conf()")


async def test_only_what_the_synchronous_standby_has_is_published(
    synchronous: tuple[Transport, RunningServer],
) -> None:
    way, standby = synchronous
    load = Load(way.log)
    async with way.relay() as relay, connected(way.databases.events_admin_dsn) as admin:
        await load.some(5)
        await until(way.published, "nothing was published")
        before = await way.projection.head()
        standby.signal(signal.SIGSTOP)
        try:
            writing = asyncio.create_task(load.one())
            pid = way.log.connection.get_server_pid()

            async def cancelled() -> bool:
                return bool(await admin.fetchval(_CANCEL_WAITING_COMMIT, pid))

            await until(cancelled, "the commit does not wait for its standby")
            await writing
            assert await way.projection.head() == before + 1
            await until(lambda: "standby" in (relay.fault or ""), "the relay does not say that the standby is away")
            assert (await way.relay_status()).position == before
        finally:
            standby.signal(signal.SIGCONT)
        await until(way.published, "what the standby has is not published")
        assert await way.projection.head() == before + 1
