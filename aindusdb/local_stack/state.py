"""What a running stack tells the other commands: one small file, replaced whole at every change."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from aindusdb.local_stack.errors import FolderUnusableError

ProcessState = Literal["starting", "running", "restarting", "stopping", "stopped"]
StackPhase = Literal["starting", "running", "stopping"]


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A pid alone may name another process by now; together with its start it cannot."""

    pid: int
    created_at: float
    """Seconds since the epoch, as psutil reports it."""


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    name: str
    state: ProcessState
    port: int
    process: ProcessId | None
    restarts: int
    answers_ready: bool
    """Whether it is asked over HTTP, at /ready."""
    orphan_signal: int
    """How to end it when its supervisor is gone."""


@dataclass(frozen=True, slots=True)
class StackState:
    phase: StackPhase
    url: str
    supervisor: ProcessId
    events_dsn: str
    read_dsn: str
    processes: tuple[ProcessRecord, ...]
    relay_dsn: str = ""
    """The event database as the relay's role, which may open a new feed."""
    kafka_bootstrap: str = ""
    projector_events_dsn: str = ""
    projector_read_dsn: str = ""
    """Both databases as the projector's role, which owns the read database."""


def write_state(path: Path, state: StackState) -> None:
    """Readable by its owner alone: the addresses carry passwords."""
    written = path.with_suffix(".new")
    with suppress(FileNotFoundError):
        written.unlink()
    descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(asdict(state), file)
    written.replace(path)


def read_state(path: Path) -> StackState | None:
    """None when no stack has left a state, or one that this version cannot read.

    Raises:
        FolderUnusableError: it is another user's.
    """
    try:
        content = json.loads(path.read_text())
        return StackState(
            phase=content["phase"],
            url=content["url"],
            supervisor=ProcessId(**content["supervisor"]),
            events_dsn=content["events_dsn"],
            read_dsn=content["read_dsn"],
            processes=tuple(
                ProcessRecord(**{**record, "process": ProcessId(**record["process"]) if record["process"] else None})
                for record in content["processes"]
            ),
            relay_dsn=content.get("relay_dsn", ""),
            kafka_bootstrap=content.get("kafka_bootstrap", ""),
            projector_events_dsn=content.get("projector_events_dsn", ""),
            projector_read_dsn=content.get("projector_read_dsn", ""),
        )
    except PermissionError as error:
        raise FolderUnusableError(path.parent, "it belongs to another user") from error
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
