"""What the data commands share: the service's address, refusals as one sentence, text that is safe to print."""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aindusdb.client import ClientError

DEFAULT_URL = "http://127.0.0.1:8000"

UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url",
        help="Where AindusDB listens; by default where the stack on the data folder does.",
        envvar="AINDUSDB_URL",
        show_default=DEFAULT_URL,
    ),
]
_WIDEST = 10_000

JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable JSON on standard output.")]


class CommandRefusedError(Exception):
    """The command cannot do what it was asked; the message is the sentence to show."""


def service_url(named: str | None) -> str:
    """The address that was named, else that of the stack which runs on the data folder, else the default one."""
    if named is not None:
        return named
    # Imported late: the local stack is an extra, and with an address it is not needed.
    try:
        from aindusdb.local_stack.connection import local_url
    except ModuleNotFoundError:
        return DEFAULT_URL
    return local_url(Path(os.environ.get("AINDUSDB_DATA_DIR", ".aindusdb")).absolute()) or DEFAULT_URL


@contextmanager
def refusals() -> Iterator[None]:
    """Turns foreseen errors into one sentence on standard error and exit code 1."""
    try:
        yield
    except (CommandRefusedError, ClientError) as error:
        say(str(error))
        raise typer.Exit(1) from error


def say(sentence: str) -> None:
    """On standard error, unfolded."""
    Console(stderr=True, highlight=False).print(Text(printable(sentence)), soft_wrap=True)


def print_table(table: Table) -> None:
    """Each row on one line, however wide the terminal is, or where there is none: nothing is cut off."""
    console = Console(highlight=False)
    unbounded = console.options.update(max_width=_WIDEST)
    width = max(console.width, console.measure(table, options=unbounded).maximum)
    Console(highlight=False, width=width).print(table, soft_wrap=True)


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, ensure_ascii=True))


def printable(text: str) -> str:
    """Stored text may hold control characters, which would give a terminal orders; they are shown as escapes."""
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"}
        else character
        for character in text
    )


def counted(count: int, noun: str) -> str:
    """`1 vector`, `2,000 vectors`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def shortened(text: str, width: int) -> str:
    """At most `width` characters, on one line."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= width else line[: width - 1] + "…"
