"""The command line `aindusdb`."""

from __future__ import annotations

import logging
import sys

import structlog
import typer

from aindusdb.commands import data, diff, log, relay, replay, schema, stack, verify
from aindusdb.local_stack.errors import StackError


def build_app() -> typer.Typer:
    app = typer.Typer(
        name="aindusdb",
        help="AindusDB Core: an event-sourced vector database on PostgreSQL and pgvector.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
    )
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
