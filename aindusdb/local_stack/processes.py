"""One child process: started in a group of its own, kept running, stopped."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from aindusdb.local_stack.errors import ProcessDoesNotStartError
from aindusdb.local_stack.logs import LogFile
from aindusdb.local_stack.state import ProcessId, ProcessRecord, ProcessState
from aindusdb.local_stack.users import UnixUser

FIRST_RESTART_DELAY_SECONDS = 0.2
LONGEST_RESTART_DELAY_SECONDS = 10.0
STABLE_AFTER_SECONDS = 30.0
PROBE_INTERVAL_SECONDS = 0.05
LOG_CHECK_INTERVAL_SECONDS = 2.0
LEFTOVER_PATIENCE_SECONDS = 60.0
CLOCK_STEP_SECONDS = 2.0
"""A process's start is reckoned from the wall clock, which may be set meanwhile."""
STARTS_BEFORE_GIVING_UP = 3
"""Only until it has been ready once; from then on it is restarted for ever."""


class NotReadyError(Exception):
    """The process does not answer as it should yet; the message says what it does instead."""


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    name: str
    argv: tuple[str, ...]
    port: int
    probe: Callable[[], Awaitable[None]]
    """Returns when the process is ready, raises `NotReadyError` while it is not."""
    environment: Mapping[str, str]
    answers_ready: bool = True
    """Whether it serves GET /ready on `port`."""
    before_start: Callable[[], None] | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_seconds: float = 30.0
    orphan_signal: signal.Signals = signal.SIGKILL
    """What the kernel sends it when the supervisor dies without stopping it (Linux)."""
    user: UnixUser | None = None
    working_folder: Path | None = None

    @property
    def log_name(self) -> str:
        return self.name.lower().replace(" ", "-")


