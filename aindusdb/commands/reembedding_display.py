"""How a move to another embedding model looks: a table, and a bar on standard error where that is a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from aindusdb.client import PendingChange, Reembedding
from aindusdb.commands.output import counted, printable
from aindusdb.commands.progress_display import ProgressDisplay

_WHAT = {
    "embedding": "contents are embedded",
    "blocked": "held up",
    "building": "tables are made",
    "finishing": "what is left of the model before goes",
    "none": "over",
}


class ReembeddingDisplay(ProgressDisplay):
    """Nothing moves where standard error is no terminal."""

    def __init__(self, collection: str) -> None:
        self._collection = collection
        super().__init__(
            TextColumn("{task.fields[collection]}", markup=False),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[extent]}"),
            TimeRemainingColumn(),
        )
        self._state = ""
        self._task: TaskID | None = None

    def show(self, found: Reembedding, change: PendingChange | None) -> None:
        """A new state begins anew, with a time left of its own."""
        done, total = _extent(found, change)
        extent = "" if total is None else f"{done:,}/{total:,}"
        if self._task is None or found.state != self._state:
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._task = self._progress.add_task(
                _WHAT[found.state], total=total, collection=printable(self._collection), extent=extent
            )
            self._state = found.state
        self._progress.update(self._task, total=total, completed=done, extent=extent)


def _extent(found: Reembedding, change: PendingChange | None) -> tuple[int, int | None]:
    """How much is done of how much: vectors, then positions of the log. None: nobody knows."""
    if found.state == "embedding" and found.remaining is not None:
        return found.embedded, found.embedded + found.remaining
    if found.state == "building" and change is not None and change.position is not None:
        return change.position, change.target
    return 0, None


def show_reembedding(found: Reembedding) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in _rows(found).items():
        table.add_row(Text(name, style="dim"), Text(printable(value), overflow="fold"))
    Console(highlight=False).print(table)


def _rows(found: Reembedding) -> dict[str, str]:
    if found.state == "none":
        return {"state": "none: it does not move", "model": model_text(found)}
    rows = {
        "state": f"{found.state}: {_WHAT[found.state]}",
        "to": model_text(found),
        "from": _named(found.from_model),
        "embedded": counted(found.embedded, "vector"),
        "remaining": "not counted yet" if found.remaining is None else counted(found.remaining, "vector"),
    }
    if found.since_position is not None:
        rows["since"] = f"position {found.since_position:,}"
    if found.without_content.count:
        rows["without content"] = _without_content(found)
    return rows if found.reason is None else {**rows, "reason": found.reason}


def model_text(found: Reembedding) -> str:
    return f"{_named(found.model)} ({found.provider}, {found.dimension:,} dimensions)"


def blocked_text(name: str, found: Reembedding) -> str:
    """What holds it up, and what to do."""
    if not found.without_content.count:
        return f"The move of {name} is held up: {found.reason}"
    return (
        f"The move of {name} is held up by {_without_content(found)}. Give each a content, or an embedding that "
        f"names {_named(found.model)}, or delete it; the move goes on by itself."
    )


def _without_content(found: Reembedding) -> str:
    count, ids = found.without_content.count, found.without_content.ids
    more = ", …" if count > len(ids) else ""
    return f"{counted(count, 'vector')} without content: {', '.join(ids)}{more}"


def _named(model: str | None) -> str:
    return "no model" if model is None else f"the model {model!r}"
