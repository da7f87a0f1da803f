"""`aindusdb replay anew`: the whole read model dropped, for the projector to build it from this log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aindusdb.commands.databases import awaited
from aindusdb.commands.output import CommandRefusedError, JsonOption, print_json, refusals
from aindusdb.commands.projector_settings import DataFolderOption, projector_settings
from projector.emptying import empty_read_model
from projector.errors import CheckpointMismatchError
from projector.event_log import opened_event_log
from projector.replay_session import expect_one_log
from projector.settings import ProjectorSettings
from shared.postgres import connect


def register(group: typer.Typer) -> None:
    @group.command()
    def anew(
        force: Annotated[bool, typer.Option("--force", help="Although the read model belongs to this log.")] = False,
        data_dir: DataFolderOption = Path(".aindusdb"),
        as_json: JsonOption = False,
    ) -> None:
        """Drop every collection's tables and begin at the first event: after a restore, and for a read database that
        is empty. Until the projector has caught up, searches see the log from its beginning on."""
        with refusals():
            tables, events = awaited(_anew(projector_settings(data_dir), force))
        if as_json:
            print_json({"tables": tables, "events": events})
        else:
            typer.echo(f"{tables:,} tables are dropped; the projector builds the read model from {events:,} events")


async def _anew(settings: ProjectorSettings, force: bool) -> tuple[int, int]:
    """How many tables were dropped, and how many events there are to project."""
    connection = await connect(settings.read_dsn.get_secret_value(), settings)
    try:
        async with opened_event_log(settings) as log:
            try:
                await expect_one_log(connection, log)
            except CheckpointMismatchError:
                force = True
            if not force:
                raise CommandRefusedError(
                    "The read model belongs to this log; `aindusdb replay --all` folds it anew while searches go on. "
                    "--force drops it all the same."
                )
            return await empty_read_model(connection, await log.log_id()), (await log.head()).position
    finally:
        connection.terminate()
