"""`aindusdb relay`: how far the topic is filled, and filling it anew."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import asyncpg
import typer
from aiokafka.errors import KafkaError

from aindusdb.commands.output import CommandRefusedError, JsonOption, print_json, refusals
from command_service.relay_lease import RelayStatus, open_next_feed, read_relay_status
from shared.kafka.clients import opened_admin
from shared.kafka.settings import KafkaSettings
from shared.kafka.topic import delete_topic, partition_count
from shared.postgres import CONNECTION_LOST, connect_uncached
from shared.settings import settings_from_environment

AnswerT = TypeVar("AnswerT")

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would begin, and do nothing.")]

DataFolderOption = Annotated[
    Path, typer.Option("--data-dir", help="Where the local stack's data lie.", envvar="AINDUSDB_DATA_DIR")
]


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="The relay, which carries the event log to Kafka.", no_args_is_help=True)
    app.add_typer(group, name="relay")

    @group.command()
    def status(data_dir: DataFolderOption = Path(".aindusdb"), as_json: JsonOption = False) -> None:
        """Show who publishes, and how much of the log is published."""
        with refusals():
            found = _run(_read_status(_servers(data_dir)[0]))
        if as_json:
            print_json(found.as_json())
            return
        typer.echo(f"Feed {found.feed}, {len(found.partition_positions)} partitions, epoch {found.epoch}")
        typer.echo(f"Published by {found.holder}" if found.holder else "Nobody publishes at the moment")
        typer.echo(f"Log at {found.head:,}, published up to {found.position:,}: {found.backlog:,} events wait")

    @group.command()
    def reset(
        partitions: Annotated[
            int | None, typer.Option(min=1, max=1000, help="Another number of partitions; the topic is made anew.")
        ] = None,
        new_topic: Annotated[
            bool, typer.Option("--new-topic", help="Make the topic anew, without whatever is in it now.")
        ] = False,
        dry_run: DryRunOption = False,
        data_dir: DataFolderOption = Path(".aindusdb"),
        as_json: JsonOption = False,
    ) -> None:
        """Begin a new feed, in the topic as it is or a new one, with what is not published yet.

        Nothing is lost or applied twice: projectors read from the log what a topic does not hold.
        """
        _begin(data_dir, _Wanted(None, partitions, new_topic, dry_run), as_json)

    @group.command()
    def republish(
        from_position: Annotated[
            int, typer.Option("--from", min=1, help="The first position that is published again; 1 is everything.")
        ],
        dry_run: DryRunOption = False,
        data_dir: DataFolderOption = Path(".aindusdb"),
        as_json: JsonOption = False,
    ) -> None:
        """Publish again what the log holds from a position on, for other readers of the topic.

        It begins a new feed, in the topic as it is: what is in it stays there, and comes once more. Projectors need it
        never, and apply nothing twice.
        """
        _begin(data_dir, _Wanted(from_position, None, False, dry_run), as_json)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """`from_position` None: from where the current feed is. `partitions` None: as many as it has."""

    from_position: int | None
    partitions: int | None
    new_topic: bool
    dry_run: bool


@dataclass(frozen=True, slots=True)
class _NextFeed:
    """What begins, or would: `events` of the log from `from_position` on are published in it."""

    feed: int
    partitions: int
    from_position: int
    events: int
    topic: str
    new_topic: bool
    dry_run: bool


def _begin(data_dir: Path, wanted: _Wanted, as_json: bool) -> None:
    with refusals():
        next_feed = _run(_open(*_servers(data_dir), wanted))
    if as_json:
        print_json(asdict(next_feed))
        return
    begins = "would begin" if wanted.dry_run else "begins"
    topic = f"topic {next_feed.topic}, {'made anew' if next_feed.new_topic else 'as it is'}"
    typer.echo(
        f"Feed {next_feed.feed} {begins}: {next_feed.events:,} events from position {next_feed.from_position:,} on, "
        f"in {next_feed.partitions} partitions of the {topic}"
    )
    if not wanted.dry_run:
        typer.echo("Relays and projectors go over to it by themselves")


def _servers(data_dir: Path) -> tuple[str, KafkaSettings]:
    """The event database's address, and how to reach Kafka; without a bootstrap address if there is none."""
    kafka = settings_from_environment(KafkaSettings)
    if named := os.environ.get("AINDUSDB_EVENTS_DSN"):
        return named, kafka
    from aindusdb.local_stack.connection import local_relay

    local = local_relay(data_dir.absolute())
    if local is None:
        raise CommandRefusedError(
            f"No stack runs on {data_dir}; start one with `aindusdb up --kafka`, or name the servers in "
            "AINDUSDB_EVENTS_DSN and AINDUSDB_KAFKA_BOOTSTRAP."
        )
    dsn, bootstrap = local
    return dsn, kafka.model_copy(update={"kafka_bootstrap": bootstrap})


def _run(command: Coroutine[Any, Any, AnswerT]) -> AnswerT:
    try:
        return asyncio.run(command)
    except LookupError as error:
        raise CommandRefusedError(f"{error.args[0]}.") from error
    except KafkaError as error:
        raise CommandRefusedError(f"Kafka cannot be reached: {error}") from error
    except (*CONNECTION_LOST, asyncpg.PostgresError, ValueError) as error:
        reason = str(error) or type(error).__name__
        raise CommandRefusedError(f"The event database cannot be used: {reason}") from error


async def _read_status(dsn: str) -> RelayStatus:
    connection = await connect_uncached(dsn)
    try:
        found = await read_relay_status(connection)
    finally:
        await connection.close(timeout=5)
    if found is None:
        raise LookupError("No relay has opened a feed yet; a relay does with AINDUSDB_KAFKA_BOOTSTRAP")
    return found


async def _open(dsn: str, kafka: KafkaSettings, wanted: _Wanted) -> _NextFeed:
    if not kafka.kafka_bootstrap:
        raise CommandRefusedError("Name Kafka in AINDUSDB_KAFKA_BOOTSTRAP, or start the stack with --kafka.")
    current = await _read_status(dsn)
    partitions = wanted.partitions or len(current.partition_positions)
    # After a restore the log may end before what was published of it.
    after = min(current.position, current.head) if wanted.from_position is None else wanted.from_position - 1
    if after > current.head:
        raise CommandRefusedError(f"The log ends at position {current.head:,}; there is nothing from {after + 1:,} on.")
    async with opened_admin(kafka) as admin:
        there = await partition_count(admin, kafka.kafka_topic)
        new_topic = not there or wanted.new_topic or there != partitions
        feed = current.feed + 1
        if not wanted.dry_run:
            connection = await connect_uncached(dsn)
            try:
                # First: a relay of the old feed would make the topic again as it was.
                feed = await open_next_feed(connection, partitions, after)
            finally:
                await connection.close(timeout=5)
            if there and new_topic:
                await delete_topic(admin, kafka.kafka_topic)
    return _NextFeed(feed, partitions, after + 1, current.head - after, kafka.kafka_topic, new_topic, wanted.dry_run)
