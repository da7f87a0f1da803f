"""`python -m command_service`: the HTTP write API."""

from __future__ import annotations

import sys

import uvloop

from command_service.app import create_app
from command_service.settings import CommandSettings
from shared.http.server import serve
from shared.settings import settings_from_environment
from shared.telemetry import configure_logging, process_registry

_SWITCH_INTERVAL_SECONDS = 0.0005
"""How long a thread that parses a large body may keep the event loop from running (Python's default: 0.005)."""


def main() -> None:
    sys.setswitchinterval(_SWITCH_INTERVAL_SECONDS)
    settings = settings_from_environment(CommandSettings)
    configure_logging("command_service", log_format=settings.log_format, level=settings.log_level)
    uvloop.run(serve(create_app(settings, process_registry()), settings))


if __name__ == "__main__":
    main()
