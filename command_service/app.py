"""The composition root of the command service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from importlib.metadata import version

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from command_service.alias_routes import router as alias_router
from command_service.backpressure import Backpressure
from command_service.collection_routes import router as collection_router
from command_service.command_bus import CommandBus
from command_service.embedding_table import EmbeddingTable
from command_service.expiring import Expiring
from command_service.filter_routes import filter_router
from command_service.import_routes import import_router
from command_service.matching import Matching
from command_service.notifier import AppendNotifier
from command_service.problems import problem_of
from command_service.reembedding import Reembedding
from command_service.reembedding_routes import router as reembedding_router
from command_service.restore_routes import restore_vector_router
from command_service.restore_routes import router as restore_router
from command_service.service import CommandService
from command_service.settings import CommandSettings
from command_service.vector_routes import vector_router
from shared.embedding.caches import RedisCache
from shared.embedding.composition import create_embedder
from shared.event_log import read_log_id
from shared.http.application import create_application
from shared.http.health import Check, health_router
from shared.postgres import Pool, create_pool
from shared.principal import Principal
from shared.redis import SideCache, open_redis
from shared.tokens import Signer

_DESCRIPTION = """Every change is an immutable event in a Postgres log. Each answer carries a `consistency_token`:
a read that is given it waits until it can see the write."""


def create_app(settings: CommandSettings, registry: CollectorRegistry) -> FastAPI:
    holder: dict[str, Pool] = {}
    notifier = AppendNotifier(settings)
    bus = CommandBus(settings, notifier, registry)
    expiring = Expiring(bus, settings.expiry_interval_seconds, registry)
    backpressure = Backpressure(
        settings.projection_lag_max_seconds,
        settings.projection_lag_min_events,
        settings.projection_lag_interval_seconds,
        registry,
    )
    table = EmbeddingTable(
        lambda: holder["events"],
        max_age=timedelta(days=settings.embedding_table_days),
        max_rows=settings.embedding_table_rows,
    )
    redis = None if settings.redis_url is None else SideCache(open_redis(settings.redis_url.get_secret_value()))
    embedder = create_embedder(settings, registry, [*([] if redis is None else [RedisCache(redis)]), table])
    reembedding = Reembedding(bus, embedder, backpressure, settings.reembedding_interval_seconds, registry)

    @asynccontextmanager
    async def lifespan(application: FastAPI) -> AsyncIterator[None]:
        # No connection is opened here: the service starts, and says why it is not ready, without its database.
        pool = await create_pool(settings.events_dsn.get_secret_value(), settings, max_size=4)
        holder["events"] = pool
        read = None
        if settings.read_dsn is not None:
            read = await create_pool(settings.read_dsn.get_secret_value(), settings, max_size=4)
        application.state.service = CommandService(
            bus,
            pool,
            Matching(read),
            Signer(settings.signing_key_list()),
            Principal(settings.tenant, settings.actor),
            embedder,
            backpressure,
            read,
        )
        beside = [
            asyncio.create_task(table.keep_house(), name="embedding-housekeeping"),
            asyncio.create_task(backpressure.run(pool, read), name="backpressure"),
            asyncio.create_task(expiring.run(read), name="expiry"),
            asyncio.create_task(reembedding.run(pool, read), name="reembedding"),
        ]
        await notifier.start()
        await bus.start()
        try:
            yield
        finally:
            for task in beside:
                task.cancel()
            await embedder.close()
            await bus.stop()
            await notifier.stop()
            if redis is not None:
                await redis.close()
            pool.terminate()
            if read is not None:
                read.terminate()

    return create_application(
        title="AindusDB Core: command service",
        version=version("aindusdb-core"),
        description=_DESCRIPTION,
        settings=settings,
        registry=registry,
        routers=[
            collection_router,
            reembedding_router,
            alias_router,
            vector_router("/collections/{name}/vectors", named=True),
            vector_router("/vectors", named=False),
            import_router("/collections/{name}/vectors", named=True),
            import_router("/vectors", named=False),
            filter_router("/collections/{name}/vectors", named=True),
            filter_router("/vectors", named=False),
            restore_router,
            restore_vector_router("/collections/{name}/vectors", named=True),
            restore_vector_router("/vectors", named=False),
            health_router(
                {"event_database": _event_database_check(holder)},
                registry,
                optional={"embedding": embedder.fault},
            ),
        ],
        lifespan=lifespan,
        problem_of=problem_of,
    )


def _event_database_check(holder: dict[str, Pool]) -> Check:
    async def check() -> str | None:
        async with holder["events"].acquire() as connection:
            await read_log_id(connection)
        return None

    return check
