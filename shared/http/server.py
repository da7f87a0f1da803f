"""Serves an application until SIGTERM or SIGINT, then lets the requests under way finish."""

from __future__ import annotations

import asyncio
import gc
import signal
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from shared.settings import ProcessSettings

_GC_THRESHOLDS = (20_000, 20, 20)


async def serve(application: ASGIApp, settings: ProcessSettings) -> None:
    """Runs the application's lifespan around it. Returns when draining has ended."""
    _quieten_garbage_collection()
    for number in (signal.SIGTERM, signal.SIGINT):
        # The server raises the signal again after it has drained; a process that stopped as asked ends with 0.
        signal.signal(number, lambda *_: None)
    server = _Server(
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
    server.announce_stop_to(application)
    await server.serve()
    if not server.started:
        raise SystemExit(1)


class _Server(uvicorn.Server):
    """Sets the application's `state.stopping`, if it has one, as soon as it is asked to end."""

    def announce_stop_to(self, application: ASGIApp) -> None:
        self._stopping: asyncio.Event | None = getattr(getattr(application, "state", None), "stopping", None)
        self._loop = asyncio.get_running_loop()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._stopping is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
        super().handle_exit(sig, frame)


def _quieten_garbage_collection() -> None:
    """What was loaded by now stays for good and need not be looked at again; the rest is looked at less often.

    A full collection over a service's modules stops it for 30 to 40 ms, and batches of thousands of small objects
    bring one about every few requests.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