class SupervisedProcess:
    """Runs a spec until `stop`, starting it again when it dies. Use within one event loop."""

    def __init__(
        self, spec: ProcessSpec, log: LogFile, *, report: Callable[[str], None], changed: Callable[[], None]
    ) -> None:
        self.spec = spec
        self.log = log
        self._report = report
        self._changed = changed
        self._state: ProcessState = "stopped"
        self._process: ProcessId | None = None
        self._restarts = 0
        self._stop = asyncio.Event()
        self._ready = asyncio.Event()
        self._last_obstacle = "it has not answered yet"
        self._failure: ProcessDoesNotStartError | None = None
        self._task: asyncio.Task[None] | None = None

    def record(self) -> ProcessRecord:
        spec = self.spec
        return ProcessRecord(
            name=spec.name,
            state=self._state,
            port=spec.port,
            process=self._process,
            restarts=self._restarts,
            answers_ready=spec.answers_ready,
            orphan_signal=int(spec.orphan_signal),
        )

    def start(self) -> None:
        self._task = asyncio.create_task(self._supervise(), name=f"supervise {self.spec.name}")

    async def wait_ready(self, timeout_seconds: float) -> None:
        """Raises:
        ProcessDoesNotStartError: it died at each of its first starts, or was not ready in time.
        """
        assert self._task is not None
        ready = asyncio.create_task(self._ready.wait())
        try:
            await asyncio.wait({ready, self._task}, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
        if self._ready.is_set():
            return
        if self._failure is not None:
            raise self._failure
        what = f"not ready after {timeout_seconds:.0f} s ({self._last_obstacle})"
        raise ProcessDoesNotStartError(self.spec.name, what, self.log.path, self.log.last_lines())

    def kill(self) -> None:
        """As a power cut would; it is started again."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def stop(self) -> None:
        """Returns when the process and its whole group are gone. Never fails: others are still to be stopped."""
        self._stop.set()
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _supervise(self) -> None:
        delay_seconds = FIRST_RESTART_DELAY_SECONDS
        failed_starts = 0
        while not self._stop.is_set():
            self._move_to("starting")
            started = time.monotonic()
            try:
                what = describe_exit(await self._run_once())
            except OSError as error:
                what = f"could not be started: {error}"
            if self._stop.is_set():
                break
            if not self._ready.is_set():
                failed_starts += 1
                if failed_starts == STARTS_BEFORE_GIVING_UP:
                    self._failure = ProcessDoesNotStartError(self.spec.name, what, self.log.path, self.log.last_lines())
                    break
            if time.monotonic() - started >= STABLE_AFTER_SECONDS:
                delay_seconds = FIRST_RESTART_DELAY_SECONDS
            self._report(f"{self.spec.name}: {what}; starting it again in {delay_seconds:.1f} s (log: {self.log.path})")
            self._restarts += 1
            self._move_to("restarting")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), delay_seconds)
            delay_seconds = min(delay_seconds * 2, LONGEST_RESTART_DELAY_SECONDS)
        self._move_to("stopped")

    async def _run_once(self) -> int:
        """From its start to its end, by itself or because of `stop`."""
        if self.spec.before_start is not None:
            await asyncio.to_thread(self.spec.before_start)
        process = await self._spawn()
        exited = asyncio.create_task(process.wait())
        stopped = asyncio.create_task(self._stop.wait())
        watched = asyncio.create_task(self._watch())
        try:
            await asyncio.wait({exited, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not exited.done():
                self._move_to("stopping")
                with suppress(ProcessLookupError):
                    process.send_signal(self.spec.stop_signal)
                await asyncio.wait({exited}, timeout=self.spec.stop_timeout_seconds)
        finally:
            stopped.cancel()
            watched.cancel()
            # Whatever it started and left behind; itself, too, if it would not end.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            exit_code = await exited
            self._process = None
        return exit_code

    async def _spawn(self) -> asyncio.subprocess.Process:
        spec = self.spec
        descriptor = self.log.open_for_child()
        try:
            process = await asyncio.create_subprocess_exec(
                *spec.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=descriptor,
                stderr=asyncio.subprocess.STDOUT,
                env=dict(spec.environment),
                cwd=spec.working_folder,
                start_new_session=True,
                preexec_fn=_die_with(os.getpid(), spec.orphan_signal),
                user=spec.user.uid if spec.user else None,
                group=spec.user.gid if spec.user else None,
                extra_groups=() if spec.user else None,
            )
        finally:
            os.close(descriptor)
        with suppress(psutil.NoSuchProcess):
            self._process = process_id(process.pid)
        self._changed()
        return process

    async def _watch(self) -> None:
        """Notices when it becomes ready, then keeps its log in bounds."""
        while True:
            try:
                await self.spec.probe()
            except NotReadyError as obstacle:
                self._last_obstacle = str(obstacle)
                await asyncio.sleep(PROBE_INTERVAL_SECONDS)
            else:
                break
        self._ready.set()
        self._move_to("running")
        while True:
            await asyncio.sleep(LOG_CHECK_INTERVAL_SECONDS)
            # On a full disk the next look may find room again.
            with suppress(OSError):
                await asyncio.to_thread(self.log.rotate)

    def _move_to(self, state: ProcessState) -> None:
        self._state = state
        self._changed()


def _die_with(parent_pid: int, orphan_signal: signal.Signals) -> Callable[[], None] | None:
    """Runs in the child between fork and exec, after the change of user (which would undo it)."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    set_parent_death_signal = 1

    def in_child() -> None:
        prctl(set_parent_death_signal, int(orphan_signal))
        if os.getppid() != parent_pid:
            os._exit(1)

    return in_child


def process_id(pid: int) -> ProcessId:
    return ProcessId(pid, psutil.Process(pid).create_time())


def is_alive(process: ProcessId) -> bool:
    try:
        found = psutil.Process(process.pid)
        same = abs(found.create_time() - process.created_at) < CLOCK_STEP_SECONDS
        return same and found.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def end_leftover(process: ProcessId, orphan_signal: int) -> bool:
    """Ends a child that outlived its supervisor, and its group. Says whether there was one."""
    if not is_alive(process):
        return False
    with suppress(ProcessLookupError, psutil.NoSuchProcess):
        leftover = psutil.Process(process.pid)
        leftover.send_signal(orphan_signal)
        psutil.wait_procs([leftover], timeout=LEFTOVER_PATIENCE_SECONDS)
        os.killpg(process.pid, signal.SIGKILL)
        psutil.wait_procs([leftover], timeout=LEFTOVER_PATIENCE_SECONDS)
    return True


def describe_exit(exit_code: int) -> str:
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    try:
        return f"was killed by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"was killed by signal {-exit_code}"
