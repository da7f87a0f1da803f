"""`aindusdb aliases`: list, show, set, remove."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aindusdb.client import Alias, Client
from aindusdb.commands.options import TOKEN_PATIENCE_MS, IfVersionOption, TokenOption
from aindusdb.commands.output import JsonOption, UrlOption, print_json, refusals, service_url

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The alias's name.")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Other names of collections: list, show, set and remove them.", no_args_is_help=True)
    app.add_typer(group, name="aliases")

    @group.command("list")
    def list_all(
        collection: Annotated[str | None, typer.Option(help="Only aliases of the collection with this name.")] = None,
        token: TokenOption = None,
        url: UrlOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """List all aliases."""
        with refusals(), Client(service_url(url)) as client:
            found = list(client.aliases(collection=collection, token=token, timeout_ms=TOKEN_PATIENCE_MS))
        if as_json:
            print_json([alias.model_dump(mode="json") for alias in found])
        elif found:
            _print_table(found)
        else:
            typer.echo("There are no aliases.")

    @group.command()
    def show(name: NameArgument, token: TokenOption = None, url: UrlOption = None, as_json: JsonOption = False) -> None:
        """Show what an alias stands for."""
        with refusals(), Client(service_url(url)) as client:
            found = client.alias(name, token=token, timeout_ms=TOKEN_PATIENCE_MS)
        if as_json:
            print_json(found.model_dump(mode="json"))
        else:
            _print_table([found])

    @group.command("set")
    def set_(
        name: NameArgument,
        collection: Annotated[str, typer.Option(help="The collection that it is to stand for, by its own name.")],
        if_version: IfVersionOption = None,
        url: UrlOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Let an alias stand for a collection, from one read to the next, whatever it stood for before."""
        with refusals(), Client(service_url(url)) as client:
            written = client.set_alias(name, collection, if_version=if_version)
        if as_json:
            print_json(written.model_dump(mode="json"))
        else:
            typer.echo(f"{name} stands for {written.collection}")

    @group.command()
    def remove(
        name: NameArgument, if_version: IfVersionOption = None, url: UrlOption = None, as_json: JsonOption = False
    ) -> None:
        """Remove an alias. The collection stays."""
        with refusals(), Client(service_url(url)) as client:
            written = client.remove_alias(name, if_version=if_version)
        if as_json:
            print_json(written.model_dump(mode="json"))
        else:
            typer.echo(f"Removed {name}; {written.collection} stays")


def _print_table(aliases: list[Alias]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("alias", "collection", "version", "updated"):
        table.add_column(column, no_wrap=True, justify="right" if column == "version" else "left")
    for one in aliases:
        table.add_row(
            Text(one.name), Text(one.collection), str(one.version), one.updated_at.isoformat(timespec="seconds")
        )
    Console(highlight=False).print(table)
