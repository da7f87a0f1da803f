"""`aindusdb collections`: list, show, create, update, delete."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aindusdb.client import UNSET, Client, Collection, DescribedCollection, MetadataIndex
from aindusdb.commands.output import JsonOption, UrlOption, print_json, printable, refusals, service_url, shortened

INDEX_TYPES = ("string", "number", "boolean", "date")

MetadataIndexOption = Annotated[
    list[str] | None,
    typer.Option(
        "--metadata-index",
        metavar="FIELD:TYPE",
        help=f"An index over a field of the metadata: its name and {', '.join(INDEX_TYPES)}. Repeat it for several.",
    ),
]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The collection's name.")]


class Metric(StrEnum):
    COSINE = "cosine"
    L2 = "l2"
    IP = "ip"


class VectorType(StrEnum):
    VECTOR = "vector"
    HALFVEC = "halfvec"


class IndexKind(StrEnum):
    HNSW = "hnsw"
    IVFFLAT = "ivfflat"
    NONE = "none"


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="List, show, create, update and delete collections.", no_args_is_help=True)
    app.add_typer(group, name="collections")

    @group.command("list")
    def list_all(url: UrlOption = None, as_json: JsonOption = False) -> None:
        """List all collections."""
        with refusals(), Client(service_url(url)) as client:
            found = list(client.collections())
        if as_json:
            print_json([collection.model_dump(mode="json") for collection in found])
        elif found:
            _print_table(found)
        else:
            typer.echo("There are no collections yet.")

    @group.command()
    def show(name: NameArgument, url: UrlOption = None, as_json: JsonOption = False) -> None:
        """Show one collection."""
        with refusals(), Client(service_url(url)) as client:
            found = client.collection(name)
        _show(found, as_json)

    @group.command()
    def create(
        name: NameArgument,
        dimension: Annotated[
            int | None, typer.Option(help="Numbers in an embedding; by default as many as the service's model gives.")
        ] = None,
        model: Annotated[
            str | None, typer.Option(help="What makes the embeddings; the service's own model makes them from texts.")
        ] = None,
        metric: Annotated[Metric, typer.Option(help="How distance is measured.")] = Metric.COSINE,
        type_: Annotated[VectorType, typer.Option("--type", help="32 or 16 bits a number.")] = VectorType.VECTOR,
        index: Annotated[IndexKind, typer.Option(help="The index that searches use.")] = IndexKind.HNSW,
        m: Annotated[int | None, typer.Option("--m", help="hnsw: neighbours of a node.")] = None,
        ef_construction: Annotated[int | None, typer.Option(help="hnsw: candidates while building.")] = None,
        lists: Annotated[int | None, typer.Option(help="ivfflat: lists.")] = None,
        metadata_index: MetadataIndexOption = None,
        description: Annotated[str | None, typer.Option(help="What it is for.")] = None,
        url: UrlOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Create a collection."""
        parameters = {"m": m, "ef_construction": ef_construction, "lists": lists}
        definition: dict[str, Any] = {
            "dimension": dimension,
            "model": model,
            "metric": metric.value,
            "type": type_.value,
            "index": {"kind": index.value, **_given(parameters)},
            "metadata_indexes": None if metadata_index is None else _parsed(metadata_index),
            "description": description,
        }
        with refusals(), Client(service_url(url)) as client:
            created = client.create_collection(name, **_given(definition))
        _show(created, as_json)

    @group.command()
    def update(
        name: NameArgument,
        description: Annotated[str | None, typer.Option(help="What it is for.")] = None,
        no_description: Annotated[bool, typer.Option("--no-description", help="Remove the description.")] = False,
        metadata_index: MetadataIndexOption = None,
        no_metadata_indexes: Annotated[
            bool, typer.Option("--no-metadata-indexes", help="Drop all indexes over fields of the metadata.")
        ] = False,
        url: UrlOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Change a collection's description, or its indexes over metadata: those given are all that there are to be."""
        if description is not None and no_description:
            raise typer.BadParameter("give one of --description and --no-description", param_hint="--description")
        if metadata_index and no_metadata_indexes:
            both = "give one of --metadata-index and --no-metadata-indexes"
            raise typer.BadParameter(both, param_hint="--metadata-index")
        if description is None and not (no_description or metadata_index or no_metadata_indexes):
            raise typer.BadParameter("say what is to be changed", param_hint="--description or --metadata-index")
        indexes = _parsed(metadata_index or []) if metadata_index or no_metadata_indexes else None
        described = UNSET if description is None and not no_description else description
        with refusals(), Client(service_url(url)) as client:
            updated = client.update_collection(name, description=described, metadata_indexes=indexes)
        _show(updated, as_json)

    @group.command()
    def delete(name: NameArgument, url: UrlOption = None, as_json: JsonOption = False) -> None:
        """Delete a collection with all its vectors."""
        with refusals(), Client(service_url(url)) as client:
            deleted = client.delete_collection(name)
        if as_json:
            print_json(deleted.model_dump(mode="json"))
        else:
            typer.echo(f"Deleted {name}")


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """What was left out takes the service's default."""
    return {key: value for key, value in options.items() if value is not None}


def _parsed(indexes: list[str]) -> list[dict[str, str]]:
    """
    Raises:
        typer.BadParameter
    """
    parsed: list[dict[str, str]] = []
    for given in indexes:
        field, _, type_ = given.rpartition(":")
        if not field or type_ not in INDEX_TYPES:
            expected = f"{given!r} is no name of a field, a colon and one of {', '.join(INDEX_TYPES)}"
            raise typer.BadParameter(expected, param_hint="--metadata-index")
        parsed.append({"field": field, "type": type_})
    return parsed


def _show(collection: DescribedCollection, as_json: bool) -> None:
    if as_json:
        print_json(collection.model_dump(mode="json"))
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    for key, value in collection.model_dump(mode="json", exclude_none=True, exclude={"freshness"}).items():
        match key:
            case "index":
                shown = _index_text(collection)
            case "metadata_indexes":
                shown = "\n".join(map(_metadata_index_text, collection.metadata_indexes))
            case _:
                shown = printable(_text(value))
        if shown:
            table.add_row(Text(key, style="dim"), Text(shown, overflow="fold"))
    Console(highlight=False).print(table)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)


def _metadata_index_text(index: MetadataIndex) -> str:
    said = [f"{index.field}: {index.type}", index.state, index.reason]
    return printable(", ".join(one for one in said if one is not None))


def _print_table(collections: list[Collection]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("name", no_wrap=True)
    table.add_column("dimension", justify="right")
    for column in ("metric", "type", "index", "model", "description"):
        table.add_column(column)
    for one in collections:
        table.add_row(
            Text(one.name),
            f"{one.dimension:,}",
            one.metric,
            one.type,
            _index_text(one),
            Text(printable(one.model or "")),
            Text(shortened(one.description or "", 60)),
        )
    Console(highlight=False).print(table)


def _index_text(collection: DescribedCollection) -> str:
    index = collection.index.model_dump(mode="json", exclude_none=True)
    return " ".join([index.pop("kind"), *(f"{key}={value}" for key, value in index.items())])
