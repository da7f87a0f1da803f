"""The projector's settings, for commands that do what only the projector's role may do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from aindusdb.commands.output import CommandRefusedError
from projector.settings import ProjectorSettings
from shared.settings import settings_from_environment

DataFolderOption = Annotated[
    Path, typer.Option("--data-dir", help="Where the local stack's data lie.", envvar="AINDUSDB_DATA_DIR")
]
TenantOption = Annotated[str, typer.Option("--tenant", help="Whose collections are named.")]


def projector_settings(data_dir: Path, *, appends: bool = False) -> ProjectorSettings:
    """From the environment; what it does not name of the databases is that of the stack which runs on this folder. With
    `appends` the local stack's event database is named as the role that may append to the log.

    Raises:
        CommandRefusedError: neither is there.
    """
    if os.environ.get("AINDUSDB_EVENTS_DSN") and os.environ.get("AINDUSDB_READ_DSN"):
        return settings_from_environment(ProjectorSettings)
    # Imported late: the local stack is an extra, and with addresses in the environment it is not needed.
    from aindusdb.local_stack.connection import local_projector, local_relay

    local = local_projector(data_dir.absolute())
    relay = local_relay(data_dir.absolute()) if appends else None
    if local is None:
        raise CommandRefusedError(
            f"No stack runs on {data_dir}; start one with `aindusdb up`, or name the databases in "
            "AINDUSDB_EVENTS_DSN and AINDUSDB_READ_DSN, as the projector's role."
        )
    events_dsn, read_dsn = local
    given = {
        name: dsn
        for name, dsn in (("events_dsn", relay[0] if relay else events_dsn), ("read_dsn", read_dsn))
        if not os.environ.get(f"AINDUSDB_{name.upper()}")
    }
    return settings_from_environment(ProjectorSettings, **given)
