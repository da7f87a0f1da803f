"""`aindusdb collections reembed` and `reembedding`: to another embedding model, and how far that is."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from aindusdb.client import Client, Reembedding
from aindusdb.commands.collection_options import NameArgument
from aindusdb.commands.options import TOKEN_PATIENCE_MS, IfVersionOption
from aindusdb.commands.output import CommandRefusedError, JsonOption, UrlOption, print_json, refusals, say, service_url
from aindusdb.commands.reembedding_display import ReembeddingDisplay, blocked_text, model_text, show_reembedding

WATCH_INTERVAL_SECONDS = 1.0


def register(group: typer.Typer) -> None:
    @group.command()
    def reembed(
        name: NameArgument,
        model: Annotated[
            str | None, typer.Option(help="The model that it is to have; the one before takes a move back.")
        ] = None,
        no_model: Annotated[
            bool, typer.Option("--no-model", help="Back to embeddings that clients bring and that name no model.")
        ] = False,
        dimension: Annotated[
            int | None, typer.Option(help="Refuse the model if it has not so many numbers in an embedding.")
        ] = None,
        if_version: IfVersionOption = None,
        watch: Annotated[bool, typer.Option("--watch", help="Show how far it is, and return when it is over.")] = False,
        url: UrlOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Move a collection to another embedding model. Every content is embedded anew, then the tables are made anew;
        searches and writes go on meanwhile. Run again with --watch, it shows how far a move is that has begun."""
        if (model is None) is not no_model:
            raise typer.BadParameter("name the model, or --no-model, and not both", param_hint="--model")
        with refusals(), Client(service_url(url)) as client:
            moving = client.update_collection(name, model=model, dimension=dimension, if_version=if_version)
            found = _watched(client, name, model, moving.consistency_token) if watch else client.reembedding(name)
        if as_json:
            print_json(found.model_dump(mode="json"))
        elif found.state == "none":
            typer.echo(f"{name} has {model_text(found)}")
        else:
            typer.echo(f"{name} moves to {model_text(found)}")
            say(f"How far that is: aindusdb collections reembedding {name}")

    @group.command("reembedding")
    def show(name: NameArgument, url: UrlOption = None, as_json: JsonOption = False) -> None:
        """Show how far a collection's move to another embedding model is, and what holds it up."""
        with refusals(), Client(service_url(url)) as client:
            found = client.reembedding(name)
        if as_json:
            print_json(found.model_dump(mode="json"))
        else:
            show_reembedding(found)


def _watched(client: Client, name: str, model: str | None, token: str) -> Reembedding:
    """Once the move is over.

    Raises:
        CommandRefusedError: it is held up until somebody does something, or it goes elsewhere by now.
    """
    with ReembeddingDisplay(name) as display:
        while True:
            found = client.reembedding(name)
            if found.model != model:
                raise CommandRefusedError(f"{name} moves elsewhere by now: to {model_text(found)}")
            if found.state == "none":
                return found
            if found.state == "blocked":
                raise CommandRefusedError(blocked_text(name, found))
            change = client.collection(name, token=token, timeout_ms=TOKEN_PATIENCE_MS).change
            if found.state == "building" and change is not None and change.state == "failed":
                raise CommandRefusedError(
                    f"The tables of {name} could not be made with the new embeddings, which is tried again by itself: "
                    f"{change.reason}"
                )
            display.show(found, change)
            time.sleep(WATCH_INTERVAL_SECONDS)
