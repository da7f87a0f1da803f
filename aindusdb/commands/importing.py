"""`aindusdb import`: a JSONL file into a collection, resumable, without duplicates."""

from __future__ import annotations

import hashlib
import stat
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn
from uuid import UUID

import typer

from aindusdb.client import Client, ClientError, DescribedCollection, ProblemError, RetryPolicy
from aindusdb.commands.import_batches import batches
from aindusdb.commands.import_display import ImportDisplay
from aindusdb.commands.import_lines import BadLine, LineRules, Operation, read_lines, read_operation
from aindusdb.commands.import_progress import SHOWN_BAD_LINES, ImportProgress, ProgressFile
from aindusdb.commands.import_rejects import Rejects
from aindusdb.commands.import_run import ImportRun, LinesRefusedError
from aindusdb.commands.output import (
    CommandRefusedError,
    JsonOption,
    UrlOption,
    print_json,
    refusals,
    say,
    service_url,
)

PATIENCE = RetryPolicy(patience_seconds=120.0)
INTERRUPTED_EXIT_CODE = 130


class OnError(StrEnum):
    STOP = "stop"
    SKIP = "skip"


def register(app: typer.Typer) -> None:
    @app.command("import")
    def import_file(
        file: Annotated[Path, typer.Argument(help="One {id?, embedding or content, metadata?} a line.")],
        collection: Annotated[str, typer.Option(help="The collection to write to.")],
        batch_size: Annotated[int, typer.Option(min=1, max=1000, help="Lines in a request.")] = 200,
        on_error: Annotated[
            OnError, typer.Option(help="stop: write nothing if a line is bad. skip: write the others.")
        ] = OnError.STOP,
        create: Annotated[bool, typer.Option("--create", help="Create the collection if it is missing.")] = False,
        dimension: Annotated[
            int | None, typer.Option(min=1, help="Of a collection that is created; by default the first line's.")
        ] = None,
        model: Annotated[
            str | None, typer.Option(help="Of a collection that is created; for texts by default the service's.")
        ] = None,
        restart: Annotated[bool, typer.Option("--restart", help="Begin anew, whatever was done before.")] = False,
        rejects: Annotated[Path | None, typer.Option(help="Where skipped lines are written.")] = None,
        url: UrlOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Import a JSONL file. After an interruption the same command goes on where it stopped."""
        started = time.monotonic()
        with refusals():
            try:
                importing = _Import(file, collection, batch_size, on_error, rejects, restart)
                definition = {"dimension": dimension, "model": model} if create else None
                progress, lines_sent = importing.run(service_url(url), definition)
            except OSError as error:
                raise CommandRefusedError(f"{error.filename or file}: {error.strerror or error}") from error
        _report(progress, lines_sent, time.monotonic() - started, as_json)
        if progress.skipped:
            raise typer.Exit(1)


class _Import:
    def __init__(
        self, file: Path, collection: str, batch_size: int, on_error: OnError, rejects: Path | None, restart: bool
    ) -> None:
        self._file = file
        self._collection = collection
        self._batch_size = batch_size
        self._skips = on_error is OnError.SKIP
        self._rejects = rejects
        self._restart = restart
        self._progress_file = ProgressFile(file, collection)
        self._remembers = True

    def run(self, url: str, definition: dict[str, Any] | None) -> tuple[ImportProgress, int]:
        """The progress at the end, and how many lines this run acknowledged. A collection that is missing is created as
        `definition` says, if it is given."""
        before = self._file.stat()
        if not stat.S_ISREG(before.st_mode):
            raise CommandRefusedError(f"{self._file} is not a regular file; an import reads it more than once.")
        digest = _digest(self._file)
        display = ImportDisplay(before.st_size)
        with Client(url) as client, Client(url, retries=PATIENCE, on_wait=display.waiting) as patient, display:
            target = _existing(client, self._collection)
            if target is None and definition is None:
                raise CommandRefusedError(f"There is no collection {self._collection!r}; --create makes it.")
            if target is not None and definition is not None:
                _check_as_wanted(target, definition)
            known = None if target is None or self._restart else self._progress_file.load(digest, target.collection_id)
            rules = LineRules(
                dimension=target.dimension if target else None,
                metric=target.metric if target else "cosine",
                vector_type=target.type if target else "vector",
                file_id=UUID(hex=digest[:32]),
            )
            if target is None and definition is not None:
                if definition["dimension"] is None:
                    definition["dimension"] = self._first_dimension(rules)
                rules = replace(rules, dimension=definition["dimension"])
            if not self._skips and not (known and known.is_checked):
                self._check(rules, display)
            given = {key: value for key, value in (definition or {}).items() if value is not None}
            target = target or client.create_collection(self._collection, **given)
            progress = known or ImportProgress.new(digest, target.collection_id)
            progress = replace(progress, is_checked=progress.is_checked or not self._skips)
            done = self._send(patient, progress, rules, display)
        after = self._file.stat()
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise CommandRefusedError(f"{self._file} was changed while it was imported; run the same command again.")
        self._progress_file.remove()
        return done, done.line - progress.line

    def _first_dimension(self, rules: LineRules) -> int | None:
        """Of the embedding of the first line that is good; None: it brings only content."""
        with self._file.open("rb") as data:
            for line in read_lines(data):
                read = read_operation(line, rules)
                if isinstance(read, Operation):
                    return read.dimension
        return None

    def _check(self, rules: LineRules, display: ImportDisplay) -> None:
        """Refuses the file if one of its lines is bad; nothing has been written then."""
        display.begin("checking")
        count = 0
        first: list[BadLine] = []
        with self._file.open("rb") as data:
            for line in display.passing(read_lines(data)):
                read = read_operation(line, rules)
                if isinstance(read, BadLine):
                    count += 1
                    if count <= SHOWN_BAD_LINES:
                        first.append(read)
        if count:
            shown = "\n".join(f"line {line.number}: {line.rule}" for line in first)
            lines = "1 line is bad" if count == 1 else f"{count:,} lines are bad"
            _refuse_lines(shown, count, f"{lines}, so nothing was written; --on-error skip writes the others.")

    def _send(
        self, client: Client, progress: ImportProgress, rules: LineRules, display: ImportDisplay
    ) -> ImportProgress:
        def acknowledged(reached: ImportProgress) -> None:
            self._remember(reached)
            display.advance(end=reached.end, line=reached.line)

        self._remember(progress)
        display.begin("importing", end=progress.end, line=progress.line)
        with (
            self._file.open("rb") as data,
            Rejects(self._rejects, self._file, size_bytes=progress.rejects_bytes) as rejects,
        ):
            sending = ImportRun(
                client, self._collection, progress, rejects, skips_bad_lines=self._skips, acknowledged=acknowledged
            )
            lines = read_lines(data, start=progress.end, number=progress.line)
            try:
                sending.send_all(batches(lines, rules, self._batch_size))
            except LinesRefusedError as error:
                shown = "\n".join(f"line {line.number}: {line.rule}" for line in error.lines[:SHOWN_BAD_LINES])
                _refuse_lines(shown, len(error.lines), f"The service refused them. {_reached(sending.progress)}")
            except ClientError as error:
                raise CommandRefusedError(f"{error}. {_reached(sending.progress)}") from error
            except KeyboardInterrupt:
                say(f"Interrupted. {_reached(sending.progress)}")
                raise typer.Exit(INTERRUPTED_EXIT_CODE) from None
        return sending.progress

    def _remember(self, progress: ImportProgress) -> None:
        if not self._remembers:
            return
        try:
            self._progress_file.save(progress)
        except OSError as error:
            # Without it an import that is interrupted begins at the first line again, which writes nothing twice.
            self._remembers = False
            say(f"The progress cannot be remembered in {self._progress_file.path}: {error.strerror}")


def _check_as_wanted(target: DescribedCollection, definition: Mapping[str, Any]) -> None:
    for key, value in definition.items():
        if value not in (None, getattr(target, key)):
            raise CommandRefusedError(f"The collection {target.name!r} has {key} {getattr(target, key)}, not {value}.")


def _refuse_lines(shown: str, count: int, sentence: str) -> NoReturn:
    for line in shown.splitlines():
        say(line)
    if count > SHOWN_BAD_LINES:
        say(f"… and {count - SHOWN_BAD_LINES:,} more")
    raise CommandRefusedError(sentence)


def _digest(file: Path) -> str:
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def _existing(client: Client, name: str) -> DescribedCollection | None:
    try:
        return client.collection(name)
    except ProblemError as problem:
        if problem.name == "collection-not-found":
            return None
        raise


def _reached(progress: ImportProgress) -> str:
    return f"All up to line {progress.line:,} is written; the same command goes on from there."


def _report(progress: ImportProgress, lines_sent: int, seconds: float, as_json: bool) -> None:
    if as_json:
        print_json(_summary(progress, lines_sent, seconds))
        return
    typer.echo(
        f"{progress.created:,} created, {progress.updated:,} updated, {progress.unchanged:,} unchanged, "
        f"{progress.skipped:,} skipped in {seconds:.1f} s ({lines_sent / max(seconds, 1e-9):,.0f} lines/s)"
    )
    if progress.consistency_token:
        typer.echo(f"consistency token: {progress.consistency_token}")
    if progress.truncated:
        say(f"{progress.truncated:,} contents are longer than the model sees; their embeddings are of the beginning.")
    for skipped in progress.first_skipped:
        say(f"line {skipped.line}: {skipped.rule}")
    if progress.skipped > len(progress.first_skipped):
        say(f"… and {progress.skipped - len(progress.first_skipped):,} more")


def _summary(progress: ImportProgress, lines_sent: int, seconds: float) -> dict[str, Any]:
    return {
        "created": progress.created,
        "updated": progress.updated,
        "unchanged": progress.unchanged,
        "skipped": progress.skipped,
        "truncated": progress.truncated,
        "first_skipped": [asdict(skipped) for skipped in progress.first_skipped],
        "seconds": round(seconds, 3),
        "lines_per_second": round(lines_sent / max(seconds, 1e-9), 1),
        "consistency_token": progress.consistency_token,
    }
