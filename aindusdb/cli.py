"""The command line `aindusdb`."""

from __future__ import annotations

import logging
import sys
from importlib.metadata import version
from typing import Annotated

import structlog
import typer

from aindusdb.commands import data, diff, log, relay, replay, schema, stack, verify
from aindusdb.local_stack.errors import StackError


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"AindusDB Core {version('aindusdb-core')}")
        raise typer.Exit


def build_app() -> typer.Typer:
    app = typer.Typer(
        name="aindusdb",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
    )

    @app.callback()
    def root(
        _version: Annotated[
            bool,
            typer.Option("--version", help="Say which version this is.", callback=_say_version, is_eager=True),
        ] = False,
    ) -> None:
        """AindusDB Core: an event-sourced vector database on PostgreSQL and pgvector."""

    stack.register(app)
    data.register(app)
    schema.register(app)
    log.register(app)
    relay.register(app)
    replay.register(app)
    verify.register(app)
    diff.register(app)
    return app


def run(app: typer.Typer) -> None:
    # Commands say in sentences of their own what becomes of them.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    # It logs every attempt; the command says once, and in a sentence, what is wrong.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        app()
    except StackError as error:
        sys.exit(stack.refusal(error))


def main() -> None:
    run(build_app())
