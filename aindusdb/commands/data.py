"""The commands that work on data, all in one call for the composition root."""

from __future__ import annotations

import typer

from aindusdb.commands import aliases, collections, events, exporting, importing, restoring, searching, vectors


def register(app: typer.Typer) -> None:
    collections.register(app)
    aliases.register(app)
    importing.register(app)
    exporting.register(app)
    vectors.register(app)
    searching.register(app)
    restoring.register(app)
    events.register(app)
