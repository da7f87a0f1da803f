"""`aindusdb import`: a file of vectors into a collection, resumable, without duplicates."""

from __future__ import annotations

import math
import stat
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn
from uuid import UUID

import typer

from aindusdb.client import Client, ClientError, DescribedCollection, RetryPolicy
from aindusdb.client.errors import CollectionNotFoundError
from aindusdb.commands.import_batches import batches
from aindusdb.commands.import_display import ImportDisplay
from aindusdb.commands.import_lines import BadLine, LineRules, Operation, read_operation
from aindusdb.commands.import_progress import SHOWN_BAD_LINES, ImportProgress, ProgressFile
from aindusdb.commands.import_rejects import Rejects
from aindusdb.commands.import_run import ImportRun, LinesRefusedError
from aindusdb.commands.import_sources import Format, Source, digest_of, format_of, open_source
from aindusdb.commands.output import (
    CommandRefusedError,
    JsonOption,
    UrlOption,
    print_json,
    refusals,
    say,
    service_url,
)

PATIENCE = RetryPolicy(patience_seconds=120.0, slowed_patience_seconds=math.inf)
"""An import that is slowed because the projection lags goes at its pace, however long that takes."""
INTERRUPTED_EXIT_CODE = 130


class OnError(StrEnum):
    STOP = "stop"
    SKIP = "skip"


