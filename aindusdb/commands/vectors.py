"""`aindusdb vectors`: get, list, count, history. What writes is in `vector_writes`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from aindusdb.client import Client
from aindusdb.commands import vector_writes
from aindusdb.commands.options import (
    TOKEN_PATIENCE_MS,
    AsOfOption,
    CollectionOption,
    FilterOption,
    IncludeOption,
    TokenOption,
    filter_of,
    moment_of,
)
from aindusdb.commands.output import JsonOption, UrlOption, print_json, print_table, refusals, say, service_url
from aindusdb.commands.vector_display import history_cells, history_table, list_vectors, show_vector

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The vector's id.")]
PastCollectionOption = Annotated[
    str | None, typer.Option("--collection-id", help="The id of a collection that was deleted.")
]

ALL_PARTS = ("content", "metadata", "embedding")
LISTED_PARTS = ("content", "metadata")


class OrderBy(StrEnum):
    ID = "id"
    CREATED_AT = "created_at"


def register(app: typer.Typer) -> None:
    group = typer.Typer(
        help="List, count, show, write, change and delete vectors, and bring them back.", no_args_is_help=True
    )
    app.add_typer(group, name="vectors")

    @group.command()
    def get(
        vector_id: IdArgument,
        collection: CollectionOption,
        version: Annotated[int | None, typer.Option(min=1, help="As it was at this version.")] = None,
        collection_id: PastCollectionOption = None,
        include: IncludeOption = None,
        as_of: AsOfOption = None,
        token: TokenOption = None,
        url: UrlOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Show a vector, as it is or as it was."""
        with refusals(), Client(service_url(url)) as client:
            found = client.get(
                collection,
                vector_id,
                include=include or ALL_PARTS,
                version=version,
                collection_id=collection_id,
                as_of=moment_of(as_of),
                token=token,
                timeout_ms=TOKEN_PATIENCE_MS,
            )
        if as_json:
            print_json(found.model_dump(mode="json"))
        else:
            show_vector(found)

    @group.command("list")
    def list_(
        collection: CollectionOption,
        where: FilterOption = None,
        order_by: Annotated[OrderBy, typer.Option(help="By what they are ordered.")] = OrderBy.ID,
        descending: Annotated[bool, typer.Option("--desc", help="The greatest first.")] = False,
        limit: Annotated[int, typer.Option(min=1, max=1_000, help="Show at most so many.")] = 20,
        cursor: Annotated[str | None, typer.Option(help="Go on where an earlier list ended, as it said.")] = None,
        include: IncludeOption = None,
        as_of: AsOfOption = None,
        token: TokenOption = None,
        url: UrlOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """List vectors, a page at a time. `aindusdb export` writes all of them into a file."""
        with refusals(), Client(service_url(url)) as client:
            page = next(
                client.scroll_pages(
                    collection,
                    filter=filter_of(where),
                    order_by=order_by.value,
                    direction="desc" if descending else "asc",
                    include=include or LISTED_PARTS,
                    page_size=limit,
                    cursor=cursor,
                    as_of=moment_of(as_of),
                    token=token,
                    timeout_ms=TOKEN_PATIENCE_MS,
                )
            )
        if as_json:
            print_json(page.model_dump(mode="json"))
            return
        if page.items:
            list_vectors(page.items)
        else:
            typer.echo("There are no vectors." if where is None else "No vector matches.")
        if page.next_cursor is not None:
            say(f"There are more: the same with --cursor {page.next_cursor}")

    @group.command()
    def count(
        collection: CollectionOption,
        where: FilterOption = None,
        as_of: AsOfOption = None,
        token: TokenOption = None,
        url: UrlOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Count the vectors of a collection, or those that match a filter."""
        with refusals(), Client(service_url(url)) as client:
            answer = client.count(
                collection, filter=filter_of(where), as_of=moment_of(as_of), token=token, timeout_ms=TOKEN_PATIENCE_MS
            )
        if as_json:
            print_json(answer.model_dump(mode="json"))
        else:
            typer.echo(answer.count)

    @group.command()
    def history(
        vector_id: IdArgument,
        collection: CollectionOption,
        collection_id: PastCollectionOption = None,
        token: TokenOption = None,
        url: UrlOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """List every event of a vector, the first one first."""
        table = history_table()
        with refusals(), Client(service_url(url)) as client:
            for event in client.history(
                collection, vector_id, collection_id=collection_id, token=token, timeout_ms=TOKEN_PATIENCE_MS
            ):
                if as_json:
                    print_json(event.model_dump(mode="json"))
                else:
                    table.add_row(*history_cells(event))
        if not as_json:
            print_table(table)

    vector_writes.register(group)
