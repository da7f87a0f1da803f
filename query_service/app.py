"""The composition root of the query service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from query_service.collection_routes import router as collection_router
from query_service.metrics import QueryMetrics
from query_service.problems import problem_of
from query_service.query_bus import QueryBus
from query_service.replicas import ReadServer
from query_service.service import QueryService
from query_service.settings import QuerySettings
from query_service.vector_routes import vector_router
from shared.http.application import create_application
from shared.http.health import health_router
from shared.principal import Principal
from shared.tokens import Signer

_DESCRIPTION = """Searches over what the event log was projected to. Each answer says in `freshness` how far that had
come; a read that carries a consistency token waits until it covers it."""


def create_app(settings: QuerySettings, registry: CollectorRegistry) -> FastAPI:
    metrics = QueryMetrics(registry)
    servers: list[ReadServer] = []
    bus = QueryBus(servers, metrics)

    @asynccontextmanager
    async def lifespan(application: FastAPI) -> AsyncIterator[None]:
        servers.extend([await ReadServer.create(dsn, settings, metrics) for dsn in settings.server_dsns()])
        application.state.service = QueryService(
            bus, Signer(settings.signing_key_list()), Principal(settings.tenant, settings.actor), metrics
        )
        try:
            yield
        finally:
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
            vector_router("/collections/{name}/vectors", named=True),
            vector_router("/vectors", named=False),
            health_router({"read_database": bus.fault}, registry),
        ],
        lifespan=lifespan,
        problem_of=problem_of,
    )
