"""Kills and freezes supervised processes, and waits until they run again."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aindusdb.local_stack.state import ProcessRecord

RESTART_TIMEOUT_SECONDS = 90.0

Look = Callable[[], ProcessRecord]
"""How a process is found: what its supervisor says of it now."""


def kill(look: Look) -> int:
    """SIGKILL; returns the pid that was killed."""
    pid = pid_of(look)
    os.kill(pid, signal.SIGKILL)
    return pid


def pid_of(look: Look) -> int:
    record = look()
    assert record.process is not None, f"{record.name} does not run"
    return record.process.pid


async def restarted(look: Look, killed_pid: int) -> float:
    """Waits until the process runs again under another pid; says how many seconds it took."""
    started = time.monotonic()
    while time.monotonic() - started < RESTART_TIMEOUT_SECONDS:
        record = look()
        if record.state == "running" and record.process is not None and record.process.pid != killed_pid:
            return time.monotonic() - started
        await asyncio.sleep(0.05)
    raise AssertionError(f"{look().name} was not running again within {RESTART_TIMEOUT_SECONDS:g} seconds")


@contextmanager
def frozen(send: Callable[[signal.Signals], None]) -> Iterator[None]:
    """`send` signals the process; it stands still inside the block."""
    send(signal.SIGSTOP)
    try:
        yield
    finally:
        send(signal.SIGCONT)
