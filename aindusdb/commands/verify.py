"""`aindusdb verify`: the read model held against the event log, and put right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import asyncpg
import typer

from aindusdb.commands.databases import DIFFERENT_EXIT_CODE, awaited, exit_code_of, sentence_of
from aindusdb.commands.output import JsonOption, counted, print_json, printable, refusals, say
from aindusdb.commands.projector_settings import DataFolderOption, TenantOption, projector_settings
from aindusdb.commands.replay_display import ReplayDisplay
from projector.catalogue_check import CatalogueFault
from projector.census import AliasFault, Census, take_census
from projector.collection_check import CollectionCheck, CollectionReport, GenerationReport
from projector.errors import (
    GenerationGoneError,
    LayoutChangedError,
    UnknownProjectionVersionError,
    VerificationFailedError,
)
from projector.event_log import EventLog
from projector.generations import read_active
from projector.replay_session import CollectionBusyError, opened_beside, opened_session
from projector.replay_targets import Target, read_all_targets, read_targets
from projector.replays import Checks, Doing, said_of
from projector.settings import ProjectorSettings
from projector.unparking import count_parked
from shared.event_log import Gaps
from shared.postgres import CONNECTION_LOST, Connection

SHOWN_EXAMPLES = 5

_OF_ONE = (
    CollectionBusyError,
    LayoutChangedError,
    UnknownProjectionVersionError,
    VerificationFailedError,
    asyncpg.PostgresError,
)
"""What says nothing of the other collections."""

_TRIES = 3
"""A promotion drops the generation before the one before, which may be the one that is compared."""


def register(app: typer.Typer) -> None:
    @app.command()
    def verify(
        collection: Annotated[
            list[str] | None, typer.Option("--collection", help="Name, alias or id of a collection; by default all.")
        ] = None,
        sample: Annotated[
            int | None, typer.Option(min=1, max=10_000, help="Compare so many vectors, and count all.")
        ] = None,
        queries: Annotated[int, typer.Option(min=1, max=1_000, help="Searches that recall@10 is measured by.")] = 20,
        min_recall: Annotated[float, typer.Option(min=0.0, max=1.0, help="The least recall@10 of an index.")] = 0.8,
        repair: Annotated[bool, typer.Option("--repair", help="Project what differs anew, and only that.")] = False,
        tenant: TenantOption = "default",
        data_dir: DataFolderOption = Path(".aindusdb"),
        as_json: JsonOption = False,
    ) -> None:
        """Compare the read model with the event log while writes go on. Exit code 3: they differ."""
        if repair and sample is not None:
            raise typer.BadParameter(
                "what is repaired is compared as a whole; leave --sample out", param_hint="--repair"
            )
        checks = Checks(sample=sample, queries=queries, min_recall=min_recall)
        with refusals():
            found = awaited(_verify(projector_settings(data_dir), tenant, collection or (), checks, repair))
        if as_json:
            print_json(found.as_json())
        else:
            _print(found)
        raise typer.Exit(found.exit_code)


@dataclass(frozen=True, slots=True)
class _Verified:
    """`parked` events are no difference, but what they hold is not searched. `undone_exit_code` is that of collections
    which could not be looked at."""

    gaps: Gaps
    aliases: Sequence[AliasFault]
    parked: int
    reports: Sequence[CollectionReport]
    undone_exit_code: int

    @property
    def exit_code(self) -> int:
        differs = any(report.error is None and not report.is_well for report in self.reports)
        differs = differs or bool(self.gaps.missing or self.aliases)
        return max(DIFFERENT_EXIT_CODE if differs else 0, self.undone_exit_code)

    def as_json(self) -> dict[str, Any]:
        return {
            "ok": self.exit_code == 0,
            "log": {"missing_positions": self.gaps.missing, "first_missing": self.gaps.first},
            "collections": [report.as_json() for report in self.reports],
            "aliases": [asdict(fault) for fault in self.aliases],
            "parked_events": self.parked,
        }


async def _verify(
    settings: ProjectorSettings, tenant: str, names: Sequence[str], checks: Checks, repair: bool
) -> _Verified:
    async with opened_beside(settings) as (connection, log):
        head = await log.head()
        gaps = await log.gaps(head.position, settings.index_timeout_seconds)
        census = await take_census(connection, log, settings.index_timeout_seconds)
        if names:
            census = census.of(tenant, names)
        targets = await _targets(connection, census, tenant, names)
        reports = [
            CollectionReport(one.collection_id, one.name, [CatalogueFault("collection", one.detail)])
            for one in census.collections
        ]
        undone = 0
        with ReplayDisplay() as display:
            for target in targets:
                report, exit_code = await _looked_at(connection, log, settings, target, checks, display, repair=repair)
                if report is not None:
                    reports.append(report)
                undone = max(undone, exit_code)
        return _Verified(gaps, census.aliases, await count_parked(connection), reports, undone)


async def _targets(connection: Connection, census: Census, tenant: str, names: Sequence[str]) -> list[Target]:
    """Those that both the log and the read model have."""
    astray = {one.collection_id for one in census.collections}
    if not names:
        return [target for target in await read_all_targets(connection) if target.collection_id not in astray]
    told = {name for one in census.collections for name in (one.name, str(one.collection_id))}
    told |= {fault.alias for fault in census.aliases}
    return await read_targets(connection, tenant, [name for name in names if name not in told])


async def _looked_at(
    connection: Connection,
    log: EventLog,
    settings: ProjectorSettings,
    target: Target,
    checks: Checks,
    display: ReplayDisplay,
    *,
    repair: bool,
) -> tuple[CollectionReport | None, int]:
    """What goes wrong with one collection keeps no other from being looked at; its exit code. None: it is deleted."""
    tries_left = _TRIES
    while True:
        try:
            if not repair:
                return await _check(connection, log, settings, target, checks, display, repair=False), 0
            async with opened_session(settings, target) as own:
                return await _check(own.connection, own.log, settings, target, checks, display, repair=True), 0
        except GenerationGoneError as error:
            tries_left -= 1
            if not await read_active(connection, [target.collection_id]):
                return None, 0
            if not tries_left:
                return _undone(target, error)
        except CONNECTION_LOST:
            raise
        except _OF_ONE as error:
            return _undone(target, error)


def _undone(target: Target, error: Exception) -> tuple[CollectionReport, int]:
    return CollectionReport(target.collection_id, target.name, error=sentence_of(error)), exit_code_of(error)


async def _check(
    connection: Connection,
    log: EventLog,
    settings: ProjectorSettings,
    target: Target,
    checks: Checks,
    display: ReplayDisplay,
    *,
    repair: bool,
) -> CollectionReport:
    def report(position: int, aimed_at: int) -> None:
        display.show(target.name, Doing("checking", position, aimed_at))

    try:
        return await CollectionCheck(connection, log, settings, target, checks, report).run(repair=repair)
    finally:
        display.done(target.name)


def _print(found: _Verified) -> None:
    if found.gaps.missing:
        say(f"The log lacks {found.gaps.missing:,} positions, first {found.gaps.first:,}: compare it with a backup.")
    for report in found.reports:
        name = printable(report.name)
        if report.error is not None:
            say(f"{report.name}: {report.error}")
        for fault in report.faults:
            typer.echo(f"{name}: {fault.kind}: {printable(fault.detail)}")
        for one in report.generations:
            typer.echo(f"{name}: generation {one.compared.generation}, {one.compared.state}: {_said_of(one)}")
            for vector_id, kind in one.compared.examples[:SHOWN_EXAMPLES]:
                typer.echo(f"    {printable(vector_id)}: {kind}")
    for astray in found.aliases:
        typer.echo(f"{printable(astray.alias)}: alias: {printable(astray.detail)}")
    if not found.reports:
        typer.echo("There are no collections")
    if found.parked:
        say(f"{counted(found.parked, 'event')} parked, and left out on both sides: `aindusdb events parked list`.")


def _said_of(report: GenerationReport) -> str:
    return said_of(report.as_json()) + (f", {report.repaired:,} projected anew" if report.repaired else "")
