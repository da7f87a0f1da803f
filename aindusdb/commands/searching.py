"""`aindusdb search`: the nearest vectors as a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aindusdb.client import Client, SearchAnswer, encode_embedding
from aindusdb.commands.output import (
    CommandRefusedError,
    JsonOption,
    UrlOption,
    print_json,
    printable,
    refusals,
    say,
    service_url,
    shortened,
)
from shared.strict_json import MalformedJsonError, parse_json

CONTENT_WIDTH = 60
METADATA_WIDTH = 40


def register(app: typer.Typer) -> None:
    @app.command()
    def search(
        collection: Annotated[str, typer.Option(help="The collection to search.")],
        query: Annotated[
            str | None, typer.Option("--query", "--text", help="A text, in a collection that takes texts.")
        ] = None,
        vector: Annotated[str | None, typer.Option(help="The embedding as a JSON array of numbers.")] = None,
        vector_file: Annotated[Path | None, typer.Option(help="A file that holds this array.")] = None,
        k: Annotated[int, typer.Option("-k", "--k", help="How many hits.")] = 10,
        where: Annotated[str | None, typer.Option("--filter", help="A filter, as JSON.")] = None,
        exact: Annotated[bool, typer.Option("--exact", help="Compare with every vector, without the index.")] = False,
        ef_search: Annotated[int | None, typer.Option(help="hnsw: candidates while searching.")] = None,
        token: Annotated[str | None, typer.Option(help="A write's consistency token: see that write.")] = None,
        url: UrlOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Search a collection by a text or by an embedding."""
        with refusals():
            origin = _origin(query, vector, vector_file)
            wanted = None if where is None else _filter(where)
            with Client(service_url(url)) as client:
                answer = client.search(
                    collection,
                    embedding=None if isinstance(origin, str) else origin,
                    query=origin if isinstance(origin, str) else None,
                    k=k,
                    filter=wanted,
                    exact=exact or None,
                    ef_search=ef_search,
                    include=["content", "metadata"],
                    token=token,
                )
        if as_json:
            print_json(answer.model_dump(mode="json"))
        else:
            _print_hits(answer)


def _origin(query: str | None, vector: str | None, file: Path | None) -> str | list[float]:
    """The text or the embedding to look for."""
    if sum(one is not None for one in (query, vector, file)) != 1:
        raise CommandRefusedError("Say what to look for by --query, --vector or --vector-file, one of them.")
    return _embedding(vector, file) if query is None else query


def _embedding(vector: str | None, file: Path | None) -> list[float]:
    if file is not None:
        try:
            text, origin = file.read_text(encoding="utf-8"), str(file)
        except (OSError, UnicodeDecodeError) as error:
            raise CommandRefusedError(f"{file} cannot be read: {error}") from error
    else:
        text, origin = vector or "", "--vector"
    numbers = _json(text, origin)
    if not isinstance(numbers, list) or not numbers or not {type(one) for one in numbers} <= {int, float}:
        raise CommandRefusedError(f"{origin} is not a JSON array of numbers.")
    try:
        encode_embedding(numbers)
    except ValueError as error:
        raise CommandRefusedError(f"{origin}: {error}") from error
    return numbers


def _filter(text: str) -> dict[str, Any]:
    document = _json(text, "--filter")
    if not isinstance(document, dict):
        raise CommandRefusedError("--filter is not a JSON object.")
    return document


def _json(text: str, origin: str) -> Any:
    try:
        return parse_json(text.encode())
    except (MalformedJsonError, UnicodeEncodeError) as error:
        raise CommandRefusedError(f"{origin} is not valid JSON: {error}") from error


def _print_hits(answer: SearchAnswer) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("", "score", "distance"):
        table.add_column(column, justify="right", no_wrap=True)
    for column in ("id", "content", "metadata"):
        table.add_column(column)
    for rank, hit in enumerate(answer.hits, start=1):
        metadata = json.dumps(hit.metadata, ensure_ascii=False) if hit.metadata else ""
        table.add_row(
            str(rank),
            f"{hit.score:.4f}",
            f"{hit.distance:.4f}",
            Text(printable(hit.id)),
            Text(shortened(hit.content or "", CONTENT_WIDTH)),
            Text(shortened(metadata, METADATA_WIDTH)),
        )
    Console(highlight=False).print(table)
    cached = ", from the cache" if answer.cached else ""
    say(f"{len(answer.hits)} hits in {answer.took_ms:.1f} ms{cached}, as of position {answer.freshness.position}")
    if answer.truncated:
        say("The query is longer than the model sees; what it found, it found by the beginning.")
    if not answer.complete:
        say("The answer is incomplete: the index could not fill it.")
