"""Options that several data commands have: one name and one meaning each, and what their JSON says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from aindusdb.client import encode_embedding
from aindusdb.client.calls import Moment
from aindusdb.commands.output import CommandRefusedError
from shared.strict_json import MalformedJsonError, parse_json

TOKEN_PATIENCE_MS = 30_000
"""How long a read waits for what a token stands for: whoever sits at a shell would only ask again."""

CollectionOption = Annotated[str, typer.Option("--collection", help="The collection's name, or an alias of it.")]
TokenOption = Annotated[str | None, typer.Option("--token", help="A write's consistency token: see that write.")]
FilterOption = Annotated[
    str | None, typer.Option("--filter", metavar="JSON", help="Only vectors that match this filter.")
]
IfVersionOption = Annotated[
    int | None, typer.Option("--if-version", min=0, help="Only if it has this version now; 0: if it is not there.")
]
IncludeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--include",
        help="What is shown: content, metadata, embedding, or a field (metadata.lang); may be given several times.",
    ),
]
AsOfOption = Annotated[
    str | None,
    typer.Option(
        "--as-of", metavar="MOMENT", help="As it was: a position, a time (2026-01-05T08:30Z), or a snapshot's name."
    ),
]
VectorOption = Annotated[
    str | None, typer.Option("--vector", metavar="JSON", help="The embedding as an array of numbers.")
]
VectorFileOption = Annotated[Path | None, typer.Option("--vector-file", help="A file that holds this array.")]


def filter_of(text: str | None) -> dict[str, Any] | None:
    """
    Raises:
        CommandRefusedError
    """
    if text is None:
        return None
    document = json_of(text, "--filter")
    if not isinstance(document, dict):
        raise CommandRefusedError("--filter is not a JSON object.")
    return document


def moment_of(text: str | None) -> Moment | None:
    """A number is a position, what has a colon is a time, anything else is the name of a snapshot."""
    if text is None:
        return None
    if text.isdecimal():
        return {"position": int(text)}
    return {"time": text} if ":" in text else {"snapshot": text}


def embedding_of(vector: str | None, file: Path | None) -> list[float] | None:
    """The array of the option, or of the file; None: neither is given.

    Raises:
        CommandRefusedError
    """
    if file is not None:
        try:
            text, origin = file.read_text(encoding="utf-8"), str(file)
        except (OSError, UnicodeDecodeError) as error:
            raise CommandRefusedError(f"{file} cannot be read: {error}") from error
    elif vector is not None:
        text, origin = vector, "--vector"
    else:
        return None
    numbers = json_of(text, origin)
    if not isinstance(numbers, list) or not numbers or not {type(one) for one in numbers} <= {int, float}:
        raise CommandRefusedError(f"{origin} is not a JSON array of numbers.")
    try:
        encode_embedding(numbers)
    except ValueError as error:
        raise CommandRefusedError(f"{origin}: {error}") from error
    return numbers


def json_of(text: str, origin: str) -> Any:
    """
    Raises:
        CommandRefusedError
    """
    try:
        return parse_json(text.encode())
    except (MalformedJsonError, UnicodeEncodeError) as error:
        raise CommandRefusedError(f"{origin} is not valid JSON: {error}") from error


def require_one(given: Mapping[str, object]) -> None:
    """Of these, by the names that the command line has for them, exactly one is to be there.

    Raises:
        typer.BadParameter
    """
    if sum(value is not None for value in given.values()) != 1:
        raise typer.BadParameter(f"give one of {', '.join(given)}", param_hint=next(iter(given)))
