"""The running stack's databases, for commands that read them."""

from __future__ import annotations

from pathlib import Path

from aindusdb.local_stack.layout import DataFolder, is_held
from aindusdb.local_stack.state import StackState, read_state


def local_url(data_folder: Path) -> str | None:
    """Where the stack on the folder serves both APIs; None when none runs."""
    state = _state(data_folder)
    return state.url if state else None


def local_events_dsn(data_folder: Path) -> str | None:
    """The event database's address, as a role that may only read it; None when no stack runs on the folder."""
    state = _state(data_folder)
    return (state.events_dsn or None) if state else None


def local_relay(data_folder: Path) -> tuple[str, str] | None:
    """The event database's address as the relay's role, and Kafka's (empty without Kafka); None when none runs."""
    state = _state(data_folder)
    return (state.relay_dsn, state.kafka_bootstrap) if state and state.relay_dsn else None


def local_projector(data_folder: Path) -> tuple[str, str] | None:
    """The event and the read database's addresses as the projector's role; None when no stack runs on the folder."""
    state = _state(data_folder)
    return (state.projector_events_dsn, state.projector_read_dsn) if state and state.projector_read_dsn else None


def _state(data_folder: Path) -> StackState | None:
    folder = DataFolder(data_folder)
    state = read_state(folder.state_file)
    return state if state is not None and is_held(folder) else None
