"""`aindusdb events`: `tail` reads the event log from its database, `feed` follows the change feed over HTTP."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Annotated
from uuid import UUID

import asyncpg
import typer

from aindusdb.client import Client, RetryPolicy
from aindusdb.commands import parked
from aindusdb.commands.event_filters import EventFilter, before_last, matching_events
from aindusdb.commands.event_lines import as_json, as_line, feed_line
from aindusdb.commands.output import CommandRefusedError, JsonOption, UrlOption, print_json, refusals, service_url
from events_schema.base import RecordedEvent
from shared.event_log import APPEND_CHANNEL, LogCorruptionError
from shared.postgres import CONNECTION_LOST, Connection, connect_uncached, is_pooled

DEFAULT_COUNT = 20
FEED_PATIENCE = RetryPolicy(patience_seconds=120.0)
POLL_INTERVAL_SECONDS = 1.0
"""A notification wakes the reader at once; polling covers those that are lost."""


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Look at the event log.", no_args_is_help=True)
    app.add_typer(group, name="events")
    parked.register(group)

    @group.command()
    def tail(
        after: Annotated[int | None, typer.Option(min=0, help="Begin behind this position.")] = None,
        limit: Annotated[int | None, typer.Option(min=1, help="Show at most so many events.")] = None,
        follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new events until Ctrl-C.")] = False,
        collection_id: Annotated[UUID | None, typer.Option(help="Only events of the collection with this id.")] = None,
        event_type: Annotated[str | None, typer.Option("--type", help="Only events of this type.")] = None,
        data_dir: Annotated[
            Path, typer.Option("--data-dir", help="Where the local stack's data lie.", envvar="AINDUSDB_DATA_DIR")
        ] = Path(".aindusdb"),
        as_json: JsonOption = False,
    ) -> None:
        """Show the last events of the log (--limit says how many), or those behind --after (at most --limit)."""
        tailing = _Tail(EventFilter(collection_id, event_type), after, limit, follow, as_json)
        with refusals(), suppress(KeyboardInterrupt):
            asyncio.run(tailing.run(events_dsn(data_dir.absolute())))

    @group.command()
    def feed(
        after: Annotated[
            str | None, typer.Option(help="Begin behind this position, or behind this message; by default now.")
        ] = None,
        limit: Annotated[int | None, typer.Option(min=1, help="End after so many events.")] = None,
        collection: Annotated[str | None, typer.Option(help="Only events of the collection of this name.")] = None,
        collection_id: Annotated[UUID | None, typer.Option(help="Only events of the collection with this id.")] = None,
        event_type: Annotated[
            list[str] | None, typer.Option("--type", help="Only events of this type; may be given several times.")
        ] = None,
        url: UrlOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Follow the change feed until Ctrl-C. Broken connections are made anew; no event is left out or doubled."""
        with refusals(), suppress(KeyboardInterrupt), Client(service_url(url), retries=FEED_PATIENCE) as client:
            events = client.events(
                after=after,
                collection=collection,
                collection_id=None if collection_id is None else str(collection_id),
                types=event_type or (),
            )
            for event in islice(events, limit):
                if as_json:
                    print_json(event.model_dump(mode="json"))
                else:
                    typer.echo(feed_line(event))


def events_dsn(data_dir: Path) -> str:
    """The event database's address: the environment's, direct if it names one, else that of the stack which runs on
    this folder.

    Raises:
        CommandRefusedError: neither is there.
    """
    named = os.environ.get("AINDUSDB_EVENTS_LISTEN_DSN") or os.environ.get("AINDUSDB_EVENTS_DSN")
    if named:
        return named
    # Imported late: the local stack is an extra, and with an address in the environment it is not needed.
    from aindusdb.local_stack.connection import local_events_dsn

    local = local_events_dsn(data_dir)
    if local is None:
        raise CommandRefusedError(
            f"No stack runs on {data_dir}; start one with `aindusdb up`, or name the event database in "
            "AINDUSDB_EVENTS_DSN."
        )
    return local


class _Tail:
    def __init__(
        self, wanted: EventFilter, after: int | None, limit: int | None, follow: bool, machine_readable: bool
    ) -> None:
        self._wanted = wanted
        self._after = after
        self._limit = limit
        self._follow = follow
        self._machine_readable = machine_readable

    async def run(self, dsn: str) -> None:
        try:
            connection = await connect_uncached(dsn)
            try:
                await self._show(connection)
            finally:
                await connection.close(timeout=5)
        except LogCorruptionError as error:
            raise CommandRefusedError(str(error)) from error
        except BrokenPipeError:
            raise  # Whoever reads the output has seen enough.
        except (*CONNECTION_LOST, asyncpg.PostgresError, ValueError) as error:
            reason = str(error) or type(error).__name__
            raise CommandRefusedError(f"The event database cannot be read: {reason}") from error

    async def _show(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        woken = asyncio.Event()
        if self._follow and not await is_pooled(connection):
            # Before the first read, so that no event falls between the two.
            await connection.add_listener(APPEND_CHANNEL, lambda *_: woken.set())
        at = await self._show_present(connection)
        while self._follow and at is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(woken.wait(), POLL_INTERVAL_SECONDS)
            woken.clear()
            async for reached, events in matching_events(connection, self._wanted, at):
                at = reached
                self._print(events)

    async def _show_present(self, connection: Connection) -> int | None:
        """Returns the position up to which the log has been shown; None when --limit has ended the showing."""
        if self._after is None:
            left = None
            at = await before_last(connection, self._wanted, self._limit or DEFAULT_COUNT)
        else:
            left, at = self._limit, self._after
        async for reached, events in matching_events(connection, self._wanted, at):
            self._print(events if left is None else events[:left])
            at = reached
            if left is not None:
                left -= len(events)
                if left <= 0:
                    return None
        return at

    def _print(self, events: list[RecordedEvent]) -> None:
        for event in events:
            if self._machine_readable:
                print_json(as_json(event))
            else:
                typer.echo(as_line(event))
