"""How an import shows on standard error: a bar with rate and time left where there is a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, Protocol, TypeVar

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from aindusdb.client import ClientError
from aindusdb.commands.progress_display import ProgressDisplay


class _Stretch(Protocol):
    @property
    def number(self) -> int: ...

    @property
    def end(self) -> int: ...


_Line = TypeVar("_Line", bound=_Stretch)
_EVERY_LINES = 500


class _LinesPerSecond(ProgressColumn):
    def __init__(self, noun: str) -> None:
        super().__init__()
        self._noun = noun

    def render(self, task: Task) -> Text:
        elapsed = task.elapsed or 0.0
        lines = task.fields["lines"]
        return Text(f"{lines / elapsed:,.0f} {self._noun}s/s" if elapsed > 0.5 else "")


class ImportDisplay(ProgressDisplay):
    """Nothing moves where standard error is no terminal."""

    def __init__(self, total: int, measure: Literal["bytes", "rows"], noun: str) -> None:
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn() if measure == "bytes" else MofNCompleteColumn(),
            _LinesPerSecond(noun),
            TimeRemainingColumn(),
        )
        self._total = total
        self._task: TaskID | None = None
        self._first_line = 0
        self._doing = ""

    def begin(self, doing: str, *, end: int = 0, line: int = 0) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._first_line, self._doing = line, doing
        self._task = self._progress.add_task(doing, total=self._total, completed=end, lines=0)

    def advance(self, *, end: int, line: int) -> None:
        if self._task is not None:
            self._progress.update(self._task, completed=end, lines=line - self._first_line, description=self._doing)

    def waiting(self, cause: ClientError, pause_seconds: float) -> None:
        if self._task is not None:
            self._progress.update(self._task, description=f"waiting {pause_seconds:.1f} s: {cause}")

    def passing(self, lines: Iterable[_Line]) -> Iterator[_Line]:
        for count, line in enumerate(lines):
            if count % _EVERY_LINES == 0:
                self.advance(end=line.end, line=line.number)
            yield line
