"""How replays show on standard error: a line for each collection, with rate and time left where there is a terminal."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from aindusdb.commands.output import printable
from projector.replays import Doing


class _Rate(ProgressColumn):
    """Events a second while the log is folded, rows in the index while that is made."""

    def render(self, task: Task) -> Text:
        events, elapsed = task.fields["events"], task.elapsed or 0.0
        match task.fields["step"]:
            case "folding" if elapsed > 0.5:
                return Text(f"{events / elapsed:,.0f} events/s")
            case "indexing" if events:
                return Text(f"{events:,} rows")
            case _:
                return Text("")


class ReplayDisplay:
    """Nothing moves where standard error is no terminal."""

    def __init__(self) -> None:
        console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            TextColumn("{task.fields[collection]}"),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            _Rate(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, tuple[str, TaskID]] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, collection: str, doing: Doing) -> None:
        """A new step begins anew, with a rate and a time left of its own."""
        step, task = self._tasks.get(collection, ("", None))
        if task is None or step != doing.step:
            if task is not None:
                self._progress.remove_task(task)
            task = self._progress.add_task(
                doing.step, total=doing.total, completed=doing.done, collection=printable(collection),
                step=doing.step, events=0,
            )  # fmt: skip
            self._tasks[collection] = (doing.step, task)
        described = f"{doing.step}: {doing.detail}" if doing.detail else doing.step
        self._progress.update(task, description=described, total=doing.total, completed=doing.done, events=doing.events)

    def done(self, collection: str) -> None:
        _, task = self._tasks.pop(collection, ("", None))
        if task is not None:
            self._progress.remove_task(task)
