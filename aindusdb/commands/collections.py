"""`aindusdb collections`: list, show, create, update, delete, restore."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from aindusdb.client import Client, Collection, DescribedCollection
from aindusdb.commands import reembedding
from aindusdb.commands.collection_display import change_text, list_collections, list_snapshots, show_collection
from aindusdb.commands.collection_options import (
    EfConstructionOption,
    IndexKind,
    ListsOption,
    MetadataIndexOption,
    Metric,
    MOption,
    NameArgument,
    RetentionOption,
    VectorType,
    index_of,
    metadata_indexes_of,
)
from aindusdb.commands.options import TOKEN_PATIENCE_MS, IfVersionOption, TokenOption
from aindusdb.commands.output import (
    CommandRefusedError,
    JsonOption,
    UrlOption,
    print_json,
    refusals,
    say,
    service_url,
)
from aindusdb.commands.restoring import Pages, report_pages

WAIT_INTERVAL_SECONDS = 1.0


def register(app: typer.Typer) -> None:
    group = typer.Typer(
        help="List, show, create, update, delete and restore collections, and move them to another embedding model.",
        no_args_is_help=True,
    )
    app.add_typer(group, name="collections")
    reembedding.register(group)

    @group.command("list")
    def list_all(token: TokenOption = None, url: UrlOption = None, as_json: JsonOption = False) -> None:
        """List all collections."""
        with refusals(), Client(service_url(url)) as client:
            found = list(client.collections(token=token, timeout_ms=TOKEN_PATIENCE_MS))
        if as_json:
            print_json([collection.model_dump(mode="json") for collection in found])
        elif found:
            list_collections(found)
        else:
            typer.echo("There are no collections yet.")

    @group.command()
    def show(name: NameArgument, token: TokenOption = None, url: UrlOption = None, as_json: JsonOption = False) -> None:
        """Show a collection: what it is to be, what searches read, and how far a change of it is."""
        with refusals(), Client(service_url(url)) as client:
            found = client.collection(name, token=token, timeout_ms=TOKEN_PATIENCE_MS)
        show_collection(found, as_json)

    @group.command()
    def snapshots(
        name: NameArgument, token: TokenOption = None, url: UrlOption = None, as_json: JsonOption = False
    ) -> None:
        """List the moments of the past that can be searched: `replay build --name` makes them."""
        with refusals(), Client(service_url(url)) as client:
            found = client.snapshots(name, token=token, timeout_ms=TOKEN_PATIENCE_MS)
        if as_json:
            print_json(found.model_dump(mode="json"))
        elif found.items:
            list_snapshots(found.items)
        else:
            typer.echo(f"{found.collection} has no snapshots.")

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
        m: MOption = None,
        ef_construction: EfConstructionOption = None,
        lists: ListsOption = None,
        metadata_index: MetadataIndexOption = None,
        month_partitions: Annotated[
            bool, typer.Option("--month-partitions", help="Divide the tables by the month of creation.")
        ] = False,
        retention_seconds: RetentionOption = None,
        description: Annotated[str | None, typer.Option(help="What it is for.")] = None,
        url: UrlOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Create a collection."""
        definition: dict[str, Any] = {
            "dimension": dimension,
            "model": model,
            "metric": metric.value,
            "type": type_.value,
            "index": index_of(index, m, ef_construction, lists),
            "metadata_indexes": None if metadata_index is None else metadata_indexes_of(metadata_index),
            "month_partitions": month_partitions or None,
            "retention_seconds": retention_seconds,
            "description": description,
        }
        with refusals(), Client(service_url(url)) as client:
            created = client.create_collection(name, **definition)
        show_collection(created, as_json)

    @group.command()
    def update(
        name: NameArgument,
        metric: Annotated[Metric | None, typer.Option(help="How distance is measured.")] = None,
        type_: Annotated[VectorType | None, typer.Option("--type", help="32 or 16 bits a number.")] = None,
        index: Annotated[IndexKind | None, typer.Option(help="The index that searches use.")] = None,
        m: MOption = None,
        ef_construction: EfConstructionOption = None,
        lists: ListsOption = None,
        metadata_index: MetadataIndexOption = None,
        no_metadata_indexes: Annotated[
            bool, typer.Option("--no-metadata-indexes", help="Drop all indexes over fields of the metadata.")
        ] = False,
        month_partitions: Annotated[
            bool | None,
            typer.Option(
                "--month-partitions/--no-month-partitions", help="Divide the tables by the month of creation."
            ),
        ] = None,
        retention_seconds: RetentionOption = None,
        no_retention: Annotated[bool, typer.Option("--no-retention", help="Remove the retention.")] = False,
        description: Annotated[str | None, typer.Option(help="What it is for.")] = None,
        no_description: Annotated[bool, typer.Option("--no-description", help="Remove the description.")] = False,
        if_version: IfVersionOption = None,
        wait: Annotated[bool, typer.Option("--wait", help="Return when searches read what was asked for.")] = False,
        url: UrlOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Change a collection. Its tables are changed beside the running searches; `show` says how far that is. The
        indexes over metadata that are given are all that there are to be."""
        if index is None and (m, ef_construction, lists) != (None, None, None):
            raise typer.BadParameter("name the kind of index that this belongs to", param_hint="--index")
        if no_description and description is not None:
            raise typer.BadParameter("it cannot go with --description", param_hint="--no-description")
        if no_retention and retention_seconds is not None:
            raise typer.BadParameter("it cannot go with --retention-seconds", param_hint="--no-retention")
        if metadata_index and no_metadata_indexes:
            raise typer.BadParameter("it cannot go with --metadata-index", param_hint="--no-metadata-indexes")
        changes: dict[str, Any] = {
            "metric": metric and metric.value,
            "type": type_ and type_.value,
            "index": index and index_of(index, m, ef_construction, lists),
            "metadata_indexes": metadata_indexes_of(metadata_index or ())
            if metadata_index or no_metadata_indexes
            else None,
            "month_partitions": month_partitions,
        }
        if description is not None or no_description:
            changes["description"] = description
        if retention_seconds is not None or no_retention:
            changes["retention_seconds"] = retention_seconds
        if all(value is None for value in changes.values()) and not (no_description or no_retention):
            raise typer.BadParameter("say what is to be changed, such as --index or --description", param_hint="NAME")
        with refusals(), Client(service_url(url)) as client:
            updated = client.update_collection(name, if_version=if_version, **changes)
            found: DescribedCollection = _settled(client, name, updated.consistency_token) if wait else updated
        show_collection(found, as_json)

    @group.command()
    def delete(
        name: NameArgument, if_version: IfVersionOption = None, url: UrlOption = None, as_json: JsonOption = False
    ) -> None:
        """Delete a collection with all its vectors. `restore` brings it back."""
        with refusals(), Client(service_url(url)) as client:
            deleted = client.delete_collection(name, if_version=if_version)
        if as_json:
            print_json(deleted.model_dump(mode="json"))
        else:
            typer.echo(f"Deleted {name}")
            say(f"Back again: aindusdb collections restore {name} --collection-id {deleted.collection_id}")

    @group.command()
    def restore(
        name: NameArgument,
        collection_id: Annotated[str, typer.Option(help="The id of the collection that was deleted.")],
        url: UrlOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Bring a deleted collection back with all its vectors, under a new id. Run again, it goes on where it was."""
        with refusals(), Client(service_url(url)) as client:
            pages = Pages(lambda cursor: client.restore_collection(name, collection_id, cursor=cursor))
            report_pages(pages, f"{name} is back", as_json)


def _settled(client: Client, name: str, token: str) -> Collection:
    """Once its tables are what it is to be.

    Raises:
        CommandRefusedError: the change failed.
    """
    while True:
        found = client.collection(name, token=token, timeout_ms=TOKEN_PATIENCE_MS)
        if found.change is None:
            return found
        if found.change.state == "failed":
            raise CommandRefusedError(f"The change of {name} {change_text(found.change)}")
        time.sleep(WAIT_INTERVAL_SECONDS)
