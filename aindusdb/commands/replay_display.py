"""How replays show on standard error: a line for each collection that moves, with rate and time left; where there is no
terminal, a line of its own now and then."""

from __future__ import annotations

from time import monotonic

from rich.progress import BarColumn, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from aindusdb.commands.output import printable, say
from aindusdb.commands.progress_display import ProgressDisplay
from projector.replays import Doing

_BETWEEN_LINES_SECONDS = 30.0
"""For whoever reads them in the log of a job. What is done sooner says so by itself."""


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


class ReplayDisplay(ProgressDisplay):
    def __init__(self) -> None:
        self._said_at: dict[str, float] = {}
        super().__init__(
            TextColumn("{task.fields[collection]}"),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            _Rate(),
            TimeRemainingColumn(),
        )
        self._tasks: dict[str, tuple[str, TaskID]] = {}

    def show(self, collection: str, doing: Doing) -> None:
        """A new step begins anew, with a rate and a time left of its own."""
        if self._progress.disable:
            self._say(collection, doing)
            return
        step, task = self._tasks.get(collection, ("", None))
        if task is None or step != doing.step:
            if task is not None:
                self._progress.remove_task(task)
            task = self._progress.add_task(
                doing.step, total=doing.total, completed=doing.done, collection=printable(collection),
                step=doing.step, events=0,
            )  # fmt: skip
            self._tasks[collection] = (doing.step, task)
        self._progress.update(
            task, description=_described(doing), total=doing.total, completed=doing.done, events=doing.events
        )

    def _say(self, collection: str, doing: Doing) -> None:
        now = monotonic()
        if now - self._said_at.setdefault(collection, now) < _BETWEEN_LINES_SECONDS:
            return
        self._said_at[collection] = now
        say(f"{collection}: {_described(doing)}" + (f" {doing.done:,}/{doing.total:,}" if doing.total else ""))

    def done(self, collection: str) -> None:
        _, task = self._tasks.pop(collection, ("", None))
        if task is not None:
            self._progress.remove_task(task)


def _described(doing: Doing) -> str:
    return f"{doing.step}: {doing.detail}" if doing.detail else doing.step
