"""How vectors and their events look: one as a table of its parts, several as rows."""

from __future__ import annotations

import json
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from aindusdb.client import Event, ReadVector, StoredVector
from aindusdb.commands.output import printable, shortened

SHOWN_NUMBERS = 8
CONTENT_WIDTH = 50
METADATA_WIDTH = 50


def show_vector(vector: ReadVector) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    for key, value in vector.model_dump(mode="json", exclude_none=True, exclude={"freshness", "embedding"}).items():
        text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)
        table.add_row(Text(key, style="dim"), Text(printable(text), overflow="fold"))
    if vector.embedding is not None:
        table.add_row(Text("embedding", style="dim"), Text(_numbers(vector)))
    Console(highlight=False).print(table)


def list_vectors(vectors: Iterable[StoredVector]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("id")
    table.add_column("version", justify="right", no_wrap=True)
    for column in ("created", "content", "metadata"):
        table.add_column(column)
    for one in vectors:
        metadata = json.dumps(one.metadata, ensure_ascii=False) if one.metadata else ""
        table.add_row(
            Text(printable(one.id)),
            str(one.version),
            one.created_at.isoformat(timespec="seconds"),
            Text(shortened(one.content or "", CONTENT_WIDTH)),
            Text(shortened(metadata, METADATA_WIDTH)),
        )
    Console(highlight=False).print(table)


def history_table() -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("version", "position"):
        table.add_column(column, justify="right", no_wrap=True)
    for column in ("time", "event", "actor", "changed", "content"):
        table.add_column(column)
    return table


def history_cells(event: Event) -> list[str | Text]:
    return [
        str(event.version),
        f"{event.position:,}",
        event.timestamp.isoformat(timespec="milliseconds"),
        Text(printable(event.event_type)),
        Text(printable(event.actor or "")),
        Text(printable(", ".join(event.changed))),
        Text(shortened(str(event.data.get("content") or ""), 40)),
    ]


def _numbers(vector: ReadVector) -> str:
    assert vector.embedding is not None
    numbers = ", ".join(f"{number:g}" for number in vector.embedding[:SHOWN_NUMBERS].tolist())
    more = f", … ({vector.embedding.size:,} numbers)" if vector.embedding.size > SHOWN_NUMBERS else ""
    return numbers + more
