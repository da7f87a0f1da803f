"""The command line `aindusdb`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from aindusdb.commands import stack
from aindusdb.local_stack.errors import StackError

if TYPE_CHECKING:
    from aindusdb.local_stack.services import ServiceSpecs


def build_app(entry: tuple[str, ...] = ("-m", "aindusdb"), service_specs: ServiceSpecs | None = None) -> typer.Typer:
    """The composition root; tests run other services in the real ones' place."""
    app = typer.Typer(
        name="aindusdb",
        help="AindusDB Core: an event-sourced vector database on PostgreSQL and pgvector.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
    )
    stack.register(app, entry, service_specs)
    return app


def run(app: typer.Typer) -> None:
    try:
        app()
    except StackError as error:
        sys.exit(stack.refusal(error))


def main() -> None:
    run(build_app())
