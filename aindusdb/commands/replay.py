"""`aindusdb replay`: collections folded anew from the event log, beside those that are searched, and switched to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Annotated, Any

import typer
from rich.table import Table

from aindusdb.commands import replay_anew
from aindusdb.commands.databases import awaited
from aindusdb.commands.output import JsonOption, print_json, print_table, printable, refusals, say
from aindusdb.commands.projector_settings import DataFolderOption, TenantOption, projector_settings
from aindusdb.commands.replay_display import ReplayDisplay
from aindusdb.commands.replay_run import (
    Outcome,
    ReplayOptions,
    Work,
    build_one,
    described,
    described_active,
    for_each,
    replay_one,
)
from aindusdb.commands.times import parsed_time
from projector import rebuild, replays
from projector.generations import read_generations
from projector.replay_plan import Plan, plan
from projector.replay_session import is_claimed, opened_beside
from projector.replay_targets import (
    Target,
    expect_position,
    position_at,
    read_all_targets,
    read_targets,
)
from projector.replays import Checks, Replaying
from projector.settings import ProjectorSettings
from projector.snapshots import Wanted
from shared.postgres import Connection

_SECONDS_A_DAY = 86_400

CollectionsOption = Annotated[
    list[str] | None, typer.Option("--collection", help="Name, alias or id of a collection; may be repeated.")
]
AllOption = Annotated[bool, typer.Option("--all", help="Every collection of every tenant.")]
CollectionOption = Annotated[str, typer.Option("--collection", help="Name, alias or id of the collection.")]
GenerationOption = Annotated[int | None, typer.Option(min=1, help="Which one, where several could be meant.")]
UntilPositionOption = Annotated[
    int | None, typer.Option(min=1, help="A snapshot: fold up to this position and no further; not promoted.")
]
UntilTimeOption = Annotated[str | None, typer.Option(help="The same up to a time, ISO 8601; without offset it is UTC.")]
NameOption = Annotated[str | None, typer.Option("--name", help="What the snapshot is called; by default position-<n>.")]
KeepDaysOption = Annotated[
    float | None, typer.Option(help="How many days from now on the snapshot is kept; by default 7.")
]
WorkersOption = Annotated[int, typer.Option(min=1, max=16, help="How many collections at a time.")]
PaceOption = Annotated[
    float | None, typer.Option(min=0.1, help="Fold so many events a second at most, of all collections together.")
]
SampleOption = Annotated[
    int | None, typer.Option(min=1, max=10_000, help="Check so many vectors, and count all; by default every one.")
]
RecallOption = Annotated[
    float, typer.Option("--min-recall", min=0.0, max=1.0, help="The least recall@10 of the index.")
]
CheckAgainSampleOption = Annotated[
    int | None,
    typer.Option("--sample", min=1, max=10_000, help="With --catch-up: check so many vectors; by default every one."),
]
CheckAgainRecallOption = Annotated[
    float | None,
    typer.Option(
        "--min-recall",
        min=0.0,
        max=1.0,
        help=f"With --catch-up: the least recall@10; by default {Checks().min_recall}.",
    ),
]
KeepOption = Annotated[
    bool, typer.Option("--keep-old/--drop-old", help="Go on writing the generation before, as the way back.")
]


@dataclass(frozen=True, slots=True)
class _Past:
    """A snapshot, as the command line names it."""

    position: int | None
    time: str | None
    name: str | None
    keep_days: float | None


@dataclass(frozen=True, slots=True)
class _Asked:
    """Which collections, and where their databases are."""

    names: Sequence[str]
    all: bool
    tenant: str
    data_dir: Path
    as_json: bool


def register(app: typer.Typer) -> None:
    group = typer.Typer(
        help="Fold collections anew from the event log, and switch to what was folded, while searches go on.",
        invoke_without_command=True,
        no_args_is_help=True,
    )
    app.add_typer(group, name="replay")

    @group.callback()
    def replay(
        context: typer.Context,
        collection: CollectionsOption = None,
        every: AllOption = False,
        until_position: UntilPositionOption = None,
        until_time: UntilTimeOption = None,
        name: NameOption = None,
        keep_days: KeepDaysOption = None,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would take, and do nothing.")] = False,
        workers: WorkersOption = 1,
        max_events_per_second: PaceOption = None,
        sample: SampleOption = None,
        min_recall: RecallOption = 0.8,
        keep_old: KeepOption = True,
        force: Annotated[bool, typer.Option("--force", help="Promote it whatever its checks have found.")] = False,
        tenant: TenantOption = "default",
        data_dir: DataFolderOption = Path(".aindusdb"),
        as_json: JsonOption = False,
    ) -> None:
        """Build, check and promote a new generation of each collection. Killed, the same command goes on."""
        if context.invoked_subcommand is not None:
            _expect_no_options(context)
            return
        asked = _Asked(collection or (), every, tenant, data_dir, as_json)
        past = _Past(until_position, until_time, name, keep_days)
        checks = Checks(sample=sample, min_recall=min_recall)

        async def run(settings: ProjectorSettings, targets: Sequence[Target]) -> None:
            wanted = await _wanted(settings, past, targets)
            if dry_run:
                _show_plans(await _plans(settings, targets, wanted, max_events_per_second), as_json)
                return
            options = ReplayOptions(wanted, checks, keep_old, force)

            async def work(replaying: Replaying) -> dict[str, Any]:
                return await replay_one(replaying, options)

            await _do(settings, targets, work, as_json, workers=workers, max_events_per_second=max_events_per_second)

        _run(asked, run)

    replay_anew.register(group)

    @group.command()
    def build(
        collection: CollectionsOption = None,
        every: AllOption = False,
        until_position: UntilPositionOption = None,
        until_time: UntilTimeOption = None,
        name: NameOption = None,
        keep_days: KeepDaysOption = None,
        workers: WorkersOption = 1,
        max_events_per_second: PaceOption = None,
        tenant: TenantOption = "default",
        data_dir: DataFolderOption = Path(".aindusdb"),
        as_json: JsonOption = False,
    ) -> None:
        """Only make the new generation: fold the log, make the indexes."""

        past = _Past(until_position, until_time, name, keep_days)

        async def run(settings: ProjectorSettings, targets: Sequence[Target]) -> None:
            wanted = await _wanted(settings, past, targets)

            async def work(replaying: Replaying) -> dict[str, Any]:
                return described(await build_one(replaying, wanted))

            await _do(settings, targets, work, as_json, workers=workers, max_events_per_second=max_events_per_second)

        _run(_Asked(collection or (), every, tenant, data_dir, as_json), run)

    @group.command()
    def verify(
        collection: CollectionOption,
        generation: GenerationOption = None,
        sample: SampleOption = None,
        min_recall: RecallOption = 0.8,
        tenant: TenantOption = "default",
        data_dir: DataFolderOption = Path(".aindusdb"),
        as_json: JsonOption = False,
    ) -> None:
        """Check a generation that was built against the log. Exit code 3: it is not the same."""

        async def work(replaying: Replaying) -> dict[str, Any]:
            there = await replays.generations_of(replaying.session)
            found = replays.chosen(there, generation, ("ready",), "verified")
            found = await replays.check(replaying, found, Checks(sample=sample, min_recall=min_recall))
            replays.expect_checked(found)
            return described(found)

        _run_one(_Asked([collection], False, tenant, data_dir, as_json), work)

    @group.command()
    def promote(
        collection: CollectionOption,
        generation: GenerationOption = None,
        catch_up: Annotated[
            bool,
            typer.Option("--catch-up", help="First fold it on to the present and check it again; no snapshot then."),
        ] = False,
        force: Annotated[bool, typer.Option("--force", help="Whatever its checks have found.")] = False,
        sample: CheckAgainSampleOption = None,
        min_recall: CheckAgainRecallOption = None,
        keep_old: KeepOption = True,
        tenant: TenantOption = "default",
        data_dir: DataFolderOption = Path(".aindusdb"),
        as_json: JsonOption = False,
    ) -> None:
        """Have searches read a generation that was built and checked, from one moment to the next."""

        checks = _checked_again(sample, min_recall, catch_up=catch_up, force=force)

        async def work(replaying: Replaying) -> dict[str, Any]:
            there = await replays.generations_of(replaying.session)
            found = replays.chosen(there, generation, ("ready",), "promoted")
            await replays.expect_wanted(replaying.session, found, force=force)
            if catch_up:
                found = await replays.bring_to_present(replaying, found, checks)
            pause = await replays.promote(replaying, found, keep_old=keep_old, force=force)
            return await described_active(replaying, pause)

        _run_one(_Asked([collection], False, tenant, data_dir, as_json), work)

    @group.command()
    def rollback(
        collection: CollectionOption,
        tenant: TenantOption = "default",
        data_dir: DataFolderOption = Path(".aindusdb"),
        as_json: JsonOption = False,
    ) -> None:
        """Have searches read the generation before again, at once. It is as current as the other one."""

        async def work(replaying: Replaying) -> dict[str, Any]:
            there = await replays.generations_of(replaying.session)
            found = replays.chosen(there, None, ("kept",), "gone back to")
            pause = await rebuild.promote(replaying.steps(), found, keep_old=True)
            return await described_active(replaying, pause)

        _run_one(_Asked([collection], False, tenant, data_dir, as_json), work)

    @group.command()
    def discard(
        collection: CollectionOption,
        generation: GenerationOption = None,
        tenant: TenantOption = "default",
        data_dir: DataFolderOption = Path(".aindusdb"),
        as_json: JsonOption = False,
    ) -> None:
        """Drop a generation that searches do not read."""

        async def work(replaying: Replaying) -> dict[str, Any]:
            session = replaying.session
            there = await replays.generations_of(session)
            found = replays.chosen(there, generation, ("building", "ready", "kept", "stale"), "discarded")
            await rebuild.discard(session.connection, found.collection_id, found.number)
            return {"generation": found.number, "state": "discarded"}

        _run_one(_Asked([collection], False, tenant, data_dir, as_json), work)

    @group.command()
    def status(
        collection: CollectionsOption = None,
        tenant: TenantOption = "default",
        data_dir: DataFolderOption = Path(".aindusdb"),
        as_json: JsonOption = False,
    ) -> None:
        """Show the generations of the collections, by default of all."""
        names = collection or ()

        async def run(settings: ProjectorSettings, targets: Sequence[Target]) -> None:
            async with opened_beside(settings) as (connection, log):
                shown = [await _status(connection, target) for target in targets]
                head = (await log.head()).position
            if as_json:
                print_json({"head": head, "collections": shown})
            else:
                _print_status(shown, head)

        _run(_Asked(names, not names, tenant, data_dir, as_json), run)


def _expect_no_options(context: typer.Context) -> None:
    """Those of a replay say nothing to the command that follows; `--dry-run` above all would be a promise not kept.

    Raises:
        typer.BadParameter
    """
    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}
    options = [parameter.opts[0] for parameter in context.command.params if parameter.name in given]
    if options:
        raise typer.BadParameter(
            f"{', '.join(options)} stands before the command {context.invoked_subcommand!r} and says nothing to it; "
            "what it knows stands behind it"
        )


def _checked_again(sample: int | None, min_recall: float | None, *, catch_up: bool, force: bool) -> Checks | None:
    """How a generation is checked before it is promoted; None: not again.

    Raises:
        typer.BadParameter: it is said how, and nothing is checked.
    """
    if catch_up and not force:
        return Checks(sample=sample, min_recall=Checks().min_recall if min_recall is None else min_recall)
    if sample is not None or min_recall is not None:
        why = "with --force" if force else "without --catch-up"
        raise typer.BadParameter(
            f"--sample and --min-recall say how it is checked, and {why} it is not; `aindusdb replay verify` checks it"
        )
    return None


def _run(asked: _Asked, run: Any) -> None:
    """`run(settings, targets)`, with every foreseen error as one sentence."""
    if bool(asked.names) == asked.all:
        raise typer.BadParameter("name collections with --collection, or all of them with --all")

    async def with_targets() -> None:
        settings = projector_settings(asked.data_dir)
        async with opened_beside(settings) as (connection, _log):
            if asked.all:
                targets = await read_all_targets(connection)
            else:
                targets = await read_targets(connection, asked.tenant, asked.names)
        await run(settings, targets)

    with refusals():
        awaited(with_targets())


def _run_one(asked: _Asked, work: Work) -> None:
    async def run(settings: ProjectorSettings, targets: Sequence[Target]) -> None:
        await _do(settings, targets, work, asked.as_json)

    _run(asked, run)


async def _wanted(settings: ProjectorSettings, past: _Past, targets: Sequence[Target]) -> Wanted | None:
    """The snapshot to make, of a position that every collection has; None: none is named.

    Raises:
        typer.BadParameter, CommandRefusedError, TargetRefusedError
    """
    position, time = past.position, past.time
    if position is None and time is None:
        if past.name is not None or past.keep_days is not None:
            raise typer.BadParameter("--name and --keep-days are for snapshots: --until-position or --until-time")
        return None
    if position is not None and time is not None:
        raise typer.BadParameter("--until-position and --until-time name the same thing; choose one of them")
    async with opened_beside(settings) as (_connection, log):
        if time is not None:
            position = await position_at(log, parsed_time("--until-time", time))
        assert position is not None
        for target in targets:
            await expect_position(log, position, target)
    return Wanted(position, past.name, None if past.keep_days is None else past.keep_days * _SECONDS_A_DAY)


async def _do(
    settings: ProjectorSettings,
    targets: Sequence[Target],
    work: Work,
    as_json: bool,
    *,
    workers: int = 1,
    max_events_per_second: float | None = None,
) -> None:
    """Does the work, says what became of it, and ends with the exit code."""
    began = monotonic()
    pace = max_events_per_second / min(workers, max(1, len(targets))) if max_events_per_second else None
    with ReplayDisplay() as display:
        outcomes = await for_each(settings, targets, work, display, workers=workers, max_events_per_second=pace)
    exit_code = max((outcome.exit_code for outcome in outcomes), default=0)
    if as_json:
        done = [outcome.as_json() for outcome in outcomes]
        print_json({"ok": exit_code == 0, "seconds": round(monotonic() - began, 3), "collections": done})
    for outcome in outcomes:
        if outcome.fault is not None:
            say(f"{outcome.target.name}: {outcome.fault}")
        elif not as_json:
            _print_outcome(outcome)
    if not targets and not as_json:
        typer.echo("There are no collections")
    raise typer.Exit(exit_code)


def _print_outcome(outcome: Outcome) -> None:
    answer = outcome.answer
    parts = [f"generation {answer['generation']} is {answer['state']}"]
    if answer.get("until_position") is not None:
        parts.append(f"snapshot {answer['snapshot']!r} of position {answer['until_position']:,}")
        parts.append(f"kept until {answer['expires_at']}")
    if answer["events"]:
        parts.append(f"{answer['events']:,} events folded, {answer['events_per_second']:,} a second")
    if answer.get("checks"):
        parts.append(replays.said_of(answer["checks"]))
    if "pause_seconds" in answer:
        parts.append(f"the projection stood still for {answer['pause_seconds'] * 1000:,.0f} ms")
    typer.echo(f"{printable(outcome.target.name)}: {'; '.join(parts)} ({outcome.seconds:.1f} s)")


async def _plans(
    settings: ProjectorSettings, targets: Sequence[Target], wanted: Wanted | None, pace: float | None
) -> list[Plan]:
    async with opened_beside(settings) as (connection, log):
        to = wanted.position if wanted is not None else (await log.head()).position
        return [await plan(connection, log, settings, target, to, pace) for target in targets]


def _show_plans(plans: Sequence[Plan], as_json: bool) -> None:
    if as_json:
        shown = [{**asdict(one), "collection_id": str(one.collection_id)} for one in plans]
        total = {name: sum(getattr(one, name) for one in plans) for name in ("events", "log_bytes", "table_bytes")}
        seconds = round(sum(one.seconds for one in plans), 1)
        print_json({"dry_run": True, "collections": shown, **total, "seconds": seconds})
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("collection", no_wrap=True)
    for column in ("up to", "events", "log", "vectors", "tables", "about"):
        table.add_column(column, justify="right", no_wrap=True)
    for one in plans:
        table.add_row(
            printable(one.name), f"{one.until_position:,}", f"{one.events:,}", _megabytes(one.log_bytes),
            f"{one.vectors:,}", _megabytes(one.table_bytes), f"{one.seconds:,.0f} s",
        )  # fmt: skip
    print_table(table)


def _megabytes(size: int) -> str:
    return f"{size / 1_000_000:,.1f} MB"


async def _status(connection: Connection, target: Target) -> dict[str, Any]:
    return {
        "collection": target.name,
        "collection_id": str(target.collection_id),
        "tenant": target.tenant,
        "worked_on": await is_claimed(connection, target.collection_id),
        "generations": [described(one) for one in await read_generations(connection, target.collection_id)],
    }


def _print_status(shown: Sequence[dict[str, Any]], head: int) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("collection", "generation", "version", "state", "position", "index", "checks"):
        table.add_column(
            column, justify="right" if column in {"generation", "version", "position"} else "left", no_wrap=True
        )
    for one in shown:
        for generation in one["generations"]:
            position = generation["until_position"] or generation["position"]
            state = generation["state"] + (f" {generation['snapshot']}" if generation["snapshot"] else "")
            checks = generation["reason"] or (replays.said_of(generation["checks"]) if generation["checks"] else "")
            table.add_row(
                printable(one["collection"]) + (" (worked on)" if one["worked_on"] else ""),
                str(generation["generation"]), str(generation["projection_version"]), state,
                "" if position is None else f"{position:,}",
                f"{generation['index']}{'' if generation['indexed'] else ', not made'}", printable(checks),
            )  # fmt: skip
    print_table(table)
    typer.echo(f"Log at {head:,}")
