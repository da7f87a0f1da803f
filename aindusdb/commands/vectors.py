"""`aindusdb vectors`: get, history, restore."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aindusdb.client import Client, Event, ReadVector
from aindusdb.commands.output import JsonOption, UrlOption, print_json, printable, refusals, service_url, shortened

CollectionOption = Annotated[str, typer.Option(help="The vector's collection.")]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The vector's id.")]
PastCollectionOption = Annotated[
    str | None, typer.Option("--collection-id", help="The id of a collection that was deleted.")
]
SHOWN_NUMBERS = 8


class Shown(StrEnum):
    CONTENT = "content"
    METADATA = "metadata"
    EMBEDDING = "embedding"


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Show vectors and their history, and bring them back.", no_args_is_help=True)
    app.add_typer(group, name="vectors")

    @group.command()
    def get(
        vector_id: IdArgument,
        collection: CollectionOption,
        version: Annotated[int | None, typer.Option(min=1, help="As it was at this version.")] = None,
        collection_id: PastCollectionOption = None,
        token: Annotated[str | None, typer.Option(help="A write's consistency token: see that write.")] = None,
        url: UrlOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Show a vector, as it is or as it was."""
        with refusals(), Client(service_url(url)) as client:
            found = client.get(
                collection,
                vector_id,
                include=[one.value for one in Shown],
                version=version,
                collection_id=collection_id,
                token=token,
            )
        if as_json:
            print_json(found.model_dump(mode="json"))
        else:
            _show(found)

    @group.command()
    def history(
        vector_id: IdArgument,
        collection: CollectionOption,
        collection_id: PastCollectionOption = None,
        token: Annotated[str | None, typer.Option(help="A write's consistency token: see that write.")] = None,
        url: UrlOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """List every event of a vector, the first one first."""
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column in ("version", "position"):
            table.add_column(column, justify="right", no_wrap=True)
        for column in ("time", "event", "actor", "changed", "content"):
            table.add_column(column)
        with refusals(), Client(service_url(url)) as client:
            for event in client.history(collection, vector_id, collection_id=collection_id, token=token):
                if as_json:
                    print_json(event.model_dump(mode="json"))
                else:
                    table.add_row(*_cells(event))
        if not as_json:
            Console(highlight=False).print(table)

    @group.command()
    def restore(
        vector_id: IdArgument,
        collection: CollectionOption,
        version: Annotated[int, typer.Option(min=1, help="The version whose contents come back.")],
        if_version: Annotated[
            int | None, typer.Option(min=0, help="Only if the vector has this version now; 0: if it is not there.")
        ] = None,
        url: UrlOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Bring a vector back as it was at a version, by a new event."""
        with refusals(), Client(service_url(url)) as client:
            written = client.restore(collection, vector_id, version, if_version=if_version)
        if as_json:
            print_json(written.model_dump(mode="json"))
        else:
            typer.echo(
                f"{printable(vector_id)} is as it was at version {version}; it has version {written.version} now"
            )


def _show(vector: ReadVector) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    for key, value in vector.model_dump(mode="json", exclude_none=True, exclude={"freshness", "embedding"}).items():
        text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)
        table.add_row(Text(key, style="dim"), Text(printable(text), overflow="fold"))
    if vector.embedding is not None:
        numbers = ", ".join(f"{number:g}" for number in vector.embedding[:SHOWN_NUMBERS].tolist())
        more = f", … ({vector.embedding.size:,} numbers)" if vector.embedding.size > SHOWN_NUMBERS else ""
        table.add_row(Text("embedding", style="dim"), Text(numbers + more))
    Console(highlight=False).print(table)


def _cells(event: Event) -> list[str | Text]:
    return [
        str(event.version),
        f"{event.position:,}",
        event.timestamp.isoformat(timespec="milliseconds"),
        Text(printable(event.event_type)),
        Text(printable(event.actor or "")),
        Text(printable(", ".join(event.changed))),
        Text(shortened(str(event.data.get("content") or ""), 40)),
    ]
