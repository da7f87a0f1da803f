"""The running stack's databases, for commands that read them."""

from __future__ import annotations

from pathlib import Path

from aindusdb.local_stack.layout import DataFolder, is_held
from aindusdb.local_stack.state import read_state


def local_events_dsn(data_folder: Path) -> str | None:
    """The event database's address, as a role that may only read it; None when no stack runs on the folder."""
    folder = DataFolder(data_folder)
    state = read_state(folder.state_file)
    if state is None or not state.events_dsn or not is_held(folder):
        return None
    return state.events_dsn
