"""The commands that work on data, all in one call for the composition root."""

from __future__ import annotations

import typer

from aindusdb.commands import collections, events, importing, searching


def register(app: typer.Typer) -> None:
    collections.register(app)
    importing.register(app)
    searching.register(app)
    events.register(app)
