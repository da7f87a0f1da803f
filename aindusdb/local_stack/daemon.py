"""A supervisor in the background: started without a terminal, stopped from another process."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress

from aindusdb.local_stack.errors import DoesNotStopError
from aindusdb.local_stack.layout import DataFolder, FolderLock, is_held
from aindusdb.local_stack.logs import LogFile
from aindusdb.local_stack.processes import is_alive
from aindusdb.local_stack.progress import Progress
from aindusdb.local_stack.state import ProcessId, read_state
from aindusdb.local_stack.supervisor import end_leftovers

POLL_INTERVAL_SECONDS = 0.05
STOP_TIMEOUT_SECONDS = 120.0


def start_detached(folder: DataFolder, command: Sequence[str], progress: Progress) -> int:
    """Runs `command` and passes on what it says until the stack is ready. Returns the exit code, 0 when it runs."""
    folder.check()
    folder.create()
    descriptor = LogFile(folder.supervisor_log).open_for_child()
    already_said_bytes = folder.supervisor_log.stat().st_size
    try:
        supervisor = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"},
        )
    finally:
        os.close(descriptor)
    with folder.supervisor_log.open(errors="replace") as log:
        log.seek(already_said_bytes)
        while True:
            exit_code = supervisor.poll()
            state = read_state(folder.state_file)
            is_ready = state is not None and state.phase == "running" and state.supervisor.pid == supervisor.pid
            for line in log:
                progress.line(line.rstrip("\n"))
            if is_ready or exit_code is not None:
                return exit_code or 0
            time.sleep(POLL_INTERVAL_SECONDS)


def stop_running(folder: DataFolder) -> bool:
    """Stops the stack on this folder and waits until it is gone. False when none was running.

    Raises:
        DoesNotStopError: it is still there after `STOP_TIMEOUT_SECONDS`.
    """
    if not folder.lock_file.exists():
        return False
    if not is_held(folder):
        with FolderLock(folder):
            return bool(end_leftovers(folder))
    told: ProcessId | None = None
    deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
    # It gives the folder back before its very end.
    while is_held(folder) or (told is not None and is_alive(told)):
        # One that has only just begun holds the lock before it has said who it is.
        state = read_state(folder.state_file)
        if told is None and state is not None and is_alive(state.supervisor):
            told = state.supervisor
            with suppress(ProcessLookupError):
                os.kill(told.pid, signal.SIGTERM)
        if time.monotonic() > deadline:
            raise DoesNotStopError(told.pid if told else None, STOP_TIMEOUT_SECONDS)
        time.sleep(POLL_INTERVAL_SECONDS)
    return True
