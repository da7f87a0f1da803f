"""How hits look: a table of the nearest, or one for each group."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from aindusdb.client import GroupsAnswer, Hit, SearchAnswer
from aindusdb.commands.output import counted, printable, say, shortened

CONTENT_WIDTH = 60
METADATA_WIDTH = 40

_EXPLAINED = ("scan", "indexes", "generation", "server", "role", "kept", "planning_ms", "execution_ms", "read_ms")


def print_hits(answer: SearchAnswer) -> None:
    table = _table("")
    for rank, hit in enumerate(answer.hits, start=1):
        table.add_row(str(rank), *_cells(hit))
    Console(highlight=False).print(table)
    _say_how(answer, counted(len(answer.hits), "hit"))


def print_groups(answer: GroupsAnswer) -> None:
    table = _table("group")
    for group in answer.groups:
        shown = json.dumps(group.value, ensure_ascii=False) if isinstance(group.value, bool) else str(group.value)
        for number, hit in enumerate(group.hits):
            table.add_row(Text(shortened(shown, METADATA_WIDTH) if number == 0 else ""), *_cells(hit))
    Console(highlight=False).print(table)
    _say_how(answer, counted(len(answer.groups), "group"))


def _table(first: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(first, justify="left" if first else "right", no_wrap=True)
    for column in ("score", "distance"):
        table.add_column(column, justify="right", no_wrap=True)
    for column in ("id", "content", "metadata"):
        table.add_column(column)
    return table


def _cells(hit: Hit) -> Iterable[str | Text]:
    metadata = json.dumps(hit.metadata, ensure_ascii=False) if hit.metadata else ""
    yield f"{hit.score:.4f}"
    yield f"{hit.distance:.4f}"
    yield Text(printable(hit.id))
    yield Text(shortened(hit.content or "", CONTENT_WIDTH))
    yield Text(shortened(metadata, METADATA_WIDTH))


def _say_how(answer: SearchAnswer | GroupsAnswer, found: str) -> None:
    cached = ", from the cache" if answer.cached else ""
    say(f"{found} in {answer.took_ms:.1f} ms{cached}, as of position {answer.freshness.position}")
    if answer.truncated:
        say("The query is longer than the model sees; what it found, it found by the beginning.")
    if not answer.complete:
        say("The answer is incomplete: the index could not fill it.")
    if answer.explain is not None:
        for name in _EXPLAINED:
            say(f"  {name}: {_plain(answer.explain.get(name))}")


def _plain(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else str(value)
