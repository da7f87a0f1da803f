"""`aindusdb schema upgrade`: both databases to this version's schema."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from aindusdb.commands.output import CommandRefusedError, JsonOption, print_json, refusals

schema = typer.Typer(no_args_is_help=True, help="The databases' schemas, one history each.")

EventsOption = Annotated[
    str | None,
    typer.Option(
        "--events-dsn",
        help="Address of the event database, as the role that owns it.",
        envvar=["AINDUSDB_EVENTS_OWNER_DSN", "AINDUSDB_EVENTS_DSN"],
        show_envvar=True,
    ),
]
ReadOption = Annotated[
    str | None,
    typer.Option(
        "--read-dsn",
        help="Address of the read database, as the role that owns it.",
        envvar=["AINDUSDB_READ_OWNER_DSN", "AINDUSDB_READ_DSN"],
        show_envvar=True,
    ),
]


@schema.command()
def upgrade(events_dsn: EventsOption = None, read_dsn: ReadOption = None, as_json: JsonOption = False) -> None:
    """Bring the event and the read database to this version's schema. `up` does it by itself for its own servers."""
    with refusals():
        if not events_dsn and not read_dsn:
            raise CommandRefusedError(
                "name the databases with --events-dsn and --read-dsn, or AINDUSDB_EVENTS_OWNER_DSN and "
                "AINDUSDB_READ_OWNER_DSN"
            )
        revisions = asyncio.run(_upgrade(events_dsn, read_dsn))
    if as_json:
        print_json(revisions)
    else:
        for database, revision in revisions.items():
            typer.echo(f"The {database} database is at revision {revision}")


async def _upgrade(events_dsn: str | None, read_dsn: str | None) -> dict[str, str]:
    # Imported late: no other command needs the migrations' libraries.
    import asyncpg
    from sqlalchemy.exc import DBAPIError

    from shared.migrations import Owner, upgrade

    wanted: list[tuple[str, str | None, Owner]] = [
        ("event", events_dsn, "command_service"),
        ("read", read_dsn, "projector"),
    ]
    revisions: dict[str, str] = {}
    for database, dsn, owner in wanted:
        if dsn is None:
            continue
        try:
            revisions[database] = await upgrade(dsn, owner)
        except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError, DBAPIError) as error:
            raise CommandRefusedError(f"the {database} database was not upgraded: {_reason(error)}") from error
    return revisions


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def register(app: typer.Typer) -> None:
    app.add_typer(schema, name="schema")
