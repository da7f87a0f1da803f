"""`python -m query_service`: the HTTP search API."""

from __future__ import annotations

import uvloop

from query_service.app import create_app
from query_service.settings import QuerySettings
from shared.http.server import serve
from shared.settings import settings_from_environment
from shared.telemetry import configure_logging, process_registry


def main() -> None:
    settings = settings_from_environment(QuerySettings)
    configure_logging("query_service", log_format=settings.log_format, level=settings.log_level)
    uvloop.run(serve(create_app(settings, process_registry()), settings))


if __name__ == "__main__":
    main()
