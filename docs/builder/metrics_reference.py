"""The list of metrics, from what each process answers at `/metrics`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import httpx
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import ASGIApp

from aindusdb.local_stack.edge import EdgeSettings
from aindusdb.local_stack.edge import create_app as create_edge
from command_service.app import create_app as create_command_service
from command_service.relay import create_app as create_relay
from command_service.settings import CommandSettings, RelaySettings
from docs.builder.markdown import table
from projector.__main__ import create_app as create_projector
from projector.settings import ProjectorSettings
from query_service.app import create_app as create_query_service
from query_service.settings import QuerySettings
from shared.telemetry import process_registry

METRICS_PROCESSES = ("command service", "relay", "projector", "query service", "edge")
_OURS = "aindusdb_"


def metrics_of(process: str) -> str:
    """Of one of `METRICS_PROCESSES`."""
    families = text_string_to_metric_families(asyncio.run(_metrics(_applications()[process])))
    return table(
        ("metric", "kind", "meaning"),
        [
            (f"`{family.name}{'_total' if family.type == 'counter' else ''}`", family.type, family.documentation)
            for family in families
            if family.name.startswith(_OURS) and not family.name.endswith("_created")
        ],
    )


def _applications() -> Mapping[str, ASGIApp]:
    """Made, not started: no server is needed."""
    dsn, key = "postgresql://nowhere", "none"
    return {
        "command service": create_command_service(
            CommandSettings(events_dsn=dsn, signing_keys=key), process_registry()
        ),
        "relay": create_relay(RelaySettings(events_dsn=dsn)),
        "projector": create_projector(ProjectorSettings(events_dsn=dsn, read_dsn=dsn)),
        "query service": create_query_service(QuerySettings(read_dsn=dsn, signing_keys=key), process_registry()),
        "edge": create_edge(EdgeSettings()),
    }


async def _metrics(application: ASGIApp) -> str:
    transport = httpx.ASGITransport(application)
    async with httpx.AsyncClient(transport=transport, base_url="http://process") as client:
        return (await client.get("/metrics")).raise_for_status().text
