"""What moves on standard error while a command works, and nothing where that is no terminal."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import Progress, ProgressColumn


def progress_of(*columns: ProgressColumn) -> Progress:
    """It leaves nothing behind when it ends."""
    console = Console(stderr=True, highlight=False)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


class ProgressDisplay:
    """Moves as long as its context lasts."""

    def __init__(self, *columns: ProgressColumn) -> None:
        self._progress = progress_of(*columns)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()
