"""`aindusdb verify`: the read model held against the event log, and put right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from aindusdb.commands.databases import DIFFERENT_EXIT_CODE, awaited
from aindusdb.commands.output import JsonOption, print_json, printable, refusals, say
from aindusdb.commands.projector_settings import DataFolderOption, TenantOption, projector_settings
from aindusdb.commands.replay_display import ReplayDisplay
from projector.collection_check import CollectionCheck, CollectionReport, GenerationReport
from projector.event_log import EventLog
from projector.replay_session import opened_beside, opened_session
from projector.replay_targets import Target, read_all_targets, read_targets
from projector.replays import Checks, Doing, said_of
from projector.settings import ProjectorSettings
from shared.event_log import Gaps
from shared.postgres import Connection

SHOWN_EXAMPLES = 5


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
            settings = projector_settings(data_dir)
            gaps, reports = awaited(_verify(settings, tenant, collection or (), checks, repair))
        ok = not gaps.missing and all(report.is_well for report in reports)
        if as_json:
            log = {"missing_positions": gaps.missing, "first_missing": gaps.first}
            print_json({"ok": ok, "log": log, "collections": [report.as_json() for report in reports]})
        else:
            _print(gaps, reports)
        raise typer.Exit(0 if ok else DIFFERENT_EXIT_CODE)


async def _verify(
    settings: ProjectorSettings, tenant: str, names: Sequence[str], checks: Checks, repair: bool
) -> tuple[Gaps, list[CollectionReport]]:
    async with opened_beside(settings) as (connection, log):
        head = await log.head()
        gaps = await log.gaps(head.position, settings.index_timeout_seconds)
        targets = await read_targets(connection, tenant, names) if names else await read_all_targets(connection)
        reports = []
        with ReplayDisplay() as display:
            for target in targets:
                if not repair:
                    reports.append(await _check(connection, log, settings, target, checks, display, repair=False))
                    continue
                async with opened_session(settings, target) as own:
                    found = await _check(own.connection, own.log, settings, target, checks, display, repair=True)
                    reports.append(found)
    return gaps, reports


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


def _print(gaps: Gaps, reports: Sequence[CollectionReport]) -> None:
    if gaps.missing:
        say(f"The log lacks {gaps.missing:,} positions, first {gaps.first:,}: compare it with a backup.")
    for report in reports:
        name = printable(report.target.name)
        for fault in report.faults:
            typer.echo(f"{name}: {fault.kind}: {fault.detail}")
        for one in report.generations:
            typer.echo(f"{name}: generation {one.compared.generation}, {one.compared.state}: {_said_of(one)}")
            for vector_id, kind in one.compared.examples[:SHOWN_EXAMPLES]:
                typer.echo(f"    {printable(vector_id)}: {kind}")
    if not reports:
        typer.echo("There are no collections")


def _said_of(report: GenerationReport) -> str:
    return said_of(report.as_json()) + (f", {report.repaired:,} projected anew" if report.repaired else "")
