"""The data commands as a process of their own, to be killed."""

from __future__ import annotations

import typer

from aindusdb.commands import data

if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False)
    data.register(app)
    app()
