"""How a start shows on the terminal: a spinner where there is one, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text


class _LastingConsole(Console):
    """A reader that has gone away must not keep the stack from stopping in order."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


class Progress:
    def __init__(self, *, stderr: bool = False) -> None:
        self._console = _LastingConsole(highlight=False, stderr=stderr)

    @contextmanager
    def step(self, doing: str, done: str) -> Iterator[None]:
        """Shows `doing` while the body runs and `done`, with its seconds, after it."""
        started = time.monotonic()
        if self._console.is_terminal:
            with self._console.status(doing):
                yield
        else:
            self.line(f"{doing} …")
            yield
        self.line(f"{done} ({time.monotonic() - started:.1f} s)")

    def line(self, text: str) -> None:
        # Never folded: a path that is broken at column 80 cannot be copied.
        self._console.print(Text(text), soft_wrap=True)
