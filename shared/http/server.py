"""Serves an application until SIGTERM or SIGINT, then lets the requests under way finish."""

from __future__ import annotations

import signal

import uvicorn
from starlette.types import ASGIApp

from shared.settings import ProcessSettings


async def serve(application: ASGIApp, settings: ProcessSettings) -> None:
    """Runs the application's lifespan around it. Returns when draining has ended."""
    for number in (signal.SIGTERM, signal.SIGINT):
        # The server raises the signal again after it has drained; a process that stopped as asked ends with 0.
        signal.signal(number, lambda *_: None)
    server = uvicorn.Server(
        uvicorn.Config(
            application,
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=settings.drain_timeout_seconds,
            server_header=False,
            backlog=2048,
        )
    )
    await server.serve()
    if not server.started:
        raise SystemExit(1)