def register(app: typer.Typer) -> None:
    @app.command("import")
    def import_file(
        file: Annotated[
            Path, typer.Argument(help="JSONL: {id?, embedding or content, metadata?} a line; Parquet, CSV or NumPy.")
        ],
        collection: Annotated[str, typer.Option(help="The collection to write to.")],
        kind: Annotated[
            Format | None, typer.Option("--format", help="What the file holds; by default its name says so.")
        ] = None,
        ids: Annotated[
            Path | None, typer.Option(help="The ids of a NumPy file's rows: one a line, or a .npy file.")
        ] = None,
        batch_size: Annotated[int, typer.Option(min=1, max=1000, help="Lines or rows in a request.")] = 200,
        in_flight: Annotated[int, typer.Option(min=1, max=16, help="Requests under way at once.")] = 2,
        on_error: Annotated[
            OnError, typer.Option(help="stop: write nothing if a line or row is bad. skip: write the others.")
        ] = OnError.STOP,
        create: Annotated[bool, typer.Option("--create", help="Create the collection if it is missing.")] = False,
        dimension: Annotated[
            int | None, typer.Option(min=1, help="Of a collection that is created; by default the first line's.")
        ] = None,
        model: Annotated[
            str | None, typer.Option(help="Of a collection that is created; for texts by default the service's.")
        ] = None,
        restart: Annotated[bool, typer.Option("--restart", help="Begin anew, whatever was done before.")] = False,
        rejects: Annotated[Path | None, typer.Option(help="Where what is skipped is written, as JSONL.")] = None,
        url: UrlOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Import a file of vectors. After an interruption the same command goes on where it stopped."""
        started = time.monotonic()
        with refusals():
            try:
                data = _File(file, ids, format_of(file, kind))
                importing = _Import(data, collection, batch_size, in_flight, on_error, rejects, restart)
                definition = {"dimension": dimension, "model": model} if create else None
                progress, lines_sent = importing.run(service_url(url), definition)
            except OSError as error:
                raise CommandRefusedError(f"{error.filename or file}: {error.strerror or error}") from error
        _report(progress, importing.noun, lines_sent, time.monotonic() - started, as_json)
        if progress.skipped:
            raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    ids: Path | None
    kind: Format

    def state(self) -> tuple[tuple[int, int], ...]:
        """What changes when somebody writes to it.

        Raises:
            CommandRefusedError: it cannot be read more than once.
        """
        found = []
        for path in filter(None, (self.path, self.ids)):
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise CommandRefusedError(f"{path} is not a regular file; an import reads it more than once.")
            found.append((status.st_size, status.st_mtime_ns))
        return tuple(found)


class _Import:
    def __init__(
        self,
        file: _File,
        collection: str,
        batch_size: int,
        in_flight: int,
        on_error: OnError,
        rejects: Path | None,
        restart: bool,
    ) -> None:
        self._file = file
        self._collection = collection
        self._batch_size = batch_size
        self._most_in_flight = in_flight
        self._skips = on_error is OnError.SKIP
        self._rejects = rejects
        self._restart = restart
        self._progress_file = ProgressFile(file.path, collection)
        self._remembers = True
        self._before = file.state()
        self._source: Source = open_source(file.path, file.kind, file.ids)
        self.noun = self._source.noun

    def run(self, url: str, definition: dict[str, Any] | None) -> tuple[ImportProgress, int]:
        """The progress at the end, and how many lines this run acknowledged. A collection that is missing is created as
        `definition` says, if it is given."""
        digest = digest_of(self._file.path, self._file.ids)
        display = ImportDisplay(self._source.total, self._source.measure, self.noun)
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
        if self._file.state() != self._before:
            raise CommandRefusedError(
                f"{self._file.path} was changed while it was imported; run the same command again."
            )
        self._progress_file.remove()
        return done, done.line - progress.line

    def _first_dimension(self, rules: LineRules) -> int | None:
        """Of the embedding of the first line that is good; None: it brings only content."""
        for line in self._source.lines():
            read = read_operation(line, rules)
            if isinstance(read, Operation):
                return read.dimension
        return None

    def _check(self, rules: LineRules, display: ImportDisplay) -> None:
        """Refuses the file if one of its lines is bad; nothing has been written then."""
        display.begin("checking")
        count = 0
        first: list[BadLine] = []
        for line in display.passing(self._source.lines()):
            read = read_operation(line, rules)
            if isinstance(read, BadLine):
                count += 1
                if count <= SHOWN_BAD_LINES:
                    first.append(read)
        if count:
            lines = f"1 {self.noun} is bad" if count == 1 else f"{count:,} {self.noun}s are bad"
            self._refuse(first, count, f"{lines}, so nothing was written; --on-error skip writes the others.")

    def _send(
        self, client: Client, progress: ImportProgress, rules: LineRules, display: ImportDisplay
    ) -> ImportProgress:
        def acknowledged(reached: ImportProgress) -> None:
            self._remember(reached)
            display.advance(end=reached.end, line=reached.line)

        self._remember(progress)
        display.begin("importing", end=progress.end, line=progress.line)
        with Rejects(self._rejects, self._file.path, size_bytes=progress.rejects_bytes) as rejects:
            sending = ImportRun(
                client,
                self._collection,
                progress,
                rejects,
                skips_bad_lines=self._skips,
                in_flight=self._most_in_flight,
                acknowledged=acknowledged,
            )
            lines = self._source.lines(start=progress.end, number=progress.line)
            try:
                sending.send_all(batches(lines, rules, self._batch_size))
            except LinesRefusedError as error:
                self._refuse(error.lines, len(error.lines), f"The service refused them. {self._reached(sending)}")
            except ClientError as error:
                raise CommandRefusedError(f"{error}. {self._reached(sending)}") from error
            except KeyboardInterrupt:
                say(f"Interrupted. {self._reached(sending)}")
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

    def _refuse(self, bad_lines: list[BadLine], count: int, sentence: str) -> NoReturn:
        for line in bad_lines[:SHOWN_BAD_LINES]:
            say(f"{self.noun} {line.number}: {line.rule}")
        if count > SHOWN_BAD_LINES:
            say(f"… and {count - SHOWN_BAD_LINES:,} more")
        raise CommandRefusedError(sentence)

    def _reached(self, sending: ImportRun) -> str:
        return f"All up to {self.noun} {sending.progress.line:,} is written; the same command goes on from there."


def _check_as_wanted(target: DescribedCollection, definition: Mapping[str, Any]) -> None:
    for key, value in definition.items():
        if value not in (None, getattr(target, key)):
            raise CommandRefusedError(f"The collection {target.name!r} has {key} {getattr(target, key)}, not {value}.")


def _existing(client: Client, name: str) -> DescribedCollection | None:
    try:
        return client.collection(name)
    except CollectionNotFoundError:
        return None


def _report(progress: ImportProgress, noun: str, lines_sent: int, seconds: float, as_json: bool) -> None:
    if as_json:
        print_json(_summary(progress, lines_sent, seconds))
        return
    typer.echo(
        f"{progress.created:,} created, {progress.updated:,} updated, {progress.unchanged:,} unchanged, "
        f"{progress.skipped:,} skipped in {seconds:.1f} s ({lines_sent / max(seconds, 1e-9):,.0f} {noun}s/s)"
    )
    if progress.consistency_token:
        typer.echo(f"consistency token: {progress.consistency_token}")
    if progress.truncated:
        say(f"{progress.truncated:,} contents are longer than the model sees; their embeddings are of the beginning.")
    for skipped in progress.first_skipped:
        say(f"{noun} {skipped.line}: {skipped.rule}")
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
