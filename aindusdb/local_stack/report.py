"""What `aindusdb status` says about a stack: its processes and how far the read model has come."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import psutil

from aindusdb.local_stack.layout import DataFolder, is_held
from aindusdb.local_stack.ports import HOST
from aindusdb.local_stack.processes import NotReadyError, is_alive
from aindusdb.local_stack.services import http_probe
from aindusdb.local_stack.state import ProcessRecord, StackState, read_state

MAX_METADATA_INDEXES = 20
"""So many that are not ready are shown."""


@dataclass(frozen=True, slots=True)
class ProcessReport:
    name: str
    state: str
    """As the supervisor has it, or `not ready` when the process says so itself."""
    detail: str | None
    pid: int | None
    port: int
    uptime_seconds: float | None
    restarts: int
    rss_bytes: int | None


@dataclass(frozen=True, slots=True)
class StackReport:
    running: bool
    phase: str | None
    url: str | None
    data_folder: str
    supervisor_pid: int | None
    processes: tuple[ProcessReport, ...]
    log: dict[str, Any] | None
    """The fields of `shared.status.LogStatus`."""
    log_error: str | None
    """Why `log` is missing."""
    relay: dict[str, Any] | None
    """The fields of `command_service.relay_lease.RelayStatus` and its backlog; None without Kafka."""
    metadata_indexes: tuple[dict[str, Any], ...]
    """Those that are not ready, each with the fields of `shared.read_model.index_states.DeclaredIndex`."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


async def read_report(folder: DataFolder) -> StackReport:
    state = read_state(folder.state_file)
    if state is None or not is_held(folder):
        return _not_running(folder.root)
    async with httpx.AsyncClient(trust_env=False) as http:
        processes = await asyncio.gather(*(_process_report(record, http) for record in state.processes))
    log, log_error = await _read_log(state)
    relay = await _read_relay(state) if log is not None and state.kafka_bootstrap else None
    metadata_indexes = await _read_metadata_indexes(state) if log is not None else ()
    return StackReport(
        running=True,
        phase=state.phase,
        url=state.url,
        data_folder=str(folder.root),
        supervisor_pid=state.supervisor.pid,
        processes=tuple(processes),
        log=log,
        log_error=log_error,
        relay=relay,
        metadata_indexes=metadata_indexes,
    )


def _not_running(root: Path) -> StackReport:
    return StackReport(
        running=False,
        phase=None,
        url=None,
        data_folder=str(root),
        supervisor_pid=None,
        processes=(),
        log=None,
        log_error=None,
        relay=None,
        metadata_indexes=(),
    )


async def _process_report(record: ProcessRecord, http: httpx.AsyncClient) -> ProcessReport:
    state: str = record.state
    detail, uptime_seconds, rss_bytes = None, None, None
    process = record.process if record.process is not None and is_alive(record.process) else None
    if process is not None:
        uptime_seconds = max(time.time() - process.created_at, 0.0)
        rss_bytes = _resident_bytes(process.pid)
        if record.answers_ready and record.state in ("starting", "running"):
            try:
                await http_probe(http, record.port)()
            except NotReadyError as obstacle:
                state, detail = "not ready" if record.state == "running" else state, str(obstacle)
    return ProcessReport(
        name=record.name,
        state=state,
        detail=detail,
        pid=process.pid if process else None,
        port=record.port,
        uptime_seconds=uptime_seconds,
        restarts=record.restarts,
        rss_bytes=rss_bytes,
    )


def _resident_bytes(pid: int) -> int | None:
    try:
        rss: int = psutil.Process(pid).memory_info().rss
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None
    return rss


async def _read_log(state: StackState) -> tuple[dict[str, Any] | None, str | None]:
    if not state.events_dsn:
        return None, f"the databases on {HOST} are not ready yet"
    # Imported late: `status` of a stack that does not run needs none of it.
    from shared.status import read_status

    try:
        return asdict(await read_status(state.events_dsn, state.read_dsn)), None
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
        return None, str(error) or type(error).__name__


async def _read_metadata_indexes(state: StackState) -> tuple[dict[str, Any], ...]:
    from shared.postgres import connect_uncached
    from shared.read_model.index_states import read_not_ready

    try:
        read = await connect_uncached(state.read_dsn, timeout_seconds=5, command_timeout_seconds=10)
        try:
            found = await read_not_ready(read, MAX_METADATA_INDEXES)
        finally:
            await read.close()
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
        return ()
    return tuple(
        {**asdict(one), "collection_id": str(one.collection_id), "since": one.since.isoformat()} for one in found
    )


async def _read_relay(state: StackState) -> dict[str, Any] | None:
    from command_service.relay_lease import read_relay_status

    try:
        connection = await asyncpg.connect(state.events_dsn, timeout=5, command_timeout=10)
        try:
            status = await read_relay_status(connection)
        finally:
            await connection.close()
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
        return None
    return None if status is None else status.as_json()
