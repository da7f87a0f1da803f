"""The composition root of the query service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from query_service.alias_routes import router as alias_router
from query_service.cache import AnswerCache
from query_service.changes import follow_changes
from query_service.collection_routes import router as collection_router
from query_service.event_reader import EventReader
from query_service.feed import Feeds
from query_service.feed_routes import router as feed_router
from query_service.history_routes import history_router
from query_service.horizon import Horizon
from query_service.metrics import QueryMetrics
from query_service.problems import problem_of
from query_service.query_bus import QueryBus
from query_service.replicas import ReadServer, server_names
from query_service.routing import Routing
from query_service.search_routes import search_router
from query_service.service import QueryService
from query_service.settings import QuerySettings
from query_service.snapshot_routes import router as snapshot_router
from query_service.vector_routes import vector_router
from shared.embedding.caches import RedisCache
from shared.embedding.composition import create_embedder
from shared.http.application import create_application
from shared.http.health import health_router
from shared.postgres import create_pool
from shared.principal import Principal
from shared.redis import SideCache, open_redis
from shared.tokens import Signer

_DESCRIPTION = """Searches over what the event log was projected to. Each answer says in `freshness` how far that had
come; a read that carries a consistency token waits until it covers it."""


def create_app(settings: QuerySettings, registry: CollectorRegistry) -> FastAPI:
    metrics = QueryMetrics(registry)
    servers: list[ReadServer] = []
    redis_url = None if settings.redis_url is None else settings.redis_url.get_secret_value()
    redis = None if redis_url is None else SideCache(open_redis(redis_url))
    cache = AnswerCache(redis, metrics)
    embedder = create_embedder(settings, registry, [] if redis is None else [RedisCache(redis)])
    bus = QueryBus(Routing(servers, metrics), cache, metrics, settings.max_reads)

    def changed(position: int) -> None:
        for server in servers:
            server.outdate(position)

    @asynccontextmanager
    async def lifespan(application: FastAPI) -> AsyncIterator[None]:
        horizon = Horizon()
        primary = settings.read_dsn.get_secret_value()
        dsns = (*settings.replica_dsns(), primary)
        servers.extend(
            [
                await ReadServer.create(name, dsn, settings, metrics, horizon, primary=dsn == primary)
                for name, dsn in zip(server_names(dsns), dsns, strict=True)
            ]
        )
        events_dsn = settings.events_address()
        pool = None
        if events_dsn is not None:
            pool = await create_pool(events_dsn, settings, max_size=min(settings.pool_max_size, 8))
        events = EventReader(pool)
        feeds = Feeds(events, settings)
        following = None if redis_url is None else asyncio.create_task(follow_changes(redis_url, changed))
        application.state.service = QueryService(
            bus,
            Signer(settings.signing_key_list()),
            Principal(settings.tenant, settings.actor),
            metrics,
            events,
            feeds,
            embedder,
            settings.max_answer_bytes,
        )
        ending = asyncio.create_task(_end_feeds(application, feeds))
        try:
            yield
        finally:
            tasks = [task for task in (following, ending) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await feeds.stop()
            events.close()
            await embedder.close()
            await cache.close()
            for server in servers:
                server.close()
            servers.clear()

    return create_application(
        title="AindusDB Core: query service",
        version=version("aindusdb-core"),
        description=_DESCRIPTION,
        settings=settings,
        registry=registry,
        routers=[
            collection_router,
            alias_router,
            snapshot_router,
            history_router("/collections/{name}/vectors", named=True),
            history_router("/vectors", named=False),
            feed_router,
            search_router("/collections/{name}/vectors", named=True),
            search_router("/vectors", named=False),
            vector_router("/collections/{name}/vectors", named=True),
            vector_router("/vectors", named=False),
            health_router({"read_database": bus.fault}, registry, optional={"embedding": embedder.fault}),
        ],
        lifespan=lifespan,
        problem_of=problem_of,
    )


async def _end_feeds(application: FastAPI, feeds: Feeds) -> None:
    """A feed has no end of its own: draining would wait for it in vain."""
    await application.state.stopping.wait()
    await feeds.stop()
