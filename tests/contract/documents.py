"""The services' own accounts of what they take and answer."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry

from aindusdb.local_stack.openapi import merge
from command_service import app as command_app
from command_service.settings import CommandSettings
from query_service import app as query_app
from query_service.settings import QuerySettings

_NOWHERE = "postgresql://nobody@127.0.0.1:1/nowhere"


def command_document() -> dict[str, Any]:
    settings = CommandSettings(events_dsn=_NOWHERE, signing_keys="key")
    return command_app.create_app(settings, CollectorRegistry()).openapi()


def query_document() -> dict[str, Any]:
    settings = QuerySettings(read_dsn=_NOWHERE, signing_keys="key")
    return query_app.create_app(settings, CollectorRegistry()).openapi()


DOCUMENTS = {
    "command_service": command_document(),
    "query_service": query_document(),
}
EVERY_DOCUMENT = {**DOCUMENTS, "edge": merge(*DOCUMENTS.values())}
