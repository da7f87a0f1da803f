"""The command line with stand-ins in the services' place: `python -m tests.stack.stand_in_stack up`."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import typer

from aindusdb.commands import stack
from aindusdb.local_stack.errors import StackError
from aindusdb.local_stack.processes import ProcessSpec
from aindusdb.local_stack.services import Wiring, service_specs

SERVICE = str(Path(__file__).with_name("stand_in_service.py"))


def stand_in_specs(wiring: Wiring) -> list[ProcessSpec]:
    """The real specs, edge included, with another program in each of the four services' place."""
    return [
        spec if spec.name == "Edge" else dataclasses.replace(spec, argv=(sys.executable, "-S", SERVICE))
        for spec in service_specs(wiring)
    ]


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False)
    stack.register(app, ("-m", "tests.stack.stand_in_stack"), stand_in_specs)
    try:
        app()
    except StackError as error:
        sys.exit(stack.refusal(error))
